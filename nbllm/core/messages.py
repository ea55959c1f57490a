"""What goes into a conversation and comes out of it: turns, and the parts of which they consist."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from nbllm.core.errors import InvalidOptionError

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


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image in a message: its bytes with their media type, or an address."""

    media_type: str = "image/png"
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """A model's reasoning, kept so that a later turn can send it back.

    ``signature`` is the vendor's opaque proof of origin; some vendors refuse reasoning without it.
    ``vendor`` is whose it is: it is sent to no other. None leaves that to who made the part.
    """

    text: str
    signature: str | None = field(default=None, repr=False)
    vendor: str | None = field(default=None, repr=False, compare=False)


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


@dataclass(frozen=True, slots=True)
class VendorPart:
    """What only one vendor understands, such as a tool that ran there, as the JSON it wrote.

    Kept so that a later turn can send it back to ``vendor``; all others leave it out.
    """

    vendor: str
    content: str = field(repr=False)


ContentPart: TypeAlias = TextPart | ImagePart | ReasoningPart | ToolCall | ToolResult | VendorPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``content`` is text, or a sequence of parts."""

    role: Role
    content: str | tuple[ContentPart, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidOptionError(
                "role", f"{self.role!r} is none of {', '.join(get_args(Role))}"
            )

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        """The content as parts, whichever way it was given."""
        return (TextPart(self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


PromptLike: TypeAlias = str | Message | Sequence[Message | Mapping[str, Any]]
"""What a model accepts as a prompt: a text, a message, or a conversation."""
