"""The real engine on the real model."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import aclosing
from functools import partial
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.errors import (
    ContextLengthError,
    InvalidOptionError,
    ModelClosedError,
    ModelFileError,
    ModelLoadError,
    UnsupportedError,
)
from nbllm.core.types import (
    Completed,
    FinishReason,
    GenerationResult,
    ImagePart,
    Message,
    PromptProgress,
    ReasoningPart,
    TextDelta,
    TextPart,
)
from nbllm.local.ipc.worker_process import WorkerProcess
from nbllm.local.llama_cpp_model import LlamaCppModel

STORY = "Tell me a long story about a fox."
LONG_TEXT = "The quick brown fox jumps over the lazy dog. " * 100


@pytest.fixture(scope="module")
def load_tiny(load: Any, tiny_models: dict[str, Path]) -> Any:
    """For what depends on the engine alone: a model that computes thousands of tokens a second."""
    return partial(load, tiny_models["llama-q8_0"])


@pytest.fixture(scope="module")
def cramped(load_tiny: Any) -> Any:
    """A model whose context is soon full."""
    return load_tiny(context_length=256, parallel=4)


@pytest.fixture(scope="module")
def single(load: Any) -> Any:
    """The bundled model, for one answer at a time."""
    return load(parallel=1, context_length=2048)


async def first_deltas(model: LlamaCppModel, count: int, **options: Any) -> list[str]:
    """Read a stream until ``count`` deltas have come, then leave it."""
    texts: list[str] = []
    async with aclosing(model.stream(STORY, **options)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                texts.append(event.text)
            if len(texts) == count:
                break
    return texts


async def test_an_answer_comes_with_its_usage_timings_seed_and_device(
    model: LlamaCppModel,
) -> None:
    result = await model.generate("What is the capital of France?", temperature=0, max_tokens=40)
    assert result.text
    assert str(result) == result.text
    assert result.usage.prompt_tokens == 37
    assert 5 < result.usage.completion_tokens <= 40
    assert result.usage.cost_usd == 0.0
    times = result.timings
    assert times.first_token_seconds is not None
    assert times.total_seconds is not None
    assert 0 < times.first_token_seconds < times.total_seconds
    assert result.tokens_per_second
    assert result.tokens_per_second > 1
    assert result.device == "CPU"
    assert result.seed is not None


async def test_a_stream_gives_the_same_text_in_pieces(model: LlamaCppModel) -> None:
    deltas, result, tokens = [], None, 0
    async for event in model.stream(STORY, temperature=0, max_tokens=60):
        if isinstance(event, TextDelta):
            deltas.append(event.text)
            tokens += event.tokens or 0
        elif isinstance(event, Completed):
            result = event.result
    assert result is not None
    assert "".join(deltas) == result.text
    assert len(deltas) > 5
    assert result.finish_reason is FinishReason.LENGTH
    assert result.usage.completion_tokens == tokens == 60


async def test_the_same_seed_gives_the_same_text_whatever_came_between(
    model: LlamaCppModel,
) -> None:
    first = await model.generate(STORY, seed=7, temperature=1.0, max_tokens=16)
    await model.generate("Something else entirely.", max_tokens=5)
    again = await model.generate(STORY, seed=7, temperature=1.0, max_tokens=16)
    other = await model.generate(STORY, seed=8, temperature=1.0, max_tokens=16)
    assert first.text == again.text
    assert first.text != other.text
    assert first.seed == 7


async def test_a_seed_that_was_drawn_repeats_its_answer(model: LlamaCppModel) -> None:
    drawn = await model.generate(STORY, temperature=1.0, max_tokens=16)
    again = await model.generate(STORY, temperature=1.0, max_tokens=16, seed=drawn.seed)
    assert again.text == drawn.text


async def test_a_repeated_prompt_is_not_read_again(model: LlamaCppModel) -> None:
    text = LONG_TEXT[:900]
    first = await model.generate(text, max_tokens=2, temperature=0)
    again = await model.generate(text, max_tokens=2, temperature=0)
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert again.text == first.text
    assert again.timings.prompt_seconds is not None
    assert first.timings.prompt_seconds is not None
    assert again.timings.prompt_seconds < first.timings.prompt_seconds / 3


async def test_several_answers_are_written_at_the_same_time(model: LlamaCppModel) -> None:
    order: list[int] = []

    async def ask(number: int) -> GenerationResult:
        async for event in model.stream(f"Count from {number}.", temperature=0, max_tokens=20):
            if isinstance(event, TextDelta):
                order.append(number)
            if isinstance(event, Completed):
                return event.result
        raise AssertionError

    results = await asyncio.gather(*map(ask, range(6)))
    assert all(result.text for result in results)
    switches = sum(a != b for a, b in pairwise(order))
    assert switches > 12, "the answers came one after the other"


async def test_more_requests_than_places_wait_for_their_turn(load_tiny: Any) -> None:
    narrow, options = load_tiny(parallel=2), {"max_tokens": 60, "ignore_eos": True}
    results = await asyncio.gather(*(narrow.generate(f"Say {n}.", **options) for n in range(7)))
    assert all(result.usage.completion_tokens == 60 for result in results)
    assert max(result.timings.queue_seconds for result in results) > 0.01


async def test_answers_that_outgrow_the_shared_context_are_finished_all_the_same(
    cramped: LlamaCppModel,
) -> None:
    prompts = [f"Write a story about the number {n}." for n in range(4)]
    options: dict[str, Any] = {"max_tokens": 120, "temperature": 0, "ignore_eos": True}
    together = await asyncio.gather(*(cramped.generate(prompt, **options) for prompt in prompts))
    assert [r.usage.completion_tokens for r in together] == [120] * 4
    assert sum(r.usage.total_tokens for r in together) > 2 * 256


async def test_a_stop_string_that_spans_tokens_ends_the_answer(model: LlamaCppModel) -> None:
    grammar = 'root ::= "Counting: one, two, three, four, five, six."'
    stopped = await model.generate("Count.", grammar=grammar, temperature=0, stop="hree, fo")
    assert stopped.text == "Counting: one, two, t"
    assert stopped.finish_reason is FinishReason.STOP
    assert stopped.raw_finish_reason == "hree, fo"


async def test_an_emoji_of_several_tokens_streams_whole(model: LlamaCppModel) -> None:
    text = "\U0001f98a\U0001f9d1\u200d\U0001f680 caf\u00e9"
    deltas = [
        event.text
        async for event in model.stream("Go", response_schema={"const": text}, temperature=0)
        if isinstance(event, TextDelta)
    ]
    assert json.loads("".join(deltas)) == text
    assert "\ufffd" not in "".join(deltas)


async def test_a_schema_is_followed(model: LlamaCppModel) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
    }
    result = await model.generate("Paris", response_schema=schema, temperature=0, max_tokens=60)
    assert set(json.loads(result.text)) == {"city", "people"}


async def test_repetition_is_penalised(model: LlamaCppModel) -> None:
    prompt = [{"role": "user", "content": "Repeat: ha ha ha ha ha ha"}]
    plain = await model.generate(prompt, temperature=0, max_tokens=40)
    spread = await model.generate(prompt, temperature=0, max_tokens=40, repeat_penalty=1.8)
    assert plain.text != spread.text


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}, {"temperature": 0}]
)
async def test_each_way_of_narrowing_the_choice_to_one_is_greedy(
    model: LlamaCppModel, options: dict[str, float]
) -> None:
    base = {"temperature": 1.0, "max_tokens": 12}
    greedy = await model.generate(STORY, temperature=0, max_tokens=12)
    narrowed = await model.generate(STORY, **{**base, **options})
    assert narrowed.text == greedy.text


async def test_leaving_a_stream_frees_the_engine_within_a_step(single: LlamaCppModel) -> None:
    assert len(await first_deltas(single, 3, max_tokens=900)) == 3
    result = await single.generate("Hi", max_tokens=1)
    assert result.timings.queue_seconds < 0.2


async def test_cancelling_a_task_frees_the_engine_while_it_reads_a_prompt(
    single: LlamaCppModel,
) -> None:
    reading = asyncio.create_task(single.generate(LONG_TEXT))
    await asyncio.sleep(0.3)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    result = await single.generate("Hi", max_tokens=1)
    assert result.timings.queue_seconds < 0.2


async def test_a_long_prompt_tells_how_far_it_is_read(load_tiny: Any) -> None:
    fresh = load_tiny(context_length=8192)
    progress = [
        event
        async for event in fresh.stream(LONG_TEXT, max_tokens=1)
        if isinstance(event, PromptProgress)
    ]
    assert progress
    assert [p.processed for p in progress] == sorted({p.processed for p in progress})
    assert progress[-1].total > 900


async def test_a_prompt_longer_than_the_context_is_refused_with_the_counts(
    cramped: LlamaCppModel,
) -> None:
    with pytest.raises(ContextLengthError, match="256") as caught:
        await cramped.generate(LONG_TEXT)
    assert caught.value.context_length == 256
    assert caught.value.prompt_tokens
    assert caught.value.prompt_tokens > 900
    result = await cramped.generate("Hi", max_tokens=3)
    assert result.usage.completion_tokens > 0, "the model still works"


@pytest.mark.parametrize("length", [16, 300])
async def test_a_context_is_as_long_as_was_asked_for(load_tiny: Any, length: int) -> None:
    model = load_tiny(context_length=length)
    assert model.info.context_length == length
    with pytest.raises(ContextLengthError) as caught:
        await model.generate("word " * length)
    assert caught.value.context_length == length
    result = await model.generate("Hi", max_tokens=1_000, ignore_eos=True)
    assert result.usage.total_tokens <= length


async def test_an_answer_ends_where_the_context_ends(cramped: LlamaCppModel) -> None:
    result = await cramped.generate(STORY, temperature=0, ignore_eos=True)
    assert result.finish_reason is FinishReason.LENGTH
    assert 250 < result.usage.total_tokens <= 256


async def test_tokens_and_text_convert_both_ways(model: LlamaCppModel) -> None:
    tokens = await model.tokenize("Hello, w\u00f6rld \U0001f98a")
    assert len(tokens) > 3
    assert await model.detokenize(tokens) == "Hello, w\u00f6rld \U0001f98a"
    count = await model.count_tokens("What is the capital of France?")
    assert (count, count.tokens, count.exact) == (37, 37, True)
    assert await model.count_tokens("Hello, wörld", template=False) == len(
        await model.tokenize("Hello, wörld")
    )
    with pytest.raises(InvalidOptionError, match="tokens: 999999"):
        await model.detokenize([1, 999_999])


@settings(max_examples=25, deadline=None)
@given(text=st.text("aZ 0\n.{}\\\u00e9\u20ac\u65e5\U0001f98a", max_size=40))
def test_a_text_survives_the_tokenizer(model: LlamaCppModel, text: str) -> None:
    async def there_and_back() -> str:
        return await model.detokenize(await model.tokenize(text))

    assert asyncio.run(there_and_back()) == text


async def test_texts_become_vectors(model: LlamaCppModel) -> None:
    texts = ["A cat sleeps.", "A kitten naps.", "Quarterly revenue grew."]
    vectors = (await model.embed(texts)).vectors
    assert vectors.shape == (3, 576)
    alone = (await model.embed(texts[0])).vectors
    assert alone.shape == (1, 576)
    assert alone[0] == pytest.approx(vectors[0], abs=1e-4)
    unit = vectors / (vectors**2).sum(1, keepdims=True) ** 0.5
    assert unit[0] @ unit[1] > unit[0] @ unit[2]


async def test_another_models_reasoning_is_left_out(model: LlamaCppModel) -> None:
    plain = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")]
    parts = (ReasoningPart("They greet."), TextPart("Hello."))
    thought = [plain[0], Message("assistant", parts), plain[2]]
    assert await model.count_tokens(thought) == await model.count_tokens(plain)


async def test_what_a_local_model_cannot_do_is_said(model: LlamaCppModel) -> None:
    with pytest.raises(UnsupportedError, match="text only"):
        await model.generate(Message("user", (ImagePart(data=b"x"),)))
    with pytest.raises(UnsupportedError, match="extra"):
        await model.generate("Hi", extra={"a": 1})
    with pytest.raises(InvalidOptionError, match="temperature"):
        await model.generate("Hi", temprature=1)
    with pytest.raises(InvalidOptionError, match="texts must not contain an empty text"):
        await model.embed("")


def test_one_model_serves_two_event_loops_at_once(model: LlamaCppModel) -> None:
    texts: dict[int, str] = {}

    def ask(number: int) -> None:
        result = asyncio.run(model.generate(f"Say {number}.", max_tokens=15, temperature=0))
        texts[number] = result.text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(texts[n] for n in range(3))


async def test_the_engines_log_does_not_reach_the_screen(
    load_tiny: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    await load_tiny().generate("Hi", max_tokens=2)
    assert capfd.readouterr() == ("", "")


async def test_a_closed_model_says_so(load_tiny: Any) -> None:
    model = load_tiny()
    await model.aclose()
    await model.aclose()
    assert not model.usable
    with pytest.raises(ModelClosedError, match="load it again"):
        await model.generate("Hi")


async def test_closing_ends_running_answers_with_what_they_had(load_tiny: Any) -> None:
    model = load_tiny()
    texts: list[str] = []
    started = asyncio.Event()

    async def read() -> None:
        async for event in model.stream(STORY, temperature=0, ignore_eos=True):
            if isinstance(event, TextDelta):
                texts.append(event.text)
                started.set()

    reading = asyncio.create_task(read())
    await started.wait()
    await model.aclose()
    with pytest.raises(ModelClosedError) as caught:
        await reading
    assert caught.value.partial_text == "".join(texts)


def test_a_file_of_an_unknown_architecture_is_refused_with_the_engines_words(
    load: Any, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    odd = tmp_path / "odd.gguf"
    key = b"general.architecture"
    data = tiny_models["llama"].read_bytes()
    start = data.index(b"llama", data.index(key))
    odd.write_bytes(data[:start] + b"lxxma" + data[start + 5 :])
    with pytest.raises(ModelLoadError, match="unknown model architecture: 'lxxma'") as caught:
        load(odd)
    assert caught.value.log


def test_an_error_waits_for_the_log_that_explains_it(
    load: Any, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = WorkerProcess._read_log

    def read_late(self: WorkerProcess[Any], pipe: FileIO) -> None:
        time.sleep(1.0)
        read(self, pipe)

    monkeypatch.setattr(WorkerProcess, "_read_log", read_late)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_models["llama"].read_bytes().replace(b"output_norm.w", b"output_norm.x"))
    with pytest.raises(ModelLoadError, match=r"tensor 'output_norm\.weight' not found"):
        load(cut)


def test_a_file_that_is_no_model_is_refused_before_the_engine_starts(
    load: Any, tmp_path: Path
) -> None:
    page = tmp_path / "page.gguf"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    with pytest.raises(ModelFileError, match="HTML"):
        load(page)
    with pytest.raises(ModelFileError):
        load(tmp_path / "absent.gguf")


async def test_log_probabilities_come_with_the_tokens_they_belong_to(model: LlamaCppModel) -> None:
    prompt = "Say: ééé, ééé, ééé 🦊"
    result = await model.generate(prompt, temperature=0, max_tokens=24, logprobs=2)
    assert len(result.logprobs) == result.usage.completion_tokens
    written = b"".join(token.data or b"" for token in result.logprobs)
    assert written.decode().startswith(result.text)
    assert all(token.logprob == token.top[0].logprob for token in result.logprobs)
    assert all(len(token.top) == 2 for token in result.logprobs)
    assert (await model.generate("Hi", max_tokens=2)).logprobs == ()


async def test_stop_tokens_and_the_end_that_is_ignored(model: LlamaCppModel) -> None:
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 40}
    plain = await model.generate("What is 1+1?", **greedy)
    assert plain.finish_reason is FinishReason.STOP
    more = await model.generate("What is 1+1?", ignore_eos=True, **greedy)
    assert more.finish_reason is FinishReason.LENGTH
    assert more.text.startswith(plain.text)
    short = await model.generate("What is 1+1?", stop_tokens=[" mathematics"], **greedy)
    assert short.text == plain.text.partition(" mathematics")[0]
    assert short.finish_reason is FinishReason.STOP
