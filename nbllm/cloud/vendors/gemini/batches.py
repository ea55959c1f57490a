"""Gemini's Batch API: https://ai.google.dev/api/batch-api.

The requests are in the one that creates a batch, and their results in its description. Larger
batches could be uploaded as files; here they are several smaller ones instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from nbllm.cloud.adapter import HttpRequest
from nbllm.cloud.cloud_batches import BatchAnswers, BatchProtocol, as_body, encoded, moment
from nbllm.cloud.vendors.gemini.contents_requests import method_path, versioned_path
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    required,
    sequence,
    text,
)
from nbllm.core.runs import VendorBatch, VendorOutcome
from nbllm.core.types import ModelInfo

__all__ = ["BATCHES"]

_OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
_COUNT = re.compile(r"[0-9]{1,15}")
_PREFIXES = ("BATCH_STATE_", "JOB_STATE_")
_STATUS = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 14: 503, 16: 401}
"""HTTP's status of a code of google.rpc.Code, as https://cloud.google.com/apis/design/errors."""


class _GeminiBatches(BatchAnswers):
    vendor = "Gemini"
    most_rows = 10_000
    most_bytes = 18_000_000
    has_tags = True
    has_lines = False
    _LISTED = "operations"

    def row(self, key: str, request: HttpRequest) -> tuple[str, Mapping[str, Any]]:
        return "", {"request": request.body, "metadata": {"key": key}}

    def create_request(
        self, info: ModelInfo, tag: str, group: str, rows: Sequence[bytes], uploaded: bytes
    ) -> HttpRequest:
        head = b'{"batch":{"displayName":' + encoded(_name(tag))
        content = head + b',"inputConfig":{"requests":{"requests":[' + b",".join(rows) + b"]}}}}"
        path = method_path(info, "batchGenerateContent")
        return HttpRequest(path, headers={"content-type": "application/json"}, content=content)

    def state_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        return HttpRequest(versioned_path(info, quote(batch)), method="GET")

    def cancel_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        return HttpRequest(versioned_path(info, f"{quote(batch)}:cancel"))

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        token = f"&pageToken={quote(page, safe='')}" if page else ""
        return HttpRequest(versioned_path(info, f"batches?pageSize=20{token}"), method="GET")

    def results_requests(self, info: ModelInfo, batch: VendorBatch) -> Sequence[HttpRequest]:
        return [self.state_request(info, batch.id)]

    def parse_results(self, piece: bytes) -> Iterator[VendorOutcome]:
        operation = mapping(load_json(piece), "the batch")
        for item in _inlined(operation):
            with suppress(MalformedError):  # one that is odd says nothing about the others
                yield _outcome(mapping(item, "a result"))

    def _next(self, page: Mapping[str, Any], batches: Sequence[VendorBatch]) -> str | None:
        return text(page.get("nextPageToken"), "nextPageToken") or None

    def _batch(self, item: Mapping[str, Any]) -> VendorBatch:
        about = mapping(item.get("metadata"), "metadata") or item
        counts = mapping(about.get("batchStats"), "batchStats")
        state = text(about.get("state"), "state")
        for prefix in _PREFIXES:
            state = state.removeprefix(prefix)
        error = mapping(item.get("error"), "error")
        is_over = state in _OVER or item.get("done") is True
        problem = str(error.get("message") or "no reason was given") if state == "FAILED" else ""
        return VendorBatch(
            id=_id(item, about),
            state=state.lower() or ("done" if is_over else "pending"),
            is_over=is_over,
            total=_number(counts.get("requestCount")),
            done=_number(counts.get("successfulRequestCount")),
            failed=_number(counts.get("failedRequestCount")),
            created=moment(about.get("createTime")),
            tag=text(about.get("displayName"), "displayName").removeprefix("nbllm-"),
            problem=problem,
        )


BATCHES: BatchProtocol = _GeminiBatches()


def _name(tag: str) -> str:
    return f"nbllm-{tag}"


def _outcome(result: Mapping[str, Any]) -> VendorOutcome:
    key = required(mapping(result.get("metadata"), "metadata"), "key")
    if result.get("response") is not None:
        return VendorOutcome(key=key, body=as_body(result["response"]))
    return _failed(key, mapping(result.get("error"), "error"))


def _failed(key: str, error: Mapping[str, Any]) -> VendorOutcome:
    code = error.get("code")
    number = code if isinstance(code, int) else 13
    status = number if number >= 400 else _STATUS.get(number, 500)
    verdict = "cancelled" if number == 1 else ""
    # As the body of an error that comes alone, in which the code is HTTP's.
    body = as_body({"error": {**error, "code": status}})
    return VendorOutcome(key=key, status=status, body=body, verdict=verdict)


def _inlined(operation: Mapping[str, Any]) -> list[Any]:
    """The results, which stand in the response of an operation or in its metadata."""
    about = mapping(operation.get("metadata"), "metadata")
    response = mapping(operation.get("response"), "response")
    for place in (response, response.get("output"), about.get("output")):
        found = mapping(place, "output").get("inlinedResponses")
        if isinstance(found, Mapping):
            found = found.get("inlinedResponses")
        if found is not None:
            return sequence(found, "inlinedResponses")
    return []


def _id(item: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    name = required(item if item.get("name") else about, "name")
    if not name.startswith("batches/"):
        raise MalformedError(f"the name of a batch is {name[:80]!r}")
    return name


def _number(value: object) -> int:
    """A count: int64 values are strings in Google's JSON, and zero is left out."""
    if isinstance(value, str):
        value = int(value) if _COUNT.fullmatch(value) else 0
    return count(value)
