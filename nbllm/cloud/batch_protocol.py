"""What the ``batches`` module of a vendor's folder provides as ``BATCHES``: its batch API.

As in ``nbllm.cloud.adapter`` these are pure functions, which ``nbllm.cloud.cloud_batches`` drives.
The requests in a batch are those that the vendor's ``ADAPTER`` builds, and it reads their answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from nbllm.cloud.adapter import HttpRequest
from nbllm.core.runs import VendorBatch, VendorOutcome
from nbllm.core.types import ModelInfo

__all__ = ["BatchProtocol", "as_body", "encoded", "moment"]

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")


_MOST_SECONDS = 2.0**33


class BatchProtocol(Protocol):
    """The batch API of a vendor."""

    vendor: str
    most_rows: int
    most_bytes: int
    has_tags: bool
    """Whether ``parse_list`` tells tags."""
    has_lines: bool
    """Whether results are lines, each a value of its own, or one value as a whole."""

    def row(self, key: str, request: HttpRequest) -> tuple[str, Mapping[str, Any]]:
        """The group that the request belongs to, and what stands for it in a batch."""

    def upload_request(self, tag: str, rows: Sequence[bytes]) -> HttpRequest | None:
        """Send the rows ahead; None where they are in the request that creates the batch."""

    def create_request(
        self, info: ModelInfo, tag: str, group: str, rows: Sequence[bytes], uploaded: bytes
    ) -> HttpRequest:
        """Create a batch; ``uploaded`` is the answer to ``upload_request``."""

    def state_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        """Ask for a batch."""

    def parse_state(self, info: ModelInfo, body: bytes) -> VendorBatch:
        """A batch, also as the answer to its creation. Raises ``ProtocolError``."""

    def cancel_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        """Ask for a batch to be cancelled."""

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        """Ask for a page of the batches, the newest first; None is the first page."""

    def parse_list(self, info: ModelInfo, body: bytes) -> tuple[Sequence[VendorBatch], str | None]:
        """The batches of a page, and the next page. Raises ``ProtocolError``."""

    def results_requests(self, info: ModelInfo, batch: VendorBatch) -> Sequence[HttpRequest]:
        """Ask for the results of a batch that is over."""

    def parse_results(self, piece: bytes) -> Iterator[VendorOutcome]:
        """The outcomes in a line, or in a body where ``has_lines`` is not set.

        Raises ``MalformedError``.
        """


def encoded(value: Any) -> bytes:
    """JSON in UTF-8, in one line. Raises ``ValueError`` or ``TypeError`` for what is none."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def as_body(value: Any) -> bytes:
    """A part of the vendor's JSON, as the body of an answer that came alone."""
    return json.dumps(value).encode()


def moment(value: object) -> float | None:
    """Unix seconds of an RFC 3339 time, or of such seconds; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < _MOST_SECONDS else None
    found = _MOMENT.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    zone = found[3] or "Z"
    text = found[1] + ("+00:00" if zone == "Z" else zone)
    try:
        return moment(datetime.fromisoformat(text).astimezone(timezone.utc).timestamp())
    except (ValueError, OverflowError):
        return None
