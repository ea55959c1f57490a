"""What the vendors' batch APIs share: batches that are described in JSON, alone and in pages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.adapter import HttpRequest
from nbllm.cloud.vendors.json_values import load_json, mapping, reading, sequence
from nbllm.core.runs import VendorBatch
from nbllm.core.types import ModelInfo

__all__ = ["BatchAnswers"]


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
