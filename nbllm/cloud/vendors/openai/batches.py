"""OpenAI's Batch API: https://platform.openai.com/docs/guides/batch.

The rows are uploaded as a file, from which a batch is created. What succeeded is in one file,
what failed, expired or was cancelled in a second one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nbllm.cloud.adapter import HttpRequest
from nbllm.cloud.cloud_batches import BatchAnswers, BatchProtocol, as_body, moment
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    reading,
    required,
    sequence,
    text,
)
from nbllm.core.runs import VendorBatch, VendorOutcome
from nbllm.core.types import ModelInfo

__all__ = ["BATCHES"]

_OVER = ("completed", "failed", "expired", "cancelled")
_VERDICTS = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
_TAG = "nbllm"


class _OpenAIBatches(BatchAnswers):
    vendor = "OpenAI"
    most_rows = 50_000
    most_bytes = 200_000_000
    has_tags = True
    has_lines = True

    def row(self, key: str, request: HttpRequest) -> tuple[str, Mapping[str, Any]]:
        url = f"/v1/{request.path}"
        return url, {"custom_id": key, "method": "POST", "url": url, "body": request.body}

    def upload_request(self, tag: str, rows: Sequence[bytes]) -> HttpRequest:
        boundary = f"nbllm{tag}"
        disposition = "Content-Disposition: form-data; name="
        head = (
            f'--{boundary}\r\n{disposition}"purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\n{disposition}"file"; filename="nbllm-{tag}.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        content = head.encode() + b"\n".join(rows) + f"\r\n--{boundary}--\r\n".encode()
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        return HttpRequest("files", headers=kind, content=content)

    def create_request(
        self, info: ModelInfo, tag: str, group: str, rows: Sequence[bytes], uploaded: bytes
    ) -> HttpRequest:
        with reading(info):
            file = required(mapping(load_json(uploaded), "the uploaded file"), "id")
        body = {"input_file_id": file, "endpoint": group, "completion_window": "24h"}
        return HttpRequest("batches", {**body, "metadata": {_TAG: tag}})

    def state_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        return HttpRequest(f"batches/{quote(batch, safe='')}", method="GET")

    def cancel_request(self, info: ModelInfo, batch: str) -> HttpRequest:
        return HttpRequest(f"batches/{quote(batch, safe='')}/cancel")

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        after = f"&after={quote(page, safe='')}" if page else ""
        return HttpRequest(f"batches?limit=100{after}", method="GET")

    def results_requests(self, info: ModelInfo, batch: VendorBatch) -> Sequence[HttpRequest]:
        return [
            HttpRequest(f"files/{quote(file, safe='')}/content", method="GET")
            for file in batch.files
        ]

    def parse_results(self, piece: bytes) -> Iterator[VendorOutcome]:
        line = mapping(load_json(piece), "a result")
        key = text(line.get("custom_id"), "custom_id")
        response = mapping(line.get("response"), "response")
        if response:
            status = count(response.get("status_code")) or 200
            yield VendorOutcome(key=key, status=status, body=as_body(response.get("body")))
            return
        error = mapping(line.get("error"), "error")
        if not error:
            raise MalformedError("a result has neither a response nor an error")
        verdict = _VERDICTS.get(str(error.get("code")), "")
        yield VendorOutcome(key=key, status=500, body=as_body({"error": error}), verdict=verdict)

    def _batch(self, item: Mapping[str, Any]) -> VendorBatch:
        counts = mapping(item.get("request_counts"), "request_counts")
        named = (item.get(name) for name in ("output_file_id", "error_file_id"))
        state = text(item.get("status"), "status")
        files = tuple(file for file in named if isinstance(file, str) and file)
        is_written = bool(files) or not (counts.get("completed") or counts.get("failed"))
        return VendorBatch(
            id=required(item, "id"),
            state=state,
            is_over=state in _OVER and (is_written or state == "failed"),
            total=count(counts.get("total")),
            done=count(counts.get("completed")),
            failed=count(counts.get("failed")),
            created=moment(item.get("created_at")),
            tag=str(mapping(item.get("metadata"), "metadata").get(_TAG, "")),
            problem=_problem(item) if state == "failed" else "",
            files=files,
        )


BATCHES: BatchProtocol = _OpenAIBatches()


def _problem(item: Mapping[str, Any]) -> str:
    """Why a batch was not accepted: the first of its errors."""
    errors = sequence(mapping(item.get("errors"), "errors").get("data"), "data")
    told = [_told(mapping(error, "an error")) for error in errors[:3]]
    more = f" and {len(errors) - 3:,} more" if len(errors) > 3 else ""
    return "; ".join(told) + more or "no reason was given"


def _told(error: Mapping[str, Any]) -> str:
    line = f"line {error['line']}: " if isinstance(error.get("line"), int) else ""
    return f"{line}{error.get('message') or error.get('code')}"
