"""Options in messages, as the caller writes them: ``max_cost=…`` in Python, ``--max-cost USD``.

Whoever reads options in another form than Python's says so with ``written_as``; messages that are
made meanwhile, also on the loop and in background work that begins there, name options in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

__all__ = ["Written", "any_option", "option_name", "option_use", "written_as"]


class Written(NamedTuple):  # defined in a sixth of a dataclass's time, for %load_ext
    """How one option is written: its ``name``, and its ``use`` with a value where it takes one."""

    name: str
    use: str


_FORM: ContextVar[Mapping[str, Written]] = ContextVar("nbllm_option_form")


def option_name(option: str) -> str:
    """The option as the subject of a message.

    >>> option_name("max_cost")
    'max_cost'
    >>> with written_as({"max_cost": Written("--max-cost", "--max-cost USD")}):
    ...     option_name("max_cost")
    '--max-cost'
    """
    written = _FORM.get({}).get(option)
    return written.name if written else option


def any_option(options: Iterable[str]) -> str:
    """Several options as one subject.

    >>> any_option(["top_k", "seed"])
    'top_k or seed'
    """
    return " or ".join(map(option_name, options))


def option_use(option: str, value: str = "…") -> str:
    """What the caller would write to set the option; ``value`` is what Python's form shows.

    >>> option_use("batch_api", "True")
    'batch_api=True'
    >>> with written_as({"batch_api": Written("--batch-api", "--batch-api")}):
    ...     option_use("batch_api", "True")
    '--batch-api'
    """
    written = _FORM.get({}).get(option)
    return written.use if written else f"{option}={value}"


@contextmanager
def written_as(form: Mapping[str, Written]) -> Iterator[None]:
    """Name the options of ``form`` as it says; others keep Python's names."""
    token = _FORM.set(form)
    try:
        yield
    finally:
        _FORM.reset(token)
