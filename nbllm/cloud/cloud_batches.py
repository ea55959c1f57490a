"""Batch APIs: what a vendor's folder provides as ``BATCHES``, and what drives it.

As in ``nbllm.cloud.adapter`` a vendor's part is pure functions. The requests in a batch are those
that its ``ADAPTER`` builds, and it reads their answers; a model's connection sends them.
"""

from __future__ import annotations

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Protocol

from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.vendors.json_values import MalformedError, load_json, mapping, reading, sequence
from nbllm.cloud.vendors.request_parts import check_not_local
from nbllm.core.errors import BatchError, InvalidOptionError, ModelError
from nbllm.core.runs import VendorBatch, VendorOutcome, VendorRow
from nbllm.core.types import GenerationRequest, GenerationResult, ModelInfo, Usage

__all__ = [
    "BatchAnswers",
    "BatchProtocol",
    "CloudBatches",
    "Connection",
    "as_body",
    "encoded",
    "moment",
]

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


_DESCRIPTION_LIMIT = 2**30
"""Bytes of a batch's description, which may hold all its answers."""
_MOST_PAGES = 50


@dataclass(frozen=True, slots=True)
class Connection:
    """What of a model's connection to its vendor is needed here.

    ``fetch`` gives a body of at most so many bytes, ``lines`` one in lines; ``shown`` waits for
    what ``fetch`` does, and ``fit_to_show`` takes keys out of an error. ``priced`` says what an
    answer costs that is not part of a batch.
    """

    fetch: Callable[..., Awaitable[bytes]]
    lines: Callable[[HttpRequest], AsyncGenerator[bytes, None]]
    shown: Callable[[Awaitable[bytes]], Awaitable[bytes]]
    fit_to_show: Callable[[ModelError], ModelError]
    priced: Callable[[Usage], Usage]


class CloudBatches:
    """``nbllm.core.runs.VendorBatches`` of a model behind HTTP."""

    def __init__(
        self, info: ModelInfo, adapter: Adapter, protocol: BatchProtocol, connection: Connection
    ) -> None:
        self._info, self._adapter = info, adapter
        self._protocol, self._connection = protocol, connection
        self.vendor = protocol.vendor
        self.most_rows, self.most_bytes = protocol.most_rows, protocol.most_bytes
        self.has_tags = protocol.has_tags

    def row(self, key: str, request: GenerationRequest) -> VendorRow:
        """The request as a row."""
        check_not_local(self._info, request.options)
        alone = self._adapter.generation_request(self._info, request, stream=False)
        group, value = self._protocol.row(key, alone)
        return VendorRow(key, group, _encoded(value))

    async def create(self, tag: str, rows: Sequence[VendorRow]) -> VendorBatch:
        """Send a batch: first its file, where the vendor wants one, which may be sent again."""
        data = [row.data for row in rows]
        upload = self._protocol.upload_request(tag, data)
        uploaded = b"" if upload is None else await self._fetch(upload)
        create = self._protocol.create_request(self._info, tag, rows[0].group, data, uploaded)
        return self._protocol.parse_state(self._info, await self._fetch(create, again=False))

    async def get(self, batch: str) -> VendorBatch:
        """How far the batch is."""
        body = await self._fetch(self._protocol.state_request(self._info, batch))
        return self._protocol.parse_state(self._info, body)

    async def cancel(self, batch: str) -> VendorBatch:
        """Ask for its end, and how far it is then."""
        await self._fetch(self._protocol.cancel_request(self._info, batch))
        return await self.get(batch)

    async def created_since(self, moment: float) -> list[VendorBatch]:
        """The batches that were created since then, as far as the vendor tells when."""
        found: list[VendorBatch] = []
        page: str | None = None
        for _ in range(_MOST_PAGES):
            body = await self._fetch(self._protocol.list_request(self._info, page))
            batches, page = self._protocol.parse_list(self._info, body)
            newer = [each for each in batches if each.created is None or each.created >= moment]
            found += newer
            if page is None or not newer:
                break
        return found

    async def outcomes(self, batch: VendorBatch) -> AsyncGenerator[VendorOutcome, None]:
        """What became of the requests."""
        for request in self._protocol.results_requests(self._info, batch):
            if not self._protocol.has_lines:
                whole = await self._fetch(request)
                for outcome in await asyncio.to_thread(self._outcomes, whole):
                    yield outcome
                continue
            async for line in self._connection.lines(request):
                for outcome in self._outcomes(line) if line.strip() else ():
                    yield outcome

    def _outcomes(self, piece: bytes) -> list[VendorOutcome]:
        try:
            return list(self._protocol.parse_results(piece))
        except (MalformedError, RecursionError):
            return []  # whose request that was cannot be known: it is told as missing

    def result(self, request: GenerationRequest, outcome: VendorOutcome) -> GenerationResult:
        """The answer, at half its price."""
        if outcome.verdict:
            raise BatchError(f"{outcome.verdict} before it was answered, and not charged")
        try:
            result = self._read(request, outcome)
        except ModelError as error:
            failure = self._connection.fit_to_show(error)
        else:
            usage = result.usage
            if usage.cost_usd is None:
                usage = self._connection.priced(usage)
                cost = usage.cost_usd
                usage = replace(usage, cost_usd=None if cost is None else cost / 2)
            return replace(result, usage=usage, schema=request.schema)
        raise failure

    def _read(self, request: GenerationRequest, outcome: VendorOutcome) -> GenerationResult:
        if 200 <= outcome.status < 300:
            return self._adapter.parse_answer(self._info, request, outcome.body)
        raise self._adapter.parse_error(self._info, outcome.status, {}, outcome.body)

    async def _fetch(self, request: HttpRequest, *, again: bool = True) -> bytes:
        fetch = self._connection.fetch(request, _DESCRIPTION_LIMIT, again=again)
        return await self._connection.shown(fetch)


def _encoded(value: Any) -> bytes:
    try:
        return encoded(value)
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(
            "request", f"cannot be encoded as JSON ({error}); check extra and the schemas"
        ) from None


class BatchAnswers(ABC):
    """Reads the descriptions of batches, for the contract of ``BatchProtocol``.

    ``_LISTED`` names the items of a page. Pages are as OpenAI and Anthropic have them, and rows are
    in the request that creates a batch, where a vendor's class says nothing else.
    """

    _LISTED = "data"

    @abstractmethod
    def _batch(self, item: Mapping[str, Any]) -> VendorBatch:
        """One batch by its description. Raises ``MalformedError``."""

    def _next(self, page: Mapping[str, Any], batches: Sequence[VendorBatch]) -> str | None:
        """What names the page behind this one; None: it is the last."""
        return batches[-1].id if batches and page.get("has_more") else None

    def upload_request(self, tag: str, rows: Sequence[bytes]) -> HttpRequest | None:
        """Nothing is sent ahead."""
        return None

    def parse_state(self, info: ModelInfo, body: bytes) -> VendorBatch:
        """A batch, also as the answer to its creation. Raises ``ProtocolError``."""
        with reading(info):
            return self._batch(mapping(load_json(body), "the batch"))

    def parse_list(self, info: ModelInfo, body: bytes) -> tuple[Sequence[VendorBatch], str | None]:
        """The batches of a page, and the next page. Raises ``ProtocolError``."""
        with reading(info):
            page = mapping(load_json(body), "the list of batches")
            items = sequence(page.get(self._LISTED), self._LISTED)
            batches = [self._batch(mapping(item, "a batch")) for item in items]
            return batches, self._next(page, batches)
