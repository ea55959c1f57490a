"""Conversations for reading: as Markdown in a file, and as HTML on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nbllm.core.conversations.saved_conversation import Conversation, Turn
from nbllm.core.rendering.escaping import text_html
from nbllm.core.rendering.markdown_html import answer_html
from nbllm.core.rendering.portable_markdown import escaped_markdown, portable_markdown
from nbllm.core.types import (
    ContentPart,
    FinishReason,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    VendorPart,
)

__all__ = ["to_html", "to_markdown"]

_ENDS = {
    None: "no answer",
    FinishReason.CANCELLED: "stopped",
    FinishReason.FAILED: "failed",
    FinishReason.LENGTH: "cut off at the token limit",
}
_FOLDED = (
    '<details><summary style="cursor: pointer; color: var(--jp-ui-font-color2, GrayText)">'
    "{words}</summary>{inside}</details>"
)


@dataclass(frozen=True, slots=True)
class _Heading:
    """A line of nbllm's own above what follows; ``level`` 1 is the conversation's name."""

    words: str
    level: int


@dataclass(frozen=True, slots=True)
class _Label:
    """Who or what speaks below, and what is to be told of it."""

    words: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class _Note:
    """What stands for a part that is no text."""

    words: str


@dataclass(frozen=True, slots=True)
class _Sent:
    """A question as it was sent, below the one that was typed."""

    message: Message

    @property
    def words(self) -> str:
        """What it is, and how long."""
        return f"as it was sent, with {len(self.message.text):,} characters"


_Piece = _Heading | _Label | _Note | _Sent | TextPart


def to_markdown(conversation: Conversation) -> str:
    """The conversation as a Markdown file in which nothing is live, whatever reads it."""
    return "\n\n".join(filter(None, map(_markdown, _pieces(conversation)))) + "\n"


def to_html(conversation: Conversation) -> str:
    """The conversation as HTML for a notebook."""
    return "\n".join(filter(None, map(_html, _pieces(conversation))))


def _markdown(piece: _Piece) -> str:
    match piece:
        case _Heading(words, level):
            return f"{'#' * level} {escaped_markdown(words)}"
        case _Label(words, details):
            return f"**{words}**{f' ({escaped_markdown(details)})' if details else ''}"
        case _Note(words):
            return f"*\\[{escaped_markdown(words)}\\]*"
        case _Sent():
            return f"*\\[{escaped_markdown(piece.words)}\\]*"
        case TextPart(text):
            return portable_markdown(text)


def _html(piece: _Piece) -> str:
    match piece:
        case _Heading(words, level):
            return f"<h{level + 2}>{text_html(words)}</h{level + 2}>"
        case _Label(words, details):
            told = f" ({text_html(details)})" if details else ""
            return f"<p><strong>{text_html(words)}</strong>{told}</p>"
        case _Note(words):
            return f"<p><em>[{text_html(words)}]</em></p>"
        case _Sent(message):
            inside = "".join(filter(None, map(_html, _message(message))))
            return _FOLDED.format(words=text_html(piece.words), inside=inside)
        case TextPart(text):
            return answer_html(text)


def _pieces(conversation: Conversation) -> Iterator[_Piece]:
    yield _Heading(conversation.name, 1)
    if conversation.system:
        yield _Label("System")
        yield TextPart(conversation.system)
    if conversation.summary:
        yield _Label("Summary of the oldest turns")
        yield TextPart(conversation.summary.text)
    for number, turn in enumerate(conversation.turns, 1):
        yield _Heading(f"{number}. You", 2)
        yield from _turn(turn)


def _turn(turn: Turn) -> Iterator[_Piece]:
    if turn.typed:
        yield TextPart(turn.typed)
        yield _Sent(turn.question)
    else:
        yield from _message(turn.question)
    notes = [turn.model, _ENDS.get(turn.finish_reason, "")]
    if turn.is_stale:
        notes.append("answered before an earlier turn was changed")
    yield _Label("Answer", ", ".join(filter(None, notes)))
    if turn.answer:
        yield from _message(turn.answer)


def _message(message: Message) -> Iterator[_Piece]:
    return filter(None, map(_part, message.parts))


def _part(part: ContentPart) -> _Piece | None:
    match part:
        case TextPart():
            return part
        case ImagePart(media_type, data, url):
            size = f"{media_type}, {len(data or b''):,} bytes"
            return _Note(f"image: {url or size}")
        case ReasoningPart():
            return None
        case ToolCall(name=name, arguments=arguments):
            return _Note(f"calls {name}({arguments})")
        case ToolResult(name=name, content=content):
            return _Note(f"{name} answered: {content}")
        case VendorPart(vendor=vendor):
            return _Note(f"content that only {vendor} can read")
