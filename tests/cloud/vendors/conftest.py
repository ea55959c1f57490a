"""Exchanges with the three vendors: one of each kind here, and many recorded ones where they lie.

Those in ``exchanges`` were written by hand in the form of the vendors' documented protocols, so
that a clone alone tests the adapters. The recorded ones lie beside the repository, if anywhere.
"""

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
    """One request with its answer."""

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


RECORDED = Path(__file__).parents[4] / "shared" / "wire"
WRITTEN = Path(__file__).parent / "exchanges"


@cache
def _read_all(recorded: Path) -> tuple[Recording, ...]:
    """All that are written here, and those of the folder ``recorded`` where it exists."""
    written = sorted(WRITTEN.rglob("*.json"))
    index = recorded / "index.jsonl"
    lines = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
    names = [json.loads(line)["file"] for line in lines]
    return (*map(_read_written, written), *(_read(recorded, name) for name in names))


def _read_written(path: Path) -> Recording:
    """A body is a JSON value, or the lines of a stream, with their ``newline`` ("\\n")."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    body = raw["body"]
    is_lines = isinstance(body, list)
    text = raw.get("newline", "\n").join(body) if is_lines else json.dumps(body, indent=2)
    return Recording(
        name=path.relative_to(WRITTEN).as_posix(),
        url=raw["url"],
        tags=frozenset(raw["tags"]),
        status=raw["status"],
        headers=raw["headers"],
        body=text.encode(),
        request=raw["request"],
    )


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
def recordings() -> Callable[..., list[Recording]]:
    """The exchanges with a vendor that have all of the tags."""
    every = _read_all(RECORDED)

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
