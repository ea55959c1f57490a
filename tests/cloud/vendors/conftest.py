"""Recorded traffic of the three vendors, which lies beside the repository and is not part of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nbllm.cloud.adapter import Adapter
from nbllm.cloud.transport.sse import SseDecoder
from nbllm.core.types import (
    Event,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    Message,
    ModelInfo,
)
from nbllm.testing import fake_info


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded request with its answer."""

    name: str
    url: str
    tags: frozenset[str]
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    request: Any = field(repr=False)

    @property
    def is_stream(self) -> bool:
        return "sse" in self.tags

    @property
    def is_good(self) -> bool:
        return self.status == 200


@cache
def _read_all(folder: Path) -> tuple[Recording, ...]:
    lines = (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(_read(folder, json.loads(line)["file"]) for line in lines)


def _read(folder: Path, name: str) -> Recording:
    raw = json.loads((folder / name).read_text(encoding="utf-8"))
    body = raw["response_body"] or ""
    is_text = raw["response_body_encoding"] == "utf-8"
    return Recording(
        name=name,
        url=raw["url"],
        tags=frozenset(raw["tags"]),
        status=raw["status"],
        headers={key.lower(): value for key, value in raw["response_headers"].items()},
        body=body.encode() if is_text else base64.b64decode(body),
        request=_json(raw["request_body"]),
    )


def _json(value: object) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


@pytest.fixture(scope="session")
def recordings(shared_folder: Path) -> Callable[..., list[Recording]]:
    """The recordings of a vendor that have all of the tags."""
    every = _read_all(shared_folder / "wire")

    def select(provider: str, *tags: str) -> list[Recording]:
        found = [r for r in every if r.name.startswith(f"{provider}/") and r.tags.issuperset(tags)]
        assert found, f"no recording of {provider} has the tags {tags}"
        return found

    return select


@pytest.fixture
def read() -> Callable[..., tuple[list[Event], GenerationResult]]:
    """The events and the result of a streamed answer, whose bytes come in these chunks."""

    def run(
        adapter: Adapter,
        info: ModelInfo,
        *chunks: bytes,
        request: GenerationRequest | None = None,
    ) -> tuple[list[Event], GenerationResult]:
        request = request or GenerationRequest((Message("user", "?"),), model=info)
        parser = adapter.stream_parser(info, request)
        decoder = SseDecoder()
        arrived = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.finish()
        return [event for item in arrived for event in parser.feed(item)], parser.finish()

    return run


@pytest.fixture
def info() -> Callable[..., ModelInfo]:
    """A cloud model by its vendor."""

    def make(model_type: str = "openai", **values: Any) -> ModelInfo:
        return ModelInfo(**{"name": "my-model", "model_type": model_type, "local": False, **values})

    return make


@pytest.fixture
def ask() -> Callable[..., GenerationRequest]:
    """A request with options, of a text or of messages."""

    def make(prompt: str | tuple[Message, ...] = "Hello", **options: Any) -> GenerationRequest:
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        return GenerationRequest(messages, GenerationOptions(**options), model=fake_info())

    return make
