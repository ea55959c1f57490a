"""Recorded answers of OpenAI's protocol, against what OpenAI's own SDK makes of the same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nbllm.cloud.transport.sse import SseDecoder
from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.types import (
    GenerationResult,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)

ADAPTER = OpenAIAdapter()
OURS_ONLY = {
    # The SDK cannot accumulate Gemini's tool calls, which have no index.
    "tool calls without an index": lambda r: r.name.startswith("gemini/magentic"),
    # It adds up an id and a name that a server repeats, to "00" and "llm_versionllm_version".
    "repeated id and name": lambda r: "streaming_variant_a" in r.name,
}


@dataclass(frozen=True)
class Seen:
    text: str
    refusal: str
    calls: list[tuple[str, str, str]]
    finish: str | None
    usage: tuple[int | None, int | None, int, int]
    reasoning: str = ""


def ours(result: GenerationResult) -> Seen:
    usage = result.usage
    return Seen(
        result.text,
        result.refusal or "",
        [(call.id, call.name, call.arguments) for call in result.tool_calls],
        result.raw_finish_reason,
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
        ),
        result.reasoning,
    )


class Sdk:
    """OpenAI's SDK, which gets a recorded answer for whatever it asks."""

    def __init__(self) -> None:
        openai = pytest.importorskip("openai")  # seconds, for one worker's tests alone
        self._http = httpx2 = pytest.importorskip("httpx2")
        self.refusal: type[Any] = openai.APIStatusError
        self.recording: Any = None
        self.client = openai.OpenAI(
            api_key="none",
            base_url="http://vendor.invalid/v1",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
        )

    def _answer(self, request: Any) -> Any:
        kind = "text/event-stream" if self.recording.is_stream else "application/json"
        return self._http.Response(
            self.recording.status, headers={"content-type": kind}, content=self.recording.body
        )

    def chat(self, recording: Any) -> Seen:
        self.recording = recording
        create = self.client.chat.completions.create
        if recording.is_stream:
            from openai.lib.streaming.chat import ChatCompletionStreamState

            state = ChatCompletionStreamState()
            for chunk in create(model="m", messages=[], stream=True):
                state.handle_chunk(chunk)
            answer = state.current_completion_snapshot
        else:
            answer = create(model="m", messages=[])
        choice = next((c for c in answer.choices if c.index == 0), answer.choices[0])
        message = choice.message
        calls = [
            (call.id, call.function.name, call.function.arguments or "")
            for call in message.tool_calls or []
        ]
        if message.function_call:
            calls.append(("", message.function_call.name, message.function_call.arguments))
        return Seen(
            message.content or "",
            message.refusal or "",
            calls,
            choice.finish_reason,
            self._chat_usage(answer.usage),
        )

    @staticmethod
    def _chat_usage(usage: Any) -> tuple[int | None, int | None, int, int]:
        if usage is None:
            return (None, None, 0, 0)
        prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
        return (
            usage.prompt_tokens,
            usage.completion_tokens,
            (prompt and prompt.cached_tokens) or 0,
            (completion and completion.reasoning_tokens) or 0,
        )

    def responses(self, recording: Any) -> Seen:
        self.recording = recording
        create = self.client.responses.create
        if recording.is_stream:
            ends = ("response.completed", "response.incomplete")
            events = create(model="m", input="?", stream=True)
            answer = next(event.response for event in events if event.type in ends)
        else:
            answer = create(model="m", input="?")
        usage, details = answer.usage, answer.incomplete_details
        return Seen(
            answer.output_text,
            "".join(
                part.refusal
                for item in answer.output
                if item.type == "message"
                for part in item.content
                if part.type == "refusal"
            ),
            [(i.call_id, i.name, i.arguments) for i in answer.output if i.type == "function_call"],
            details.reason if details else answer.status,
            (
                usage.input_tokens,
                usage.output_tokens,
                usage.input_tokens_details.cached_tokens,
                usage.output_tokens_details.reasoning_tokens,
            ),
            "".join(
                "\n\n".join(part.text for part in item.summary)
                for item in answer.output
                if item.type == "reasoning"
            ),
        )


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    return Sdk()


def answers(recordings: Callable[..., list[Any]], endpoint: str, *tags: str) -> list[Any]:
    found = [r for r in recordings("openai", f"ep:{endpoint}", *tags) if r.is_good]
    if endpoint == "chat.completions":
        found += [r for r in recordings("gemini", "ep:chat.completions", "sse") if r.is_good]
    return [
        r for r in found if not r.url.endswith("/input_tokens") and r.is_stream == ("sse" in tags)
    ]


APIS = pytest.mark.parametrize(
    ("endpoint", "api"), [("chat.completions", "chat"), ("responses", "responses")]
)


@APIS
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
def test_streams_say_what_the_sdk_says(
    recordings: Any, sdk: Sdk, read: Any, info: Any, endpoint: str, api: str
) -> None:
    model = info(api=api)
    for recording in answers(recordings, endpoint, "sse"):
        events, result = read(ADAPTER, model, recording.body)
        seen = ours(result)
        if not any(applies(recording) for applies in OURS_ONLY.values()):
            theirs = sdk.chat(recording) if api == "chat" else sdk.responses(recording)
            assert seen == theirs, recording.name
        assert_events_add_up(events, result)


def assert_events_add_up(events: list[Any], result: GenerationResult) -> None:
    """What was shown piece by piece is what the result has."""
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == result.reasoning
    deltas = [e for e in events if isinstance(e, ToolCallDelta)]
    for index, call in enumerate(result.tool_calls):
        pieces = [delta for delta in deltas if delta.index == index]
        assert (pieces[0].id, pieces[0].name) == (call.id, call.name)
        assert "".join(piece.arguments for piece in pieces) == call.arguments


@APIS
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
def test_whole_answers_say_what_the_sdk_says(
    recordings: Any, sdk: Sdk, info: Any, ask: Any, endpoint: str, api: str
) -> None:
    model = info(api=api)
    for recording in answers(recordings, endpoint):
        result = ADAPTER.parse_answer(model, ask(), recording.body)
        theirs = sdk.chat(recording) if api == "chat" else sdk.responses(recording)
        assert ours(result) == theirs, recording.name


def test_streams_at_random_cuts(recordings: Any, read: Any, info: Any) -> None:
    for endpoint, api in (("chat.completions", "chat"), ("responses", "responses")):
        for recording in answers(recordings, endpoint, "sse"):
            body = recording.body
            cuts = sorted(random.Random(recording.name).choices(range(len(body) + 1), k=20))
            pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
            assert read(ADAPTER, info(api=api), *pieces) == read(ADAPTER, info(api=api), body)


def test_streams_byte_by_byte(recordings: Any) -> None:
    """The decoder's events decide everything, so they are compared without the parser."""
    for recording in recordings("openai", "sse"):
        body, whole, decoder = recording.body, SseDecoder(), SseDecoder()
        events = [e for i in range(len(body)) for e in decoder.feed(body[i : i + 1])]
        assert events + decoder.finish() == whole.feed(body) + whole.finish()


def test_embeddings(recordings: Any, sdk: Sdk, info: Any) -> None:
    for recording in recordings("openai", "ep:embeddings"):
        sdk.recording = recording
        theirs = sdk.client.embeddings.create(model="m", input="?")
        ours = ADAPTER.parse_embeddings(info(), [recording.body])
        assert ours.vectors.dtype == "float32"
        assert ours.vectors.shape[0] == len(theirs.data)
        for row, item in zip(ours.vectors, theirs.data, strict=True):
            assert row.tolist() == pytest.approx(item.embedding, abs=1e-6)
        assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens


def test_counts(recordings: Any, info: Any) -> None:
    counted = [r for r in recordings("openai", "ep:responses") if r.url.endswith("/input_tokens")]
    assert counted
    for recording in counted:
        assert ADAPTER.parse_count(info(), recording.body) > 0
        theirs = recording.request
        assert set(theirs) <= {"model", "input", "instructions", "tools", "text", "reasoning"}


@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
def test_errors_are_of_the_sdks_kind(recordings: Any, sdk: Sdk, info: Any) -> None:
    kinds = {
        "AuthenticationError": "AuthenticationError",
        "NotFoundError": "NotFoundError",
        "BadRequestError": "BadRequestError",
    }
    failed = [r for r in recordings("openai") if not r.is_good]
    assert failed
    for recording in failed:
        error = ADAPTER.parse_error(info(), recording.status, recording.headers, recording.body)
        sdk.recording = recording
        with pytest.raises(sdk.refusal) as theirs:
            sdk.client.chat.completions.create(model="m", messages=[])
        if theirs.value.code == "context_length_exceeded":
            assert type(error).__name__ == "ContextLengthError"
            continue
        assert type(error).__name__ == kinds[type(theirs.value).__name__]
        assert error.code == theirs.value.code
        assert error.status == recording.status
        assert error.retryable is False
