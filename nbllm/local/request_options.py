"""The options of a request as a worker takes them: those that are its own, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbllm.core.errors import InvalidOptionError, UnsupportedError
from nbllm.core.openai_messages import openai_tools
from nbllm.core.option_table import Backend, options_of, refused
from nbllm.core.types import GenerationOptions, GenerationRequest, ModelInfo

__all__ = ["scales_of", "worker_options"]


def worker_options(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """The options that are set, for ``Generate``.

    Raises ``UnsupportedError`` for one that local models do not have, and ``InvalidOptionError``.
    """
    options = request.options
    for name in refused(options, Backend.LLAMA_CPP):
        raise UnsupportedError(info.name, f"local models do not support {name}; leave it unset")
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
