"""Anthropic's message batches: https://platform.claude.com/docs/en/build-with-claude/batch-processing.

The rows are in the request that creates a batch. Its list of batches has no names or tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nbllm.cloud.adapter import HttpRequest
from nbllm.cloud.cloud_batches import BatchAnswers, BatchProtocol, as_body, moment
from nbllm.cloud.vendors.anthropic.messages_requests import VERSION, versioned_path
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    required,
    text,
)
from nbllm.core.runs import VendorBatch, VendorOutcome
from nbllm.core.types import ModelInfo

__all__ = ["BATCHES"]

_DONE = ("succeeded", "errored", "canceled", "expired")
_VERDICTS = {"expired": "expired", "canceled": "cancelled"}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""https://platform.claude.com/docs/en/api/errors"""


class _AnthropicBatches(BatchAnswers):
    vendor = "Anthropic"
    most_rows = 100_000
    most_bytes = 255_000_000
    has_tags = False
    has_lines = True

    def row(self, key: str, request: HttpRequest) -> tuple[str, Mapping[str, Any]]:
        return "", {"custom_id": key, "params": request.body}

    def create_request(
        self, info: ModelInfo, tag: str, group: str, rows: Sequence[bytes], uploaded: bytes
    ) -> HttpRequest:
        headers = {**VERSION, "content-type": "application/json"}
        content = b'{"requests":[' + b",".join(rows) + b"]}"
        return HttpRequest(_path(info), headers=headers, content=content)

    def state_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        return HttpRequest(_path(info, batch), headers=VERSION, method="GET")

    def cancel_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        return HttpRequest(f"{_path(info, batch)}/cancel", headers=VERSION)

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        after = f"&after_id={quote(page, safe='')}" if page else ""
        return HttpRequest(f"{_path(info)}?limit=100{after}", headers=VERSION, method="GET")

    def results_requests(self, info: ModelInfo, batch: VendorBatch) -> Sequence[HttpRequest]:
        # Not the address in results_url: the key goes to the model's own address alone.
        return [HttpRequest(f"{_path(info, batch.id)}/results", headers=VERSION, method="GET")]

    def parse_results(self, piece: bytes) -> Iterator[VendorOutcome]:
        line = mapping(load_json(piece), "a result")
        key = text(line.get("custom_id"), "custom_id")
        result = mapping(line.get("result"), "result")
        match result.get("type"):
            case "succeeded":
                yield VendorOutcome(key=key, body=as_body(result.get("message")))
            case "errored":
                error = mapping(result.get("error"), "error")
                kind = mapping(error.get("error"), "error").get("type", error.get("type"))
                yield VendorOutcome(
                    key=key, status=_STATUS.get(str(kind), 500), body=as_body(error)
                )
            case "expired" | "canceled" as verdict:
                yield VendorOutcome(key=key, verdict=_VERDICTS[verdict])
            case other:
                raise MalformedError(f"a result of an unknown type: {other!r}")

    def _batch(self, item: Mapping[str, Any]) -> VendorBatch:
        counts = mapping(item.get("request_counts"), "request_counts")
        ended = {name: count(counts.get(name)) for name in _DONE}
        state = text(item.get("processing_status"), "processing_status")
        return VendorBatch(
            id=required(item, "id"),
            state=state,
            is_over=state == "ended",
            total=sum(ended.values()) + count(counts.get("processing")),
            done=ended["succeeded"],
            failed=ended["errored"] + ended["canceled"] + ended["expired"],
            created=moment(item.get("created_at")),
        )


BATCHES: BatchProtocol = _AnthropicBatches()


def _path(info: ModelInfo, batch: str | None = None) -> str:
    rest = "messages/batches"
    return versioned_path(info, rest if batch is None else f"{rest}/{quote(batch, safe='')}")
