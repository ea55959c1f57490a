"""The vendors' batch protocols read what is odd, or say that it is no such protocol."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from nbllm.cloud.cloud_batches import BatchProtocol, moment
from nbllm.cloud.vendors import batches_for
from nbllm.cloud.vendors.json_values import MalformedError
from nbllm.core.errors import ProtocolError
from nbllm.core.types import ModelInfo

from .conftest import RECORDED

ODD = [
    None,
    True,
    0,
    -1,
    1e999,
    10**400,
    "",
    "²",
    "\ud800",
    "9" * 5000,
    "x",
    [],
    [None],
    {},
    {"a": 1},
]
STATES: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "batch_1",
        "status": "failed",
        "created_at": 1_700_000_000,
        "metadata": {"nbllm": "t"},
        "request_counts": {"total": 3, "completed": 2, "failed": 1},
        "errors": {"data": [{"message": "m", "line": 2, "code": "c"}]},
        "output_file_id": "f",
        "error_file_id": "g",
    },
    "anthropic": {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "created_at": "2026-01-01T00:05:23.250396+00:00",
        "request_counts": {"processing": 0, "succeeded": 2, "errored": 1},
    },
    "gemini": {
        "name": "batches/1",
        "done": True,
        "error": {"code": 3, "message": "m"},
        "metadata": {
            "displayName": "nbllm-t",
            "state": "BATCH_STATE_FAILED",
            "createTime": "2026-01-01T00:05:23.250396123Z",
            "batchStats": {"requestCount": "3", "successfulRequestCount": "2"},
        },
    },
}
RESULTS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"custom_id": "k", "response": {"status_code": 200, "body": {"a": 1}}, "error": None},
        {"custom_id": "k", "response": None, "error": {"code": "batch_expired", "message": "m"}},
    ],
    "anthropic": [
        {"custom_id": "k", "result": {"type": "succeeded", "message": {"a": 1}}},
        {"custom_id": "k", "result": {"type": "errored", "error": {"error": {"type": "x"}}}},
        {"custom_id": "k", "result": {"type": "expired"}},
    ],
    "gemini": [
        {
            "response": {
                "inlinedResponses": {
                    "inlinedResponses": [
                        {"metadata": {"key": "k"}, "response": {"a": 1}},
                        {"metadata": {"key": "k"}, "error": {"code": 1, "message": "m"}},
                    ]
                }
            }
        }
    ],
}


@pytest.fixture(params=["openai", "anthropic", "gemini"])
def info(request: pytest.FixtureRequest) -> ModelInfo:
    return ModelInfo(name="m", model_type=request.param, local=False)


@pytest.fixture
def protocol(info: ModelInfo) -> BatchProtocol:
    found = batches_for(info)
    assert found is not None
    return found


def changed(value: Any) -> Iterator[Any]:
    """The value with each part of it in turn replaced by something odd, or left out."""
    yield from ODD
    if isinstance(value, dict):
        for key, each in value.items():
            yield {name: part for name, part in value.items() if name != key}
            yield from ({**value, key: other} for other in changed(each))
    if isinstance(value, list):
        for place, each in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in changed(each))


def test_a_batch_is_read(info: ModelInfo, protocol: BatchProtocol) -> None:
    batch = protocol.parse_state(info, json.dumps(STATES[info.model_type]).encode())
    assert batch.is_over
    assert batch.created is not None
    assert batch.total == 3
    assert batch.done == 2
    assert (batch.tag == "t") == protocol.has_tags
    assert bool(batch.problem) == (info.model_type != "anthropic")


def test_an_odd_batch_is_read_or_told(info: ModelInfo, protocol: BatchProtocol) -> None:
    bodies = [json.dumps(each).encode() for each in changed(STATES[info.model_type])]
    for body in [*bodies, b"", b"<html>", b"\xff"]:
        for read in (protocol.parse_state, protocol.parse_list):
            with suppress(ProtocolError):
                read(info, body)


def test_odd_results_are_read_or_left_out(info: ModelInfo, protocol: BatchProtocol) -> None:
    for line in RESULTS[info.model_type]:
        assert [each.key for each in protocol.parse_results(json.dumps(line).encode())]
        for other in changed(line):
            with suppress(MalformedError):
                for outcome in protocol.parse_results(json.dumps(other).encode()):
                    assert isinstance(outcome.key, str)


def test_cut_results_are_left_out(info: ModelInfo, protocol: BatchProtocol) -> None:
    line = json.dumps(RESULTS[info.model_type][0]).encode()
    for end in random.Random(1).sample(range(1, len(line)), 20):
        with pytest.raises(MalformedError):
            list(protocol.parse_results(line[:end]))


def test_what_anthropic_answered_once_is_read() -> None:
    (file,) = [*(RECORDED / "anthropic").glob("*batch_chat-test_can_submit*")] or [None]
    if file is None:
        pytest.skip("the recorded traffic is not here")
    info = ModelInfo(name="m", model_type="anthropic", local=False)
    protocol = batches_for(info)
    assert protocol is not None
    exchange = json.loads(file.read_text())
    batch = protocol.parse_state(info, exchange["response_body"].encode())
    assert (batch.state, batch.is_over, batch.total) == ("in_progress", False, 2)
    sent = json.loads(exchange["request_body"])["requests"]
    created = protocol.create_request(info, "", "", [json.dumps(row).encode() for row in sent], b"")
    assert json.loads(created.content or b"") == {"requests": sent}
    assert exchange["url"].endswith(created.path)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10.123456789+01:00", 10.0),
        (12, 12.0),
        ("0000-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-23:00", None),
        (1e300, None),
        (True, None),
        (None, None),
    ],
)
def test_moments(written: object, seconds: float | None) -> None:
    assert moment(written) == seconds
