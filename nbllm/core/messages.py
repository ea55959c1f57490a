"""What goes into a conversation and comes out of it: turns, and the parts of which they consist."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.texts import shown, well_formed

__all__ = [
    "INLINE",
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
