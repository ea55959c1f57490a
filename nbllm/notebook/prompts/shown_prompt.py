"""``--show-prompt``: what would be sent, without sending it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbllm.core.errors import ModelNotFoundError, NbllmError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.rendering.escaping import preformatted, text_html
from nbllm.core.types import ImagePart, Message, ModelInfo, TokenCount
from nbllm.core.words import counted
from nbllm.notebook.prompts.interpolation import Left, Replaced
from nbllm.notebook.views.bundles import note_html

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Prepared
    from nbllm.notebook.session import NotebookSession

__all__ = ["ShownPrompt", "shown_prompt"]

_INDENTED = "margin: 0.2em 0 0.8em 1.2em"
_ROLE = "color: var(--jp-ui-font-color2, GrayText); font-weight: bold"


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """The messages that would be sent, what was put into them, and how long they are.

    ``tokens`` is None where the model that would be asked is not loaded.
    """

    messages: tuple[Message, ...]
    model: str | None
    tokens: TokenCount | None
    context_length: int | None = None
    replaced: tuple[Replaced, ...] = ()
    left: tuple[Left, ...] = ()

    @property
    def notes(self) -> list[str]:
        """The lines below the messages."""
        return [
            *(f"{each.source} became {_size(each)}" for each in self.replaced),
            *(f"{each.source} stays as typed: {each.reason}" for each in self.left),
            self._count(),
        ]

    def _count(self) -> str:
        characters = sum(len(message.text) for message in self.messages)
        if self.tokens is None:
            return (
                f"Not sent. {characters:,} characters; tokens are counted once the model is loaded"
            )
        of = f" of {self.context_length:,}" if self.context_length else ""
        return f"Not sent. {characters:,} characters, {self.tokens}{of} tokens, for {self.model}"

    def __repr__(self) -> str:
        shown = [f"{message.role}:\n{_content(message)}" for message in self.messages]
        return "\n\n".join([*shown, "\n".join(self.notes)])

    def _repr_html_(self) -> str:
        # Text is escaped and set in <pre>, where no front end reads Markdown or formulas.
        shown = (
            f'<div style="{_ROLE}">{text_html(message.role)}</div>'
            f'<div style="{_INDENTED}">{preformatted(_content(message))}</div>'
            for message in self.messages
        )
        return "".join([*shown, *map(note_html, self.notes)])


def shown_prompt(session: NotebookSession, prepared: Prepared) -> ShownPrompt:
    """The prompt of a question, as it would be sent. Loads nothing."""
    question = prepared.question
    try:
        model = session.manager.get_model(question.model)
    except ModelNotFoundError:
        model = None
    info = model.info if model is not None else _info_of(session, question.model)
    for step in prepared.steps:
        question = step.preview(question, info)
    messages, raw = question.messages, bool(question.options.raw)
    return ShownPrompt(
        messages,
        question.model if model is None else model.name,
        None if model is None else _count(session, model, messages, raw=raw),
        None if model is None else model.info.context_length,
        replaced=question.replaced,
        left=question.left,
    )


def _info_of(session: NotebookSession, name: str | None) -> ModelInfo | None:
    """The model that would be loaded; None where there is none of this name."""
    try:
        return session.manager.bundled_model() if name is None else session.manager.find_model(name)
    except NbllmError:
        return None


def _count(
    session: NotebookSession, model: ModelInterface, messages: tuple[Message, ...], *, raw: bool
) -> TokenCount | None:
    try:
        if raw:
            return session.loop.run(model.count_tokens(messages[0].text, raw=True))
        return session.loop.run(model.count_tokens(messages))
    except NbllmError:  # a vendor that cannot be reached, or images that cannot be counted
        return None


def _content(message: Message) -> str:
    return "".join(
        f"[image: {part.url or f'{part.media_type}, {len(part.data or bytes()):,} bytes'}]"
        if isinstance(part, ImagePart)
        else getattr(part, "text", str(part))
        for part in message.parts
    )


def _size(replaced: Replaced) -> str:
    if replaced.bytes is not None:
        return f"an image of {replaced.bytes:,} bytes"
    size = counted(replaced.characters, "character")
    return f"{size}; {replaced.left_out}" if replaced.left_out else size
