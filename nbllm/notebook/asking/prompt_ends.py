"""The ends of a prompt: one question is one request, however it was typed.

IPython ends the text of a cell with a newline, and an editor leaves blank lines about it. A small
model answers a question with a newline behind it in another way, or in another language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from nbllm.core.texts import trimmed
from nbllm.core.types import ContentPart, Message, TextPart

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["trim_prompt"]


def trim_prompt(session: NotebookSession, question: Question) -> Question:
    """Take the blank ends away; with ``--raw`` no more than the newline that a cell ends with."""
    trim = _without_newline if question.args.raw else trimmed
    *earlier, message = question.messages
    if isinstance(message.content, str):
        content: str | tuple[ContentPart, ...] = trim(message.content)
    else:
        content = _trimmed_parts(message.content)
    return replace(question, messages=(*earlier, Message(message.role, content)))


def _without_newline(text: str) -> str:
    return text.removesuffix("\n")


def _trimmed_parts(parts: tuple[ContentPart, ...]) -> tuple[ContentPart, ...]:
    """Texts and images; a text of blanks at either end goes."""
    ends = list(parts)
    ends[0] = _with_text(ends[0], str.lstrip)
    ends[-1] = _with_text(ends[-1], str.rstrip)
    return tuple(part for part in ends if part != TextPart(""))


def _with_text(part: ContentPart, trim: Callable[[str], str]) -> ContentPart:
    return TextPart(trim(part.text)) if isinstance(part, TextPart) else part
