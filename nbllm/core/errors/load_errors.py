"""Errors of finding, downloading, quantizing and loading a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from nbllm.core.errors.general_errors import MOST_CHARACTERS, NbllmError, with_log
from nbllm.core.texts import capped, sentence

__all__ = [
    "DoesNotFitError",
    "DownloadError",
    "LoadedOtherwiseError",
    "ModelFileError",
    "ModelLoadError",
    "ModelNotFoundError",
    "QuantizationError",
]


class ModelNotFoundError(NbllmError, LookupError):
    """No model has this name; ``suggestions`` holds the closest names, best first.

    ``name`` is empty where no name was given and no model is loaded.
    """

    def __init__(self, name: str, *, suggestions: tuple[str, ...] = (), hint: str = "") -> None:
        self.name, self.suggestions = name, suggestions
        parts = [f"No model is called {capped(repr(name))}."] if name or not hint else []
        if suggestions:
            *others, last = map(repr, suggestions)
            parts.append(f"Did you mean {', '.join(others)}{' or ' if others else ''}{last}?")
        separator = "\n" if "\n" in hint else " "  # one of several lines begins on its own
        super().__init__(separator.join(filter(None, [" ".join(parts), hint])))


class ModelLoadError(NbllmError):
    """The model ``model`` could not be loaded; a later attempt may succeed.

    ``problem`` is the message without the model's name, ``log`` the last lines that the engine
    wrote, oldest first.
    """

    def __init__(self, model: str, problem: str, *, log: tuple[str, ...] = ()) -> None:
        self.model, self.problem, self.log = model, problem, log
        super().__init__(with_log(sentence(capped(model), problem), log))


class ModelFileError(ModelLoadError):
    """The model's file is missing, damaged, truncated, or not a GGUF."""


class LoadedOtherwiseError(ModelLoadError):
    """The model is already loaded with other options than those requested."""


class DoesNotFitError(ModelLoadError):
    """The model does not fit into the available memory, and nothing was loaded.

    ``needed_bytes`` is what it needs as requested, ``available_bytes`` what is available on those
    devices; ``remedies`` are phrases, each naming something that would make it fit.

    ``problem`` may be a function that makes the problem and the remedies. It is called when the
    message is read: to admit one model, a dozen placements are tried, and nobody reads why most
    of them fail.
    """

    def __init__(
        self,
        model: str,
        problem: str | Callable[[], tuple[str, tuple[str, ...]]],
        *,
        needed_bytes: int,
        available_bytes: int,
        remedies: tuple[str, ...] = (),
    ) -> None:
        self.model, self.log = model, ()
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes
        explain = (lambda: (problem, remedies)) if isinstance(problem, str) else problem
        self._message = _LateMessage(model, explain)
        Exception.__init__(self, self._message)

    @property
    def remedies(self) -> tuple[str, ...]:
        """What would make it fit."""
        return self._message.explained[1]


class _LateMessage:
    """The message of a ``DoesNotFitError``; made when it is read."""

    def __init__(self, model: str, explain: Callable[[], tuple[str, tuple[str, ...]]]) -> None:
        self._model, self._explain = model, explain

    @cached_property
    def explained(self) -> tuple[str, tuple[str, ...]]:
        """The problem and the remedies."""
        return self._explain()

    def __str__(self) -> str:
        problem, remedies = self.explained
        lines = [f"{capped(self._model)}: {problem}", *(f"- {remedy}" for remedy in remedies)]
        return capped("\n".join(lines), MOST_CHARACTERS)

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _explained_message, (self._model, self.explained)


def _explained_message(model: str, explained: tuple[str, tuple[str, ...]]) -> _LateMessage:
    """A copy, without the plan that the original was explained by."""
    return _LateMessage(model, lambda: explained)


class QuantizationError(NbllmError):
    """The file of the model ``model`` could not be quantized, or the result not measured."""

    def __init__(self, model: str, problem: str) -> None:
        self.model = model
        super().__init__(sentence(capped(model), problem))


class DownloadError(NbllmError):
    """The model ``model`` could not be downloaded, or what was downloaded could not be deleted.

    What has arrived is kept, unless the message says otherwise; a later attempt goes on from it.
    ``status`` is the HTTP status that the server refused with, None where it was not that, and
    ``retry_after_seconds`` the delay that the server requested.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.model, self.status = model, status
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{capped(model)}: {problem}")
