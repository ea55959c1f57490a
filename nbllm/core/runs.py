"""A run of many requests, as one thing to watch and to stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbllm.batches.batch import Batch
    from nbllm.core.model_interface import ModelInterface

__all__ = ["Run", "batch_of", "current_run"]

_BATCHES = "nbllm.batches.batch"
_numbers = itertools.count(1)


@dataclass(slots=True, eq=False)
class Run:
    """How far a run is: ``done`` of ``total`` requests, of which ``failed`` have no answer.

    ``total`` is None where it is not known, ``title`` says of what it is, and ``number`` tells it
    from the others of the process. ``stop`` ends it, from any thread.
    """

    title: str
    total: int | None = None
    done: int = 0
    failed: int = 0
    stop: Callable[[], None] = lambda: None
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def words(self) -> str:
        """How far it is, for reading."""
        of = "" if self.total is None else f" of {self.total:,}"
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,}{of} rows{failed}"


current_run: ContextVar[Run | None] = ContextVar("current_run", default=None)
"""The run that the requests of this task belong to."""


def batch_of(model: ModelInterface, prompts: Iterable[Any], **settings: Any) -> Batch:
    """Many prompts through one model; see ``nbllm.batches``."""
    batch: Batch = import_module(_BATCHES).batch_of(model, prompts, **settings)
    return batch
