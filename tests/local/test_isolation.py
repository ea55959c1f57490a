"""An error of one request ends that request alone, wherever it happens."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbllm.local.engine import Engine
from nbllm.local.ipc.events import (
    ContextExceeded,
    Done,
    Embedded,
    OptionRefused,
    Step,
    TextExceeded,
    Tokenized,
)
from nbllm.local.ipc.operations import Embed, Generate, LoadSettings, Tokenize
from nbllm.local.ipc.protocol import Cancel, Close, Event, Failed, LastEvent, encode
from nbllm.local.llama.chat import ChatTemplate
from nbllm.local.llama.embedder import Embedder
from nbllm.local.llama.grammar import grammar_text
from nbllm.local.llama.native import NativeModel
from nbllm.local.llama.sampling import Sampler
from nbllm.local.llama.vocabulary import Vocabulary
from nbllm.local.rendering.client import Renderer
from nbllm.local.request_handler import RequestHandler
from nbllm.local.scheduling.slots import Slots
from nbllm.local.scheduling.writing import Reports, Writer
from nbllm.local.token_text import TextAssembler

TURNS = [{"role": "user", "content": "12345 678 90"}]
BAD, GOOD = 1, 2


@pytest.fixture(scope="module")
def native_model(tiny_models: dict[str, Path]) -> NativeModel:
    settings = LoadSettings(
        path=os.fsencode(tiny_models["mistral"]),
        context_length=512,
        parallel=4,
        sequences=4,
        threads=1,
        batch_threads=1,
        gpus=(),
        gpu_layers=0,
        tensor_split=(),
        kv_type="f16",
        flash_attention=None,
        batch_tokens=128,
        max_outputs=16,
        batch_invariant=False,
    )
    return NativeModel(settings, lambda fraction: None)


class Worker:
    """Request handler and engine as in a worker, with what they send."""

    def __init__(self, model: NativeModel) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.engine = Engine(model, self.events.put)
        self.renderer = Renderer()
        template = ChatTemplate(model.chat_template, model.vocabulary, self.renderer)
        self.handler = RequestHandler(model, self.engine, self.events.put, template)
        self.thread = threading.Thread(target=self.engine.run, daemon=True)
        self.thread.start()

    def generate(self, number: int, max_tokens: int = 20, **options: Any) -> None:
        options = {"temperature": 0, "ignore_eos": True, "max_tokens": max_tokens, **options}
        self.handler.handle(Generate(number, TURNS, options))

    def last_of(self, number: int) -> LastEvent:
        """The event that ends a request, with its whole text; what comes of others goes by."""
        text = ""
        while True:
            event = self.events.get(timeout=30)
            steps = event.texts if isinstance(event, Step) else ()
            text += "".join(more for id_, more, _ in steps if id_ == number)
            if isinstance(event, Done) and event.id == number:
                event.text = text + event.text
            if isinstance(event, LastEvent) and event.id == number:
                return event

    def text_of(self, number: int) -> str:
        event = self.last_of(number)
        assert isinstance(event, Done), event
        return event.text

    def works(self) -> bool:
        """Whether another request is answered, and nothing is left behind by those before."""
        self.generate(99, 3)
        assert isinstance(event := self.last_of(99), Done), event
        assert self.thread.is_alive()
        assert self.engine._requests.is_empty
        assert self.engine._requests.next_waiting() is None
        assert not list(self.engine._slots.running())
        return True


@pytest.fixture
def worker(native_model: NativeModel) -> Iterator[Worker]:
    running = Worker(native_model)
    yield running
    running.renderer.close()
    native_model.cells.clear()


class _OddError(Exception):
    """An error that nobody foresaw."""


def failing_for(bad: Callable[..., bool], known: Callable[..., Any]) -> Callable[..., Any]:
    """``known``, but an error where ``bad`` says so of its arguments."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if bad(*args, **kwargs):
            raise _OddError("injected")
        return known(*args, **kwargs)

    return call


Bad = Callable[..., bool]
PLACES: dict[str, tuple[type, str, Bad]] = {
    "template": (ChatTemplate, "render", lambda *_, **__: True),
    "tokenizer": (Vocabulary, "tokenize", lambda *_, **__: True),
    "sampler": (Sampler, "__init__", lambda *_: True),
    "text": (TextAssembler, "__init__", lambda *_: True),
    "submit": (Engine, "submit", lambda *_: True),
    "place": (Slots, "place", lambda _, task: task.id == BAD),
    "after the place": (Slots, "_follow", lambda _, task, __: task.id == BAD),
    "prepare": (Engine, "_prepare", lambda _, task, __: task.id == BAD),
    "advance": (Engine, "_advance", lambda _, row: row.task.id == BAD),
    "write": (Writer, "write", lambda _, row, __: row.task.id == BAD),
    "append": (Writer, "_append", lambda _, task, __: task.id == BAD),
    "end of the text": (Engine, "_finish", lambda _, task, __: task.id == BAD),
    "done": (Reports, "done", lambda _, task, __: task.id == BAD),
    "progress": (Reports, "progress", lambda _, task, __: task.id == BAD),
}
IN_THE_ENGINE = [name for name in PLACES if PLACES[name][0] in (Slots, Engine, Writer, Reports)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", PLACES)
def test_an_error_anywhere_ends_its_request(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    kind, name, bad = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, failing_for(bad, getattr(kind, name)))
        worker.generate(BAD)
        event = worker.last_of(BAD)
        assert isinstance(event, Failed)
        assert "_OddError: injected" in event.problem
    assert worker.works()


@pytest.mark.parametrize("place", [place for place in IN_THE_ENGINE if place != "submit"])
def test_those_beside_it_go_on_as_if_it_had_not_been(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    worker.generate(GOOD, 200)
    alone = worker.text_of(GOOD)
    kind, name, bad = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, failing_for(bad, getattr(kind, name)))
        worker.generate(GOOD, 200)
        worker.generate(BAD, 10)
        assert worker.text_of(GOOD) == alone
    assert worker.works()


def test_a_sampler_that_cannot_be_made_leaves_nothing_behind(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbllm.local.llama import sampling

    made: list[Any] = []
    freed: list[Any] = []
    known = sampling.lib.llama_sampler_chain_init, sampling.lib.llama_sampler_free
    with monkeypatch.context() as patch:
        patch.setattr(
            sampling.lib,
            "llama_sampler_chain_init",
            lambda params: made.append(known[0](params)) or made[-1],
        )
        patch.setattr(
            sampling.lib, "llama_sampler_free", lambda chain: freed.append(chain) or known[1](chain)
        )
        patch.setattr(
            sampling.lib,
            "llama_sampler_init_dist",
            failing_for(lambda *_: True, sampling.lib.llama_sampler_init_dist),
        )
        worker.generate(BAD, temperature=1.0)
        assert isinstance(worker.last_of(BAD), Failed)
    assert made
    assert sorted(map(str, made)) == sorted(map(str, freed))
    assert worker.works()


REQUESTS: list[dict[str, Any]] = [
    {"op": "tokenize", "text": None},
    {"op": "tokenize", "text": 5},
    {"op": "tokenize"},
    {"op": "detokenize", "tokens": None},
    {"op": "detokenize", "tokens": ["x"]},
    {"op": "detokenize", "tokens": [10**30]},
    {"op": "detokenize", "tokens": [-1]},
    {"op": "count", "messages": 5},
    {"op": "count", "messages": [5]},
    {"op": "count", "messages": [{}]},
    {"op": "embed", "texts": [float("nan")]},
    {"op": "embed", "texts": ["ok", 5]},
    {"op": "embed", "texts": None},
    {"op": "embed", "texts": []},
    {"op": "embed", "texts": [""]},
    {"op": "rerank", "query": 5, "documents": ["x"]},
    {"op": "rerank", "query": "x", "documents": [5]},
    {"op": "generate", "messages": TURNS, "options": None, "suffix": None},
    {"op": "generate", "messages": None, "options": {}, "suffix": None},
    {"op": "generate", "messages": TURNS, "options": {}, "suffix": 5},
    {"op": "generate", "messages": [{"role": 5, "content": 5}], "options": {}, "suffix": None},
    {"op": "nothing"},
    {"op": "handle"},
    {"op": "__init__"},
    {"op": "failed", "problem": "x"},
]
OPTIONS: list[dict[str, Any]] = [
    {"grammar": 5},
    {"temperature": "hot"},
    {"temperature": 10**400},
    {"top_k": "many"},
    {"top_k": None},
    {"seed": "x"},
    {"stop": 5},
    {"stop": [5]},
    {"stop_tokens": [10**30]},
    {"stop_tokens": ["two tokens"]},
    {"logit_bias": 5},
    {"logit_bias": [[10**30, 1.0]]},
    {"logit_bias": [[1, "x"]]},
    {"logit_bias": [[1, 10**400]]},
    {"logprobs": "x"},
    {"adapters": 5},
    {"dry_multiplier": 1.0, "dry_sequence_breakers": [5]},
    {"mirostat": 1, "mirostat_tau": "x"},
    {"repeat_last_n": "x"},
    {"response_schema": 5},
    {"tools": [{}]},
    {"tools": 5},
]


def line_of(request: dict[str, Any]) -> bytes:
    """What a parent would send, whose line names what it is of first."""
    op, rest = request["op"], {key: value for key, value in request.items() if key != "op"}
    return json.dumps({"op": op, "id": BAD, **rest}, separators=(",", ":")).encode()


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_request_with_the_wrong_values_is_refused(
    worker: Worker, request_: dict[str, Any]
) -> None:
    assert worker.handler.read(line_of(request_))
    assert isinstance(worker.last_of(BAD), Failed | OptionRefused)
    assert worker.works()


@pytest.mark.parametrize(
    "line",
    [b'{"op":"tokenize","id":1,"text":"\\ud83d"}', b'{"op":"count","id":1', b'{"op":"x","id":1}'],
)
def test_a_line_that_cannot_be_read_ends_the_request_that_it_is_of(
    worker: Worker, line: bytes
) -> None:
    assert worker.handler.read(line)
    event = worker.last_of(BAD)
    assert isinstance(event, Failed)
    assert "could not read the request" in event.problem
    assert worker.works()


@pytest.mark.parametrize("line", [b"", b"{}", b"nonsense", b'{"id":1}', b"[" * 100_000])
def test_a_line_that_is_of_no_request_is_an_error(worker: Worker, line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        worker.handler.read(line)


def test_the_line_that_says_so_ends_the_worker(worker: Worker) -> None:
    assert worker.handler.read(encode(Cancel(7)))
    assert not worker.handler.read(encode(Close()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_option_with_the_wrong_value_is_refused(worker: Worker, options: dict[str, Any]) -> None:
    worker.generate(BAD, **{"temperature": 1.0, **options})
    assert isinstance(worker.last_of(BAD), Failed | OptionRefused)
    assert worker.works()


@pytest.mark.parametrize("name", ["_make_room", "_computed"])
def test_an_error_of_the_embedder_ends_its_request(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, name, failing_for(lambda *_: True, getattr(Embedder, name)))
        worker.handler.handle(Embed(BAD, ["12345"]))
        event = worker.last_of(BAD)
        assert isinstance(event, Failed)
        assert "_OddError" in event.problem
    worker.handler.handle(Embed(GOOD, ["12345"]))
    assert isinstance(worker.last_of(GOOD), Embedded)


def test_where_the_embedder_gets_no_thread_its_request_ends_and_the_next_is_answered(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("_thread.start_new_thread", no_thread)
        worker.handler.handle(Embed(BAD, ["12345"]))
        event = worker.last_of(BAD)
        assert isinstance(event, Failed)
        assert "new thread" in event.problem
    worker.handler.handle(Embed(GOOD, ["12345"]))
    assert isinstance(worker.last_of(GOOD), Embedded)


def test_a_prompt_that_is_far_too_long_is_refused_before_it_is_tokenized(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vocabulary, "tokenize", failing_for(lambda *_, **__: True, len))
    long = [{"role": "user", "content": "no token " * 100_000}]
    worker.handler.handle(Generate(BAD, long, {}))
    assert worker.last_of(BAD) == ContextExceeded(BAD, None, 512)
    worker.handler.handle(Embed(BAD, ["12345", long[0]["content"]]))
    refused = worker.last_of(BAD)
    assert isinstance(refused, TextExceeded)
    assert refused.number == 2


def test_a_grammar_that_takes_long_holds_nobody_and_can_be_cancelled(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any, **named: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return grammar_text(*arguments, **named)

    monkeypatch.setattr("nbllm.local.llama.sampling.grammar_text", slowly)
    worker.generate(1, response_schema={"type": "integer"}, ignore_eos=False)
    assert begun.wait(10)
    worker.handler.handle(Tokenize(2, "a"))
    assert isinstance(worker.last_of(2), Tokenized)
    worker.handler.handle(Cancel(1))
    go_on.set()
    monkeypatch.undo()
    assert worker.works()
