"""Recorded answers of Anthropic, against what Anthropic's own SDK makes of the same bytes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from nbllm.cloud.transport.sse import SseDecoder
from nbllm.cloud.vendors.anthropic import AnthropicAdapter
from nbllm.core.types import GenerationResult, ReasoningPart, TextDelta, ToolCallDelta

ADAPTER = AnthropicAdapter()
CUT_ARGUMENTS = "incomplete_partial_json_response"


@dataclass(frozen=True)
class Seen:
    text: str
    reasoning: str
    signatures: list[str]
    calls: list[tuple[str, str, Any]]
    finish: str | None
    usage: tuple[int, int, int]


def ours(result: GenerationResult, *, cut: bool = False) -> Seen:
    usage = result.usage
    signed = [p for p in result.parts if isinstance(p, ReasoningPart)]
    return Seen(
        result.text,
        result.reasoning,
        [part.signature or "" for part in signed],
        [(c.id, c.name, None if cut else c.parsed_arguments()) for c in result.tool_calls],
        result.raw_finish_reason,
        (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
    )


class Sdk:
    """Anthropic's SDK, which gets a recorded answer for whatever it asks."""

    def __init__(self) -> None:
        anthropic = pytest.importorskip("anthropic")  # seconds, for one worker's tests alone
        self._http = httpx2 = pytest.importorskip("httpx2")
        self.recording: Any = None
        self.client = anthropic.Anthropic(
            api_key="none",
            base_url="http://vendor.invalid",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
        )

    def _answer(self, request: Any) -> Any:
        kind = "text/event-stream" if self.recording.is_stream else "application/json"
        return self._http.Response(
            self.recording.status, headers={"content-type": kind}, content=self.recording.body
        )

    def message(self, recording: Any, *, cut: bool = False) -> Seen:
        self.recording = recording
        asked = {"model": "m", "max_tokens": 1, "messages": []}
        if recording.is_stream:
            with self.client.messages.stream(**asked) as stream:
                message = stream.get_final_message()
        else:
            message = self.client.messages.create(**asked)
        usage, blocks = message.usage, message.content
        read = usage.cache_read_input_tokens or 0
        written = usage.cache_creation_input_tokens or 0
        return Seen(
            "".join(block.text for block in blocks if block.type == "text"),
            "".join(block.thinking for block in blocks if block.type == "thinking"),
            [block.signature for block in blocks if block.type == "thinking"],
            [
                (block.id, block.name, None if cut else block.input)
                for block in blocks
                if block.type == "tool_use"
            ],
            message.stop_reason,
            (usage.input_tokens + read + written, usage.output_tokens, read),
        )


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    return Sdk()


def messages(recordings: Any, *, stream: bool) -> list[Any]:
    return [
        r
        for r in recordings("anthropic", "ep:messages")
        if r.is_good and r.is_stream == stream and r.url.endswith("/messages")
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:anthropic")
def test_streams_say_what_the_sdk_says(recordings: Any, sdk: Sdk, read: Any, info: Any) -> None:
    for recording in messages(recordings, stream=True):
        cut = CUT_ARGUMENTS in recording.name
        events, result = read(ADAPTER, info("anthropic"), recording.body)
        assert ours(result, cut=cut) == sdk.message(recording, cut=cut), recording.name
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
        calls = [e for e in events if isinstance(e, ToolCallDelta)]
        for index, call in enumerate(result.tool_calls):
            pieces = [e.arguments for e in calls if e.index == index]
            assert "".join(pieces) == call.arguments


@pytest.mark.filterwarnings("ignore::DeprecationWarning:anthropic")
def test_whole_answers_say_what_the_sdk_says(
    recordings: Any, sdk: Sdk, info: Any, ask: Any
) -> None:
    for recording in messages(recordings, stream=False):
        result = ADAPTER.parse_answer(info("anthropic"), ask(), recording.body)
        assert ours(result) == sdk.message(recording), recording.name


def test_streams_at_random_cuts(recordings: Any, read: Any, info: Any) -> None:
    for recording in messages(recordings, stream=True):
        body = recording.body
        cuts = sorted(random.Random(recording.name).choices(range(len(body) + 1), k=20))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        assert read(ADAPTER, info(), *pieces) == read(ADAPTER, info(), body)


def test_streams_byte_by_byte(recordings: Any) -> None:
    for recording in recordings("anthropic", "sse"):
        body, whole, decoder = recording.body, SseDecoder(), SseDecoder()
        events = [e for i in range(len(body)) for e in decoder.feed(body[i : i + 1])]
        assert events + decoder.finish() == whole.feed(body) + whole.finish()


def test_counts(recordings: Any, info: Any) -> None:
    for recording in recordings("anthropic", "ep:count_tokens"):
        assert ADAPTER.parse_count(info(), recording.body) > 0


def test_errors(recordings: Any, info: Any) -> None:
    failed = {r.status: r for r in recordings("anthropic") if not r.is_good}
    refused, too_long = (
        ADAPTER.parse_error(info("anthropic"), status, failed[status].headers, failed[status].body)
        for status in (401, 400)
    )
    assert type(refused).__name__ == "AuthenticationError"
    assert not refused.retryable
    assert refused.request_id == failed[401].headers["request-id"]
    assert type(too_long).__name__ == "ContextLengthError"
    assert f"{too_long.prompt_tokens} tokens > {too_long.context_length}" in str(failed[400].body)
