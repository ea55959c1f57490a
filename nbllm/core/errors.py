"""Every error that nbllm raises.

::

    NbllmError
    ├── AnswerFormError             an answer does not have the requested form; carries the text
    ├── BatchError                  a batch ended early; what is finished is in its journal
    ├── ConfigError                 a model config cannot be read; names file, entry and key
    ├── ConversationError           a conversation does not exist, or its file cannot be used
    ├── DownloadError               a model could not be downloaded; what arrived is kept
    ├── InvalidOptionError          a generation or load option has an invalid value
    ├── MissingDependencyError      an optional package is missing; names the pip install line
    ├── ModelNotFoundError          no model has this name; suggests the closest ones
    ├── ModelLoadError              a model was found but could not be loaded
    │   ├── ModelFileError          its file is missing, damaged, truncated or not a GGUF
    │   ├── LoadedOtherwiseError    it is already loaded, with other options
    │   └── DoesNotFitError         memory is too small; carries the bytes and what would fit
    ├── QuantizationError           a model's file could not be quantized or measured
    └── ModelError                  a loaded model failed; carries the partial text
        ├── ModelClosedError        the model was unloaded
        ├── BudgetError             a budget does not allow the request; nothing was sent
        ├── UnsupportedError        this model or vendor does not support it; says what does
        ├── RouterError             no member of a router can answer; carries each one's reason
        ├── ContextLengthError      the prompt does not fit; carries the counts
        ├── EngineError             the local engine refused a request or failed on it
        │   ├── EngineBusyError     too many requests are already waiting for this model
        │   ├── EngineStalledError  the worker process stopped responding and was terminated
        │   └── EngineCrashedError  the worker process died; carries its last log lines
        └── ApiError                a vendor or server failed; see the classes below it
            ├── AuthenticationError
            ├── PermissionDeniedError
            ├── NotFoundError
            ├── BadRequestError
            │   └── ContentPolicyError  the vendor's content filter refused the prompt
            ├── RateLimitError      carries the delay that the server requested
            ├── QuotaError          credit or a spending limit is used up; never retried
            ├── OverloadedError
            ├── ServerError
            ├── ApiTimeoutError
            ├── ApiConnectionError
            ├── ProtocolError       the response does not follow the vendor's protocol
            └── InterruptedStreamError  the stream broke before its end marker

Each message says what happened, to which model, and what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nbllm.core.texts import capped, sentence

__all__ = [
    "AnswerFormError",
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BatchError",
    "BudgetError",
    "ConfigError",
    "ContentPolicyError",
    "ContextLengthError",
    "ConversationError",
    "DoesNotFitError",
    "DownloadError",
    "EngineBusyError",
    "EngineCrashedError",
    "EngineError",
    "EngineStalledError",
    "InterruptedStreamError",
    "InvalidOptionError",
    "LoadedOtherwiseError",
    "MissingDependencyError",
    "ModelClosedError",
    "ModelError",
    "ModelFileError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NbllmError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "QuantizationError",
    "QuotaError",
    "RateLimitError",
    "RouterError",
    "ServerError",
    "UnsupportedError",
]


_MOST_CHARACTERS = 6_000
_MOST_OF_OPTIONS = 1_000


class NbllmError(Exception):
    """Base of every error of nbllm; all of them pickle and copy, whatever their constructor takes.

    Of a message of more than 6,000 characters the middle is left out, and halves of characters
    are replaced. An exception is otherwise built anew from its message, which the constructors here
    do not take; one that cannot be read back breaks a whole process pool.
    """

    def __init__(self, *messages: str) -> None:
        # Messages hold foreign text, which no output need be able to take, and of any length.
        super().__init__(*(capped(message, _MOST_CHARACTERS) for message in messages))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[NbllmError], args: tuple[Any, ...], state: dict[str, Any]) -> NbllmError:
    """An error as it was, without a call of its constructor."""
    error = kind.__new__(kind)
    super(NbllmError, error).__init__(*args)  # that of ValueError, ImportError and the like
    vars(error).update(state)
    return error


class ConfigError(NbllmError):
    """A model config cannot be used.

    ``file`` is the file's path, ``entry`` the model's name or its place in the list (from 0),
    ``key`` the JSON key; each is None where it does not apply.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: Path | None = None,
        entry: str | int | None = None,
        key: str | None = None,
    ) -> None:
        self.file, self.entry, self.key = file, entry, key
        where = [capped(str(file))] if file is not None else []
        if entry is not None:
            where.append(f"entry {entry if isinstance(entry, int) else capped(repr(entry))}")
        if key is not None:
            where.append(f"key {key!r}")
        super().__init__(sentence(", ".join(where), problem))


class ConversationError(NbllmError):
    """A conversation cannot be found, named, read or written.

    ``conversation`` is its name, or its file.
    """

    def __init__(self, conversation: str, problem: str) -> None:
        self.conversation = conversation
        super().__init__(sentence(f"conversation {capped(repr(conversation))}", problem))


class AnswerFormError(NbllmError, ValueError):
    """An answer does not have the requested ``form``, such as JSON; ``text`` is the answer."""

    def __init__(self, form: str, problem: str, *, text: str) -> None:
        self.form, self.problem, self.text = form, problem, text
        super().__init__(f"no valid {form} in the answer: {problem}")


class BatchError(NbllmError):
    """A run over many prompts cannot begin, or ended early."""


class InvalidOptionError(NbllmError, ValueError):
    """An option has an invalid value; ``option`` is its name, ``problem`` what is wrong."""

    def __init__(self, option: str, problem: str) -> None:
        self.option, self.problem = option, capped(problem, _MOST_OF_OPTIONS)
        super().__init__(sentence(capped(option, 80), self.problem))


class MissingDependencyError(NbllmError, ImportError):
    """An optional package is needed now, and is not installed or too old.

    ``install`` holds pip's arguments, by default those of nbllm's ``extra``; ``installed`` the
    version that is too old. ``alternatives`` are sentences on how to do without that line.
    """

    def __init__(
        self,
        package: str,
        *,
        purpose: str,
        extra: str = "",
        install: str = "",
        installed: str = "",
        alternatives: tuple[str, ...] = (),
    ) -> None:
        self.package, self.purpose, self.extra = package, purpose, extra
        self.install = install or f'"nbllm[{extra}]"'
        self.installed, self.alternatives = installed, alternatives
        state = f"and version {installed} is too old" if installed else "which is not installed"
        line = (
            f"{purpose} needs the package {package}, {state}. "
            f"Install it with: pip install {self.install}"
        )
        super().__init__("\n- ".join([line, *alternatives]))


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
        super().__init__(_with_log(sentence(capped(model), problem), log))


class ModelFileError(ModelLoadError):
    """The model's file is missing, damaged, truncated, or not a GGUF."""


class LoadedOtherwiseError(ModelLoadError):
    """The model is already loaded with other options than those requested."""


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
        return capped("\n".join(lines), _MOST_CHARACTERS)

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


class ModelError(NbllmError):
    """The loaded model ``model`` failed on a request.

    ``partial_text`` is the text that had been generated before the failure.
    """

    def __init__(self, model: str, problem: str, *, partial_text: str = "") -> None:
        self.model, self.partial_text = model, partial_text
        super().__init__(f"{capped(model)}: {problem}")


class ModelClosedError(ModelError):
    """The model was unloaded; load it again to use it."""


class BudgetError(ModelError):
    """A budget does not allow the request to be sent.

    ``budget`` names it. ``left`` is what it had left and ``needed`` what the request could have
    taken, both in its ``unit``: "usd", "tokens" or "requests". All three are None where the budget
    cannot be told from its file, the latter two where the model's price is not known.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        budget: str,
        unit: str | None = None,
        left: float | None = None,
        needed: float | None = None,
    ) -> None:
        self.budget, self.unit, self.left, self.needed = budget, unit, left, needed
        super().__init__(model, problem)


class UnsupportedError(ModelError):
    """The model or vendor does not support this; the message says what does."""


class RouterError(ModelError):
    """No member of the router ``model`` can answer.

    ``reasons`` tell of each member why, ``retry_after_seconds`` when the first of them can be
    asked again, None where that is not known.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        reasons: Mapping[str, str],
        retry_after_seconds: float | None = None,
    ) -> None:
        self.reasons, self.retry_after_seconds = dict(reasons), retry_after_seconds
        lines = [problem, *(f"- {member}: {capped(why)}" for member, why in reasons.items())]
        super().__init__(model, "\n".join(lines))


class ContextLengthError(ModelError):
    """The prompt is longer than the context.

    ``prompt_tokens`` and ``context_length`` are counts of tokens, None where unknown.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        prompt_tokens: int | None = None,
        context_length: int | None = None,
        partial_text: str = "",
    ) -> None:
        self.prompt_tokens, self.context_length = prompt_tokens, context_length
        super().__init__(model, problem, partial_text=partial_text)


class EngineError(ModelError):
    """The local engine refused the request, or failed on it and keeps running."""


class EngineBusyError(EngineError):
    """Too many requests are already waiting for this model; those are not affected."""


class EngineStalledError(EngineError):
    """The model's worker process stopped responding and was terminated."""


class EngineCrashedError(EngineError):
    """The model's worker process died.

    ``exit_status`` is its exit code, negative for a signal; ``log`` holds its last lines.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        exit_status: int | None = None,
        log: tuple[str, ...] = (),
        partial_text: str = "",
    ) -> None:
        self.exit_status, self.log = exit_status, log
        super().__init__(model, _with_log(problem, log), partial_text=partial_text)


class ApiError(ModelError):
    """A vendor's API or a server responded with an error, or not at all.

    ``status`` is the HTTP status (None without a response), ``code`` the vendor's error code,
    ``request_id`` what the vendor's support asks for. ``retryable`` says whether the same
    request may succeed later, ``retry_after_seconds`` is the delay that the server requested.
    ``was_sent`` is False where no connection was made, so that nobody can have answered.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        partial_text: str = "",
        was_sent: bool = True,
    ) -> None:
        self.status, self.code, self.request_id = status, code, request_id
        self.was_sent = was_sent
        self.retryable, self.retry_after_seconds = retryable, retry_after_seconds
        super().__init__(model, problem, partial_text=partial_text)


class AuthenticationError(ApiError):
    """The key is missing, or the vendor does not accept it."""


class PermissionDeniedError(ApiError):
    """The key is valid but has no permission for this."""


class NotFoundError(ApiError):
    """The vendor has no such model or address."""


class BadRequestError(ApiError):
    """The vendor rejected the request; sending it again does not help."""


class ContentPolicyError(BadRequestError):
    """The vendor's content filter rejected the prompt."""


class RateLimitError(ApiError):
    """Too many requests; ``retry_after_seconds`` is the server's delay, None where it gave none."""


class QuotaError(ApiError):
    """The account's credit or a spending limit is used up; waiting does not help."""


class OverloadedError(ApiError):
    """The vendor has no capacity at the moment."""


class ServerError(ApiError):
    """The vendor failed."""


class ApiTimeoutError(ApiError):
    """A timeout for connecting, the first token, or the next chunk expired."""


class ApiConnectionError(ApiError):
    """The server is unreachable, or the connection broke before a response."""


class ProtocolError(ApiError):
    """The response does not follow the vendor's protocol."""


class InterruptedStreamError(ApiError):
    """The stream ended before its end marker; ``partial_text`` is the text received so far."""


def _with_log(problem: str, log: tuple[str, ...]) -> str:
    if not log:
        return problem
    return "\n".join([problem, "Last lines of the engine's log:", *(f"  {line}" for line in log)])
