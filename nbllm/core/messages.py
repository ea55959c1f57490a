"""What goes into a conversation and comes out of it: turns, and the parts of which they consist."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.paths import absolute_path, read_file, reason
from nbllm.core.texts import capped, shown, well_formed

__all__ = [
    "INLINE",
    "LONGEST_BEGINNING",
    "ContentPart",
    "ImagePart",
    "Message",
    "PromptLike",
    "ReasoningPart",
    "Role",
    "TextPart",
    "ToolCall",
    "ToolResult",
    "VendorPart",
    "beginning_of",
    "image",
]

Role = Literal["system", "user", "assistant", "tool"]

INLINE = "inline"
"""The ``vendor`` of reasoning that stood between marks in the text: it is sent to nobody."""


def _check_texts(part: Any, *names: str) -> None:
    """Have these fields of a part hold text that can be encoded; those with None may stay so.

    Halves of surrogate pairs become U+FFFD. Raises ``InvalidOptionError`` for other types.
    """
    optional = part.__dataclass_fields__
    for name in names:
        value = getattr(part, name)
        if isinstance(value, str):
            object.__setattr__(part, name, well_formed(value))
        elif value is not None or optional[name].default is not None:
            kind = type(part).__name__
            raise InvalidOptionError(name, f"must be a string in a {kind} (got {shown(value)})")


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text in a message."""

    text: str

    def __post_init__(self) -> None:
        _check_texts(self, "text")


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image in a message: its bytes with their media type, or an address."""

    media_type: str = "image/png"
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None

    def __post_init__(self) -> None:
        _check_texts(self, "media_type", "url")
        if not isinstance(self.data, bytes | None):
            raise InvalidOptionError("data", f"must be bytes (got {shown(self.data)})")


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """A model's reasoning, kept so that a later turn can send it back.

    ``signature`` is the vendor's opaque proof of origin; some vendors refuse reasoning without it.
    ``vendor`` is whose it is: it is sent to no other. None leaves that to who made the part.
    """

    text: str
    signature: str | None = field(default=None, repr=False)
    vendor: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_texts(self, "text", "signature")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called; ``arguments`` is JSON text as the model wrote it.

    ``signature`` is the vendor's opaque proof of the reasoning behind it, where it gives one, and
    ``vendor`` is whose it is, as in ``ReasoningPart``.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = field(default=None, repr=False)
    vendor: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_texts(self, "id", "name", "arguments", "signature")

    def parsed_arguments(self) -> Any:
        """The arguments as Python values; raises ``json.JSONDecodeError`` on broken JSON."""
        return json.loads(self.arguments or "{}")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a called tool answered."""

    call_id: str
    name: str
    content: str
    is_error: bool = False

    def __post_init__(self) -> None:
        _check_texts(self, "call_id", "name", "content")


@dataclass(frozen=True, slots=True)
class VendorPart:
    """What only one vendor understands, such as a tool that ran there, as the JSON it wrote.

    Kept so that a later turn can send it back to ``vendor``; all others leave it out.
    """

    vendor: str
    content: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_texts(self, "vendor", "content")


ContentPart: TypeAlias = TextPart | ImagePart | ReasoningPart | ToolCall | ToolResult | VendorPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``content`` is text, or a sequence of parts.

    Text that cannot be encoded is mended: a lone surrogate becomes U+FFFD. Raises
    ``InvalidOptionError`` for an unknown role and for content that is neither.

    >>> Message("user", (TextPart("Which "), TextPart("river?"))).text
    'Which river?'
    """

    role: Role
    content: str | tuple[ContentPart, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.role, str) or self.role not in get_args(Role):
            raise InvalidOptionError(
                "role", f"must be one of {', '.join(get_args(Role))} (got {shown(self.role)})"
            )
        object.__setattr__(self, "content", _checked_content(self.content))

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        """The content as parts, whichever way it was given."""
        return (TextPart(self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


def _checked_content(content: object) -> str | tuple[ContentPart, ...]:
    if isinstance(content, str):
        return well_formed(content)
    if not isinstance(content, list | tuple):
        raise InvalidOptionError("content", f"must be a string or parts (got {shown(content)})")
    for part in content:
        if not isinstance(part, get_args(ContentPart)):
            raise InvalidOptionError("content", f"must hold message parts only (got {shown(part)})")
    return tuple(content)


PromptLike: TypeAlias = str | Message | Sequence[Message | Mapping[str, Any]]
"""What a model accepts as a prompt: a text, a message, or a conversation."""


LONGEST_BEGINNING = 200
"""In characters."""
_MOST_PARTS = 20
_MOST_BLANK, _HEAD = 4_000, 2 * LONGEST_BEGINNING
_JOINERS = "\u200c\u200d"
"""Without them Persian words and emoji fall apart."""


def beginning_of(messages: Sequence[Message]) -> str:
    """The first words of the newest message of the user, else of the last message, in one line.

    Characters that cannot be seen, or that turn the direction of writing, are left out. An image
    stands there as a word. The time does not depend on the length of the prompt.
    """
    asked = [message for message in messages if message.role == "user"] or messages
    parts = asked[-1].parts if asked else ()
    heads = " ".join(map(_head_of, parts[:_MOST_PARTS]))
    seen = "".join(filter(_can_be_seen, heads))
    line = " ".join(seen.split())
    is_cut = len(line) > LONGEST_BEGINNING
    return f"{line[: LONGEST_BEGINNING - 1].rstrip()}…" if is_cut else line


def _can_be_seen(character: str) -> bool:
    return character.isprintable() or character.isspace() or character in _JOINERS


def _head_of(part: ContentPart) -> str:
    """A little more of a part than is kept of all, as blank space is left out of it."""
    if isinstance(part, TextPart):
        return part.text[:_MOST_BLANK].lstrip()[:_HEAD]
    return "(image)" if isinstance(part, ImagePart) else ""


_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_MOST_BYTES = 64 * 2**20
"""More than any vendor takes of an image."""
_ADDRESSES = ("http://", "https://", "data:")


def image(source: Any) -> ImagePart:
    """An image for a message, from a path, bytes, an address, a matplotlib figure or a PIL image.

    Files and bytes may be PNG, JPEG, GIF or WebP, told by their first bytes; figures and PIL
    images are sent as PNG. Raises ``InvalidOptionError`` for anything else.
    """
    if isinstance(source, ImagePart):
        return source
    if isinstance(source, str) and source.startswith(_ADDRESSES):
        return ImagePart(url=source)
    if isinstance(source, str | Path):
        return _from_bytes(_read(source), shown(str(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), f"the data ({len(source):,} bytes)")
    if hasattr(source, "savefig"):
        return _drawn(lambda file: source.savefig(file, format="png", bbox_inches="tight"))
    if hasattr(source, "save") and hasattr(source, "getbands"):
        return _drawn(lambda file: source.save(file, format="PNG"))
    raise InvalidOptionError(
        "image",
        f"{type(source).__name__:.80} is not an image; give a path, bytes, an address, a "
        "matplotlib figure or a PIL image",
    )


def _drawn(draw: Any) -> ImagePart:
    file = io.BytesIO()
    draw(file)
    return ImagePart("image/png", file.getvalue())


def _read(source: str | Path) -> bytes:
    try:
        return read_file(absolute_path(source), _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise InvalidOptionError("image", f"{capped(str(source))}: {reason(error)}") from None


def _from_bytes(data: bytes, what: str) -> ImagePart:
    for signature, media_type in _SIGNATURES.items():
        if data.startswith(signature):
            return ImagePart(media_type, data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ImagePart("image/webp", data)
    raise InvalidOptionError("image", f"{what} is not a PNG, JPEG, GIF or WebP image")
