"""What a model offers whose vendor takes many requests at once and answers them later.

``ModelInterface.vendor_batches`` gives it. Requests are matched with their answers by an id that
the caller chooses, never by their order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nbllm.core.results import GenerationResult
from nbllm.core.types import GenerationRequest

__all__ = ["VendorBatch", "VendorBatches", "VendorOutcome", "VendorRow"]


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
