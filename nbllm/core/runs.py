"""Many requests at once: a run to watch and to stop, and what a vendor's batch API offers.

``ModelInterface.vendor_batches`` gives the latter. Requests are matched with their answers by an
id that the caller chooses, never by their order.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from nbllm.core.results import GenerationResult
from nbllm.core.types import GenerationRequest

if TYPE_CHECKING:
    from nbllm.batches.batch import Batch
    from nbllm.core.model_interface import ModelInterface

__all__ = [
    "Run",
    "VendorBatch",
    "VendorBatches",
    "VendorOutcome",
    "VendorRow",
    "batch_of",
    "current_run",
    "stopper",
]

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


def stopper() -> Callable[[], None]:
    """Cancels the task that reads the run, from any thread."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def stop() -> None:
        with suppress(RuntimeError):  # its loop is closed, and so it has ended
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)

    return stop


def batch_of(model: ModelInterface, prompts: Iterable[Any], **settings: Any) -> Batch:
    """Many prompts through one model; see ``nbllm.batches``."""
    batch: Batch = import_module(_BATCHES).batch_of(model, prompts, **settings)
    return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorBatch:
    """A batch as its vendor describes it.

    ``state`` is the vendor's own word, ``is_over`` whether nothing of it will be worked on any
    more, ``problem`` why it failed as a whole. ``total``, ``done`` and ``failed`` count requests,
    ``created`` is in Unix seconds, None where it is not told. ``tag`` is what it was created with,
    "" where the vendor keeps none, and ``files`` names where its answers are.
    """

    id: str
    state: str
    is_over: bool
    total: int = 0
    done: int = 0
    failed: int = 0
    created: float | None = None
    tag: str = ""
    problem: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VendorRow:
    """A request as it stands in a batch. All of a batch have the same ``group``."""

    key: str
    group: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorOutcome:
    """What became of the request ``key``, unread: a body, or a verdict of the vendor's.

    ``status`` is that of HTTP, as if the request had been sent alone. ``verdict`` is "expired" or
    "cancelled" for a request that was not worked on, "" for every other.
    """

    key: str
    body: bytes = b""
    status: int = 200
    verdict: str = ""


class VendorBatches(Protocol):
    """The batch API of one model's vendor. Every method that asks it raises ``ModelError``."""

    @property
    def vendor(self) -> str:
        """The vendor's name, for people."""

    @property
    def most_rows(self) -> int:
        """Requests of one batch."""

    @property
    def most_bytes(self) -> int:
        """Bytes of one batch: the ``data`` of its rows, and one more for each."""

    @property
    def has_tags(self) -> bool:
        """Whether the vendor's list of batches tells the tags that they were created with."""

    def row(self, key: str, request: GenerationRequest) -> VendorRow:
        """The request as a row; ``key`` has at most 64 letters and digits.

        Raises ``InvalidOptionError`` and ``UnsupportedError`` for what cannot be asked.
        """

    async def create(self, tag: str, rows: Sequence[VendorRow]) -> VendorBatch:
        """Send a batch. It is never sent twice here: after an error it may exist or not."""

    async def get(self, batch: str) -> VendorBatch:
        """How far the batch of this id is."""

    async def cancel(self, batch: str) -> VendorBatch:
        """Ask for its end. What is done by then is paid, and is in its outcomes."""

    async def created_since(self, moment: float) -> list[VendorBatch]:
        """The batches of the account that were created since ``moment`` (Unix seconds)."""

    def outcomes(self, batch: VendorBatch) -> AsyncGenerator[VendorOutcome, None]:
        """What became of the requests of a batch that is over, in any order.

        Lines that cannot be read are left out. Raises ``ModelError`` also in its middle.
        """

    def result(self, request: GenerationRequest, outcome: VendorOutcome) -> GenerationResult:
        """The answer, at the price of a batch.

        Raises the ``ModelError`` that the outcome is, and ``BatchError`` for a verdict.
        """
