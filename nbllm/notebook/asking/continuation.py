"""``%llm --continue``: the last answer goes on where it ended, as one text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from nbllm.core.errors import InvalidOptionError
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import FinishReason, GenerationResult, Message
from nbllm.notebook.asking.pipeline import LastAnswer, Prepared
from nbllm.notebook.asking.question import AskFlags, Question

if TYPE_CHECKING:
    from nbllm.notebook.session import NotebookSession

__all__ = ["continued", "joined", "sent_messages"]

_GO_ON = "Continue exactly where your answer stopped. Repeat nothing of it."
_COMPLETE = (FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.REFUSAL)


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
