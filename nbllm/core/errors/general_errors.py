"""The root of all errors, and those of what a person writes, installs and keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbllm.core.option_names import option_name
from nbllm.core.texts import capped, sentence

__all__ = [
    "MOST_CHARACTERS",
    "AnswerFormError",
    "BatchError",
    "ConfigError",
    "ConversationError",
    "InvalidOptionError",
    "MissingDependencyError",
    "NbllmError",
    "with_log",
]

MOST_CHARACTERS = 6_000
"""So long a message is at most; of a longer one the middle is left out."""
_MOST_OF_OPTIONS = 1_000


class NbllmError(Exception):
    """Base of every error of nbllm; all of them pickle and copy, whatever their constructor takes.

    Of a message of more than 6,000 characters the middle is left out, and halves of characters
    are replaced. An exception is otherwise built anew from its message, which the constructors here
    do not take; one that cannot be read back breaks a whole process pool.
    """

    def __init__(self, *messages: str) -> None:
        # Messages hold foreign text, which no output need be able to take, and of any length.
        super().__init__(*(capped(message, MOST_CHARACTERS) for message in messages))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[NbllmError], args: tuple[Any, ...], state: dict[str, Any]) -> NbllmError:
    """An error as it was, without a call of its constructor."""
    error = kind.__new__(kind)
    super(NbllmError, error).__init__(*args)  # that of ValueError, ImportError and the like
    vars(error).update(state)
    return error


class InvalidOptionError(NbllmError, ValueError):
    """An option has an invalid value; ``option`` is its name, ``problem`` what is wrong.

    The message names the option as the caller writes it; see ``nbllm.core.option_names``.
    """

    def __init__(self, option: str, problem: str) -> None:
        self.option, self.problem = option, capped(problem, _MOST_OF_OPTIONS)
        super().__init__(sentence(option_name(capped(option, 80)), self.problem))


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
    """A run over many prompts cannot begin, or ended early.

    ``finished`` has the rows that were finished by then: the list of ``BatchRow`` of an awaited
    ``model.map``, the DataFrame of ``map_frame``; None where nothing was begun.
    """

    finished: Any = None


def with_log(problem: str, log: tuple[str, ...]) -> str:
    """A problem with the last lines that the engine wrote, where there are any."""
    if not log:
        return problem
    return "\n".join([problem, "Last lines of the engine's log:", *(f"  {line}" for line in log)])
