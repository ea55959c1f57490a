"""Requests as a worker takes them, and the errors of those that it refuses or does not survive.

Conversations are in the form that chat templates read, that of OpenAI's messages. Arguments of
calls are objects, as nearly all templates want them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbllm.core.errors import (
    ContextLengthError,
    EngineBusyError,
    EngineCrashedError,
    EngineError,
    EngineStalledError,
    InvalidOptionError,
    ModelClosedError,
    NbllmError,
    UnsupportedError,
)
from nbllm.core.generation_requests import check_size
from nbllm.core.json_checks import json_problem
from nbllm.core.openai_messages import openai_tools, openai_turns
from nbllm.core.option_names import option_name
from nbllm.core.option_table import Backend, options_of, refused
from nbllm.core.schemas.decision_questions import Question, cued
from nbllm.core.types import (
    ContentPart,
    GenerationOptions,
    GenerationRequest,
    ImagePart,
    Message,
    ModelInfo,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from nbllm.local.ipc import operations
from nbllm.local.ipc.channel import Exited, Forked
from nbllm.local.ipc.events import (
    ContextExceeded,
    OptionRefused,
    QueueFull,
    RequestFailure,
    TextExceeded,
)
from nbllm.local.ipc.protocol import Failed, assert_never
from nbllm.local.ipc.worker_process import describe_exit

__all__ = [
    "decide_operation",
    "delivery_error",
    "portions",
    "scales_of",
    "turns_of",
    "unexpected",
    "worker_options",
]

_PORTION_CHARACTERS = 4 * 2**20


def turns_of(model: str, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns of a conversation. Raises ``UnsupportedError`` where there is more than text."""
    form = _TemplateForm(model)
    return [turn for message in messages for turn in openai_turns(message, form)]


class _TemplateForm:
    """See ``nbllm.core.openai_messages.TurnForm``."""

    def __init__(self, model: str) -> None:
        self._model = model

    def content(self, role: str, parts: Sequence[ContentPart]) -> str:
        if any(isinstance(part, ImagePart) for part in parts):
            raise UnsupportedError(
                self._model, "local models support text only; use a cloud model for anything else"
            )
        return "".join(part.text for part in parts if isinstance(part, TextPart))

    def arguments(self, call: ToolCall) -> Any:
        try:
            arguments = call.parsed_arguments()
        except (ValueError, RecursionError):  # no JSON, or more digits or levels than Python reads
            return call.arguments
        return call.arguments if json_problem(arguments) is not None else arguments

    def beside_call(self, call: ToolCall) -> dict[str, Any]:
        return {}

    def beside_calls(self, message: Message) -> dict[str, Any]:
        """The reasoning behind the calls, which some templates show to the model again."""
        thought = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
        return {"reasoning_content": thought, "thinking": thought} if thought else {}

    def beside_result(self, result: ToolResult) -> dict[str, Any]:
        return {"name": result.name}


def worker_options(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """The options that are set, for ``Generate``.

    Raises ``UnsupportedError`` for one that local models do not have, and ``InvalidOptionError``.
    """
    options = request.options
    for name in refused(options, Backend.LLAMA_CPP):
        raise UnsupportedError(
            info.name, f"local models do not support {option_name(name)}; leave it unset"
        )
    if options.raw:
        _check_raw(request)
    declared = options_of(GenerationOptions)
    values = {
        name: value
        for name, value in options.set_values().items()
        if declared[name].sent and Backend.LLAMA_CPP & declared[name].backends
    }
    values["tools"] = openai_tools(values.get("tools", ()))
    if "adapters" in values:
        values["adapters"] = scales_of(info.load.adapters or (), values["adapters"])
    return values


def _check_raw(request: GenerationRequest) -> None:
    """Raise ``InvalidOptionError`` for what only a chat template can say."""
    if len(request.messages) != 1 or request.messages[0].role != "user":
        raise InvalidOptionError(
            "raw", "must be False for a conversation; give one string to continue it raw"
        )
    if request.options.tools:
        raise InvalidOptionError(
            "raw", "cannot be combined with tools, which need the chat template; leave one out"
        )


Adapters = Sequence[tuple[str, float]]


def scales_of(loaded: Adapters, wanted: Adapters) -> list[float]:
    """One scale for each loaded adapter, 0 for those that are not wanted.

    An adapter is named by its path, the name of its file, or that without its ending. Raises
    ``InvalidOptionError`` for a name that fits none of them, or several.
    """
    scales = [0.0] * len(loaded)
    for name, scale in wanted:
        scales[_place(name, [path for path, _ in loaded])] = scale
    return scales


def _place(name: str, paths: Sequence[str]) -> int:
    fitting = [place for place, path in enumerate(paths) if name == path] or [
        place
        for place, path in enumerate(paths)
        if Path(name).name in (Path(path).name, Path(path).stem)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not paths:
        problem = f"the model was loaded without {name}; load it with its adapters"
    elif fitting:
        problem = f"{name} matches several adapters; give the path: {', '.join(paths)}"
    else:
        problem = f"the model was loaded without {name}, only with {', '.join(paths)}"
    raise InvalidOptionError("adapters", problem)


def decide_operation(
    info: ModelInfo, request: GenerationRequest, question: Question
) -> operations.Decide:
    """One question of a request, without a number yet. Raises as ``worker_options`` does."""
    messages = request.messages
    if not request.options.raw:
        messages = cued(messages, question, request.questions, billions=info.parameters)
    for message in messages:
        check_size("prompt", message.text)
    unbound = replace(request, options=request.options.replaced(response_schema=None))
    turns, options = turns_of(info.name, messages), worker_options(info, unbound)
    return operations.Decide(0, turns, list(question.labels), options)


def portions(texts: list[str]) -> Iterator[list[str]]:
    """The texts in requests that a worker holds easily, and between which others are served."""
    portion: list[str] = []
    size = 0
    for text in texts:
        if portion and size + len(text) > _PORTION_CHARACTERS:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += len(text)
    yield portion


def delivery_error(
    model: str, told: object, log: tuple[str, ...], partial_text: str
) -> NbllmError | None:
    """The error of a request that ended with ``told``; None where that is no failure.

    ``log`` holds the worker's last lines.
    """
    match told:
        case Failed() | OptionRefused() | ContextExceeded() | TextExceeded() | QueueFull():
            return _request_error(model, told, partial_text)
        case Forked():
            return _fork_error(model, partial_text)
        case Exited():
            return _exit_error(model, told, log, partial_text)
        case _:
            return None


def unexpected(event: object) -> str:
    """The problem of a request to which a worker replied with what is no reply."""
    return (
        f"its worker process sent an unexpected message ({type(event).__name__}) and was "
        "terminated. Load the model again to continue."
    )


def _request_error(model: str, failure: RequestFailure, partial_text: str) -> NbllmError:
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


def _exit_error(
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


def _fork_error(model: str, partial_text: str) -> ModelClosedError:
    """The error of a request in a process that was forked from the one that loaded the model."""
    return ModelClosedError(
        model,
        "it was loaded before this process was forked, and belongs to the parent process. "
        "Load it again in this process.",
        partial_text=partial_text,
    )
