"""``%llm --continue``: the last answer goes on where it ended, as one text."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import FinishReason, GenerationOptions, GenerationResult, Message
from nbllm.notebook.asking.flags import OPTIONS

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["Asked", "continued", "joined", "sent_messages"]

_GO_ON = "Continue exactly where your answer stopped. Repeat nothing of it."
_COMPLETE = (FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.REFUSAL)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of this kernel, as it was made ready, and what was answered."""

    question: Question
    result: GenerationResult


def continued(session: NotebookSession, args: Namespace) -> Question:
    """The last question once more, with its answer so far as the beginning of the new one.

    Where it belongs to a conversation its turn gets the longer answer. Raises ``UsageError`` and
    ``InvalidOptionError`` where there is nothing to continue.
    """
    asked = session.asked
    if asked is None or not asked.result.text:
        raise UsageError("--continue: no model has answered yet in this notebook")
    if asked.result.finish_reason in _COMPLETE:
        raise UsageError(
            f"--continue: the last answer is complete (finish reason: "
            f"{asked.result.finish_reason}). To ask more about it, use --chat NAME"
        )
    _refuse_others(asked.question, args)
    return replace(
        asked.question,
        args=args,
        model=asked.result.model,
        options=replace(asked.question.options, max_tokens=None).merged(_options(args)),
        remarks=(),
        begun=asked.result.text,
    )


def _options(args: Namespace) -> GenerationOptions:
    return GenerationOptions(**{name: getattr(args, name) for name in OPTIONS})


def _refuse_others(question: Question, args: Namespace) -> None:
    given = {
        "--as": args.form,
        "--schema": args.schema,
        "--chat": args.chat,
        "--system": args.system,
        "--completion": args.completion or None,
        "--show-prompt": args.show_prompt or None,
        "a model": args.name or args.model,
    }
    for what in (name for name, value in given.items() if value is not None):
        raise InvalidOptionError("continue", f"the answer goes on as it began; omit {what}")
    if question.formed is not None:
        raise InvalidOptionError(
            "continue",
            "an answer with --as or --schema cannot be continued; run its cell again with a "
            "larger --max-tokens",
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
    return begun if model.info.local else (*begun, Message("user", _GO_ON))


def joined(question: Question, result: GenerationResult) -> GenerationResult:
    """The result with the whole text of an answer that was continued."""
    if not question.begun:
        return result
    return replace(result, text=question.begun + result.text, parts=())
