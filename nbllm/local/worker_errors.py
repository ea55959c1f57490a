"""The errors of requests to a worker: what it refuses, and what its end means for them."""

from __future__ import annotations

from nbllm.core.errors import (
    ContextLengthError,
    EngineBusyError,
    EngineCrashedError,
    EngineError,
    EngineStalledError,
    InvalidOptionError,
    ModelClosedError,
    NbllmError,
)
from nbllm.local.ipc.channel import Exited
from nbllm.local.ipc.events import (
    ContextExceeded,
    OptionRefused,
    QueueFull,
    RequestFailure,
    TextExceeded,
)
from nbllm.local.ipc.protocol import Failed, assert_never
from nbllm.local.ipc.worker_process import describe_exit

__all__ = ["exit_error", "fork_error", "request_error"]


def request_error(model: str, failure: RequestFailure, partial_text: str) -> NbllmError:
    """The error of a request that failed alone."""
    match failure:
        case ContextExceeded(_, prompt, limit):
            problem = (
                f"the prompt has {_count(prompt)} tokens, but the context length is {limit:,} "
                "(prompt and answer). Shorten the prompt, or load the model with a longer context."
            )
            return ContextLengthError(model, problem, prompt_tokens=prompt, context_length=limit)
        case TextExceeded(_, number, tokens, limit):
            problem = (
                f"text {number} has {_count(tokens)} tokens, but the model accepts at most "
                f"{limit:,}. Split it into shorter texts."
            )
            return ContextLengthError(model, problem, prompt_tokens=tokens, context_length=limit)
        case OptionRefused(_, option, problem):
            return InvalidOptionError(option, problem)
        case QueueFull(_, waiting):
            return EngineBusyError(
                model,
                f"{waiting:,} requests are already waiting. Wait until some are answered, "
                "or send fewer at a time.",
            )
        case Failed(_, problem):
            return EngineError(model, problem, partial_text=partial_text)
        case _:
            return assert_never(failure)


def _count(tokens: int | None) -> str:
    return "too many" if tokens is None else f"{tokens:,}"


def exit_error(
    model: str, exited: Exited, log: tuple[str, ...], partial_text: str
) -> EngineStalledError | EngineCrashedError:
    """The error of a request under way when the worker ended."""
    if exited.stalled:
        return EngineStalledError(
            model,
            "its worker process stopped responding for longer than stall_timeout and was "
            "terminated. Load the model again to continue.",
            partial_text=partial_text,
        )
    return EngineCrashedError(
        model,
        f"its worker process {describe_exit(exited.status)}. The notebook is not affected; "
        f"load the model again to continue.{exited.remedy}",
        exit_status=exited.status,
        log=log,
        partial_text=partial_text,
    )


def fork_error(model: str, partial_text: str) -> ModelClosedError:
    """The error of a request in a process that was forked from the one that loaded the model."""
    return ModelClosedError(
        model,
        "it was loaded before this process was forked, and belongs to the parent process. "
        "Load it again in this process.",
        partial_text=partial_text,
    )
