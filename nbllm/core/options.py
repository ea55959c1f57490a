"""How to answer and how to load: options with the ranges that they are checked against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from nbllm.core.errors import InvalidOptionError

__all__ = ["GenerationOptions", "LoadOptions", "Tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; ``parameters`` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How to answer. None leaves the choice to the model's config, then to the engine or vendor.

    ``max_tokens`` bounds the answer; without it a local model may go on to the end of its context.
    ``temperature`` 0 is greedy. ``top_p``, ``min_p`` are probabilities, ``top_k`` a count (0: off).
    ``repeat_penalty`` divides (1: off), the other two penalties subtract, as in OpenAI's API.
    The same ``seed`` on the same prompt gives the same text where the engine can promise it.
    Generation ends before any of the ``stop`` strings. ``response_schema`` is a JSON schema that
    the answer must follow. ``reasoning_effort`` is the vendor's word, such as "low" or "high".
    ``extra`` is merged into a vendor's request body as it is.

    The last four are for models behind HTTP and are never sent: how many seconds connecting, the
    first token and each pause after it may take, and for how many seconds after a request began
    a failure is answered by another attempt (0: never).
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    response_schema: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | None = None
    extra: Mapping[str, Any] | None = None
    connect_timeout: float | None = None
    first_token_timeout: float | None = None
    stall_timeout: float | None = None
    max_retry_seconds: float | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        object.__setattr__(self, "stop", None if stop is None else tuple(stop))
        for name, (low, high) in _OPTION_RANGES.items():
            _check_number(name, getattr(self, name), low, high)
        for name in ("max_tokens", "top_k", "seed"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise InvalidOptionError(name, f"{value!r} is not a whole number")
        if stop is not None and not all(isinstance(text, str) and text for text in stop):
            raise InvalidOptionError("stop", "give one or more texts, none of them empty")

    def merged(self, over: GenerationOptions) -> GenerationOptions:
        """These options with every value that ``over`` sets in its place."""
        return replace(self, **over.set_values())

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


_OPTION_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, math.inf),
    "temperature": (0, math.inf),
    "top_p": (0, 1),
    "top_k": (0, math.inf),
    "min_p": (0, 1),
    "repeat_penalty": (1e-3, math.inf),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (0, 2**63 - 1),
    "connect_timeout": (1e-3, math.inf),
    "first_token_timeout": (1e-3, math.inf),
    "stall_timeout": (1e-3, math.inf),
    "max_retry_seconds": (0, math.inf),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to put a local model into memory. None leaves the choice to nbllm.

    ``context_length`` is in tokens, shared by all requests that run at the same time.
    ``gpu_layers`` counts the layers on GPUs (-1: all). ``threads`` is the number of CPU threads;
    without it as many are used as other processes leave cores. ``parallel`` bounds the requests
    that are answered at the same time.
    """

    context_length: int | None = None
    gpu_layers: int | None = None
    threads: int | None = None
    parallel: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _LOAD_RANGES.items():
            value = getattr(self, name)
            _check_number(name, value, low, high)
            if value is not None and not isinstance(value, int):
                raise InvalidOptionError(name, f"{value!r} is not a whole number")

    def merged(self, over: LoadOptions) -> LoadOptions:
        """These options with every value that ``over`` sets in its place."""
        return replace(self, **over.set_values())

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


_LOAD_RANGES: dict[str, tuple[float, float]] = {
    "context_length": (16, 2**31 - 1),
    "gpu_layers": (-1, 2**31 - 1),
    "threads": (1, 1024),
    "parallel": (1, 256),
}


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOptionError(name, f"{value!r} is not a number")
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise InvalidOptionError(name, f"{value!r} is not {bounds}")
