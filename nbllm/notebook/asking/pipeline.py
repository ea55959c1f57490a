"""``%%llm`` from the typed text to the kept result, in steps that other modules add to.

::

    flags -> Question -> prepare -> the model is loaded -> fit -> asked and shown -> deliver

What is added is a ``Step`` in the list below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from nbllm.core.errors import InvalidOptionError
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.texts import trimmed
from nbllm.core.types import (
    ContentPart,
    FinishReason,
    GenerationOptions,
    GenerationResult,
    Message,
    TextPart,
)
from nbllm.notebook.asking.question import AskFlags, Question, Step
from nbllm.notebook.chat.chat_step import ChatStep
from nbllm.notebook.forms.form_step import FormStep
from nbllm.notebook.prompts.prompt_variables import PromptVariables

if TYPE_CHECKING:
    from nbllm.notebook.session import NotebookSession

__all__ = [
    "STEPS",
    "LastAnswer",
    "Prepared",
    "continued",
    "joined",
    "prepare",
    "question_from",
    "sent_messages",
]

_HOSTED_FACTOR = 4
"""For models behind an API: they find the end, and what they reason counts as written."""

_GO_ON = "Continue exactly where your answer stopped. Repeat nothing of it."
_COMPLETE = (FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.REFUSAL)


# ---------------------------------------------------------------- steps of no other room


class PromptEnds(Step):
    """The ends of a prompt: one question is one request, however it was typed.

    IPython ends the text of a cell with a newline, and an editor leaves blank lines about it. A
    small model answers a question with a newline behind it in another way, or in another language.
    """

    def prepare(self, question: Question) -> Question:
        """Take the blank ends away; with ``--raw`` no more than the newline that a cell ends in."""
        trim = _without_newline if question.flags.raw else trimmed
        *earlier, message = question.messages
        if isinstance(message.content, str):
            content: str | tuple[ContentPart, ...] = trim(message.content)
        else:
            content = _trimmed_parts(message.content)
        return replace(question, messages=(*earlier, Message(message.role, content)))


class Remedies(Step):
    """What to do about an answer that was cut off or stopped, in the status line."""

    _limit: int | None = None

    async def fit(self, question: Question, model: ModelInterface) -> Question:
        """Look up how much the model's context holds."""
        self._limit = model.info.context_length
        return question

    def remark(self, question: Question, result: GenerationResult) -> str:
        """The way to go on, or to another answer."""
        magic, limit = self.session.magic_name("llm"), self._limit
        match result.finish_reason:
            case FinishReason.LENGTH if limit and (result.usage.total_tokens or 0) >= limit:
                return f"the context of {limit:,} tokens is full"
            case FinishReason.LENGTH if question.can_continue:
                return f"%{magic} --continue goes on"
            case FinishReason.REPETITION:
                return f"another --seed or %%{magic} --repeat-penalty 1.1 may avoid it"
        return ""


class CellLimit(Step):
    """How long the answer of a cell may become where nobody says it.

    A small model may not find the end of its answer, and a cell that never ends holds up the
    notebook. Python's own calls have no such limit.
    """

    _limit: int | None = None
    _is_of_budget = False

    async def fit(self, question: Question, model: ModelInterface) -> Question:
        """Bound it, unless flags, settings or the model's config do, or reasoning is wanted."""
        self._limit, self._is_of_budget = None, False
        options = model.info.options.merged(question.options)
        factor = 1 if kind_of(model.info).takes_memory else _HOSTED_FACTOR
        limit = self.session.settings.cell_limit * factor
        reasons = options.reasoning_effort not in (None, "none")
        if not limit or options.max_tokens is not None or reasons:
            return question
        self._limit = min(limit, await self._room(question, model) or limit)
        self._is_of_budget = self._limit < limit
        return replace(question, options=question.options.replaced(max_tokens=self._limit))

    async def _room(self, question: Question, model: ModelInterface) -> int | None:
        """What budgets leave for the answer: nobody asked for the limit of cells."""
        return await model.answer_room(
            model.request(question.messages, options=question.options, schema=question.schema)
        )

    def remark(self, question: Question, result: GenerationResult) -> str:
        """Which limit cut the answer off, and how to set another."""
        was_cut = result.finish_reason is FinishReason.LENGTH
        tokens, limit = result.usage.completion_tokens or 0, self._limit
        if limit is None or not was_cut or tokens < limit:
            return ""
        if self._is_of_budget:
            budget = self.session.magic_name("llm_budget")
            return f"the budget had {limit:,} tokens left for it: %{budget} shows and raises it"
        more, all_cells = self.session.magic_name("llm"), self.session.magic_name("llm_config")
        return (
            f"cells are limited to {limit:,} tokens: %%{more} --max-tokens N sets another limit, "
            f"%{all_cells} cell_limit=N for all cells (0: none)"
        )


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


# ---------------------------------------------------------------- the way of a question

STEPS: tuple[type[Step], ...] = (
    PromptVariables,
    PromptEnds,
    FormStep,
    ChatStep,
    Remedies,
    CellLimit,
)
"""In the order in which they prepare and fit a question; answers are delivered the other way."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question that is ready to be asked, with the steps that have prepared it."""

    question: Question
    steps: tuple[Step, ...] = ()


class LastAnswer:
    """The last answer of a session, with its question as it was sent; None before the first."""

    def __init__(self) -> None:
        self.prepared: Prepared | None = None
        self.result: GenerationResult | None = None

    def keep(self, prepared: Prepared, result: GenerationResult) -> None:
        """Remember this one in place of the one before."""
        self.prepared, self.result = prepared, result


def question_from(session: NotebookSession, text: str, flags: AskFlags) -> Question:
    """The question that flags and settings make of a text. Raises ``InvalidOptionError``."""
    settings, options = session.settings, flags.options
    if flags.completion:
        text, options = _continued(text, flags), options.replaced(raw=True)
    system = flags.system if flags.system is not None else settings.system or None
    before = () if system is None or flags.completion else (Message("system", system),)
    return Question(
        text=text,
        flags=flags,
        model=flags.name or flags.model or settings.model or None,
        messages=(*before, Message("user", text)),
        options=GenerationOptions.of(settings.options).merged(options),
    )


def _continued(text: str, flags: AskFlags) -> str:
    """The text to go on from: without the line break that every cell ends with."""
    given = {"system": flags.system, "chat": flags.chat, "as": flags.form, "schema": flags.schema}
    for flag in (name for name, value in given.items() if value is not None):
        raise InvalidOptionError(
            "completion", f"it continues a text and cannot be combined with --{flag}"
        )
    return text.removesuffix("\n")


def prepare(session: NotebookSession, question: Question, form: FormStep | None = None) -> Prepared:
    """The question after all that can be done to it in the cell, by the steps that it concerns.

    ``form`` is a form that the magic itself asks for, in the place of that of the flags.
    """
    steps = tuple(
        form if form is not None and kind is FormStep else kind(session)
        for kind in STEPS
        if (form is not None and kind is FormStep) or question.flags.call_for(kind)
    )
    for step in steps:
        question = step.prepare(question)
    return Prepared(question, steps)


# ---------------------------------------------------------------- --continue


def continued(session: NotebookSession, flags: AskFlags) -> Prepared:
    """The last question once more, with its answer so far as the beginning of the new one.

    Where it belongs to a conversation its turn gets the longer answer. Raises ``UsageError`` and
    ``InvalidOptionError`` where there is nothing to continue.
    """
    last = session.part(LastAnswer)
    prepared, result = last.prepared, last.result
    if prepared is None or result is None or not result.text:
        raise UsageError("--continue: no model has answered yet in this notebook")
    if result.finish_reason in _COMPLETE:
        raise UsageError(
            f"--continue: the last answer is complete (finish reason: "
            f"{result.finish_reason}). To ask more about it, use --chat NAME"
        )
    _refuse_others(prepared.question, flags)
    question = replace(
        prepared.question,
        flags=flags,
        model=result.model,
        options=prepared.question.options.replaced(max_tokens=None).merged(flags.options),
        begun=result.text,
    )
    return Prepared(question, prepared.steps)


def _refuse_others(question: Question, flags: AskFlags) -> None:
    given = {
        "--as": flags.form,
        "--schema": flags.schema,
        "--chat": flags.chat,
        "--system": flags.system,
        "--completion": flags.completion or None,
        "--show-prompt": flags.show_prompt or None,
        "a model": flags.name or flags.model,
    }
    for what in (name for name, value in given.items() if value is not None):
        raise InvalidOptionError("continue", f"it keeps the settings of the answer; omit {what}")
    if not question.can_continue:
        raise InvalidOptionError(
            "continue",
            "an answer with --as, --schema or --models cannot be continued; run its cell again "
            "with a larger --max-tokens",
        )


def sent_messages(question: Question, model: ModelInterface) -> tuple[Message, ...]:
    """What is sent: the question's messages, and the beginning of an answer that goes on.

    A local model goes on with its own turn. Vendors differ in whether they do, and are asked to.
    """
    *earlier, last = question.messages
    if not question.begun:
        return question.messages
    if question.options.raw:
        return (*earlier, Message(last.role, last.text + question.begun))
    begun = (*question.messages, Message("assistant", question.begun))
    return begun if kind_of(model.info).resumes_answers else (*begun, Message("user", _GO_ON))


def joined(question: Question, result: GenerationResult) -> GenerationResult:
    """The result with the whole text of an answer that was continued."""
    if not question.begun:
        return result
    return replace(result, text=question.begun + result.text, parts=())
