"""Recorded answers of Gemini, against what Google's own SDK makes of the same bytes."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest

from nbllm.cloud.transport.sse import SseDecoder
from nbllm.cloud.vendors.gemini import GeminiAdapter
from nbllm.core.types import GenerationResult, TextDelta

ADAPTER = GeminiAdapter()


@dataclass(frozen=True)
class Seen:
    text: str
    reasoning: str
    calls: list[tuple[str, Any]]
    finish: str | None
    usage: tuple[int, int, int, int]


def ours(result: GenerationResult) -> Seen:
    usage = result.usage
    return Seen(
        result.text,
        result.reasoning,
        [(call.name, call.parsed_arguments()) for call in result.tool_calls],
        result.raw_finish_reason,
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
        ),
    )


class Sdk:
    """Google's SDK, which gets a recorded answer for whatever it asks."""

    def __init__(self) -> None:
        genai = pytest.importorskip("google.genai")  # seconds, for one worker's tests alone
        self._http = httpx2 = pytest.importorskip("httpx2")
        self.recording: Any = None
        client = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        self.client = genai.Client(
            api_key="none",
            http_options=genai.types.HttpOptions(
                base_url="http://vendor.invalid", httpx_client=client
            ),
        )

    def _answer(self, request: Any) -> Any:
        kind = "text/event-stream" if self.recording.is_stream else "application/json"
        return self._http.Response(
            self.recording.status, headers={"content-type": kind}, content=self.recording.body
        )

    def content(self, recording: Any) -> Seen:
        self.recording = recording
        models = self.client.models
        if recording.is_stream:
            chunks = list(models.generate_content_stream(model="m", contents="?"))
        else:
            chunks = [models.generate_content(model="m", contents="?")]
        usage = next((c.usage_metadata for c in reversed(chunks) if c.usage_metadata), None)
        firsts = [chunk.candidates[0] for chunk in chunks if chunk.candidates]
        parts = [
            part
            for candidate in firsts
            for part in (candidate.content and candidate.content.parts) or []
        ]
        thoughts = (usage and usage.thoughts_token_count) or 0
        return Seen(
            "".join(part.text for part in parts if part.text and not part.thought),
            "".join(part.text for part in parts if part.text and part.thought),
            [(p.function_call.name, p.function_call.args or {}) for p in parts if p.function_call],
            next((c.finish_reason.value for c in reversed(firsts) if c.finish_reason), None),
            (
                (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
                (usage.candidates_token_count or 0) + thoughts,
                usage.cached_content_token_count or 0,
                thoughts,
            ),
        )


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    return Sdk()


def as_stream(recording: Any) -> Any:
    """A JSON array of chunks, which the SDK cannot read, as the events that say the same."""
    chunks = json.loads(recording.body)
    body = "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks).encode()
    return replace(recording, body=body, tags=recording.tags | {"sse"})


@pytest.mark.filterwarnings("ignore")
def test_streams_say_what_the_sdk_says(recordings: Any, sdk: Sdk, read: Any, info: Any) -> None:
    for recording in recordings("gemini", "ep:streamGenerateContent", "sse"):
        events, result = read(ADAPTER, info("gemini"), recording.body)
        assert ours(result) == sdk.content(recording), recording.name
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text


@pytest.mark.filterwarnings("ignore")
def test_arrays_of_chunks_say_what_the_sdk_says(
    recordings: Any, sdk: Sdk, info: Any, ask: Any
) -> None:
    for recording in recordings("gemini", "stream-json-array"):
        result = ADAPTER.parse_answer(info("gemini"), ask(), recording.body)
        assert ours(result) == sdk.content(as_stream(recording)), recording.name


@pytest.mark.filterwarnings("ignore")
def test_whole_answers_say_what_the_sdk_says(
    recordings: Any, sdk: Sdk, info: Any, ask: Any
) -> None:
    for recording in recordings("gemini", "ep:generateContent"):
        if recording.is_good:
            result = ADAPTER.parse_answer(info("gemini"), ask(), recording.body)
            assert ours(result) == sdk.content(recording), recording.name


def test_streams_at_random_cuts_and_byte_by_byte(recordings: Any, read: Any, info: Any) -> None:
    for recording in recordings("gemini", "ep:streamGenerateContent", "sse"):
        body, whole, decoder = recording.body, SseDecoder(), SseDecoder()
        cuts = sorted(random.Random(recording.name).choices(range(len(body) + 1), k=20))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        assert read(ADAPTER, info(), *pieces) == read(ADAPTER, info(), body)
        events = [e for i in range(len(body)) for e in decoder.feed(body[i : i + 1])]
        assert events + decoder.finish() == whole.feed(body) + whole.finish()


def test_every_signature_is_kept(recordings: Any, read: Any, info: Any) -> None:
    for recording in recordings("gemini", "thought-signature", "sse"):
        _, result = read(ADAPTER, info(), recording.body)
        sent = set(filter(None, (getattr(part, "signature", None) for part in result.parts)))
        written = recording.body.decode().count('"thoughtSignature"')
        assert len(sent) == written, recording.name


def test_embeddings_and_counts(recordings: Any, info: Any) -> None:
    for recording in recordings("gemini", "ep:embedContent"):
        ours = ADAPTER.parse_embeddings(info(), [recording.body])
        answer = json.loads(recording.body)
        theirs = [e["values"] for e in answer.get("embeddings") or [answer["embedding"]]]
        for row, values in zip(ours.vectors, theirs, strict=True):
            assert row.tolist() == pytest.approx(values, rel=1e-6)
    for recording in recordings("gemini", "ep:countTokens"):
        count = ADAPTER.parse_count(info(), recording.body)
        assert count == json.loads(recording.body)["totalTokens"]


def test_errors(recordings: Any, info: Any) -> None:
    failed = {r.status: r for r in recordings("gemini") if not r.is_good}
    bad_key, limited = (
        ADAPTER.parse_error(info("gemini"), status, failed[status].headers, failed[status].body)
        for status in (400, 429)
    )
    assert type(bad_key).__name__ == "AuthenticationError"
    assert (bad_key.code, bad_key.retryable) == ("API_KEY_INVALID", False)
    assert type(limited).__name__ == "RateLimitError"
    assert limited.retryable
    assert limited.retry_after_seconds == 48
