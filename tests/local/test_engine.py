"""The engine in this process, on a machine that is told to it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nbllm.local.engine import Engine
from nbllm.local.ipc.events import Done
from nbllm.local.ipc.operations import Generate
from nbllm.local.ipc.protocol import Event
from nbllm.local.llama.chat import ChatTemplate
from nbllm.local.llama.native import NativeModel
from nbllm.local.rendering.client import Renderer
from nbllm.local.request_handler import RequestHandler
from nbllm.local.scheduling.pace import Pace

LONG = "The quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture(scope="module")
def model(native: Any) -> NativeModel:
    options = {"context_length": 1024, "parallel": 2, "threads": 2}
    loaded: NativeModel = native(batch_tokens=512, max_outputs=64, **options)
    return loaded


class Neighbours:
    """What other processes do, as a ``Pace`` sees it."""

    def __init__(self) -> None:
        self.cores = self._seconds = 0.0
        self._seen = time.monotonic()
        self.pace = Pace(2, 2, cores=2, busy_seconds=self._busy)

    def _busy(self) -> float:
        now = time.monotonic()
        self._seconds += self.cores * (now - self._seen)
        self._seen = now
        return self._seconds + time.process_time()


class Running:
    """An engine that serves in a thread."""

    def __init__(self, model: NativeModel) -> None:
        self.neighbours = Neighbours()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.engine = Engine(model, self.events.put, self.neighbours.pace)
        self.renderer = Renderer()
        template = ChatTemplate(model.chat_template, model.vocabulary, self.renderer)
        self._handler = RequestHandler(model, self.engine, self.events.put, template)
        threading.Thread(target=self.engine.run, daemon=True).start()

    def ask(self, number: int, prompt: str) -> None:
        options = {"temperature": 0, "max_tokens": 8}
        turns = [{"role": "user", "content": prompt}]
        self._handler.handle(Generate(number, turns, options))

    def done(self) -> Done:
        while not isinstance(event := self.events.get(timeout=60), Done):
            pass
        return event


@pytest.fixture
def running(model: NativeModel) -> Iterator[Running]:
    running = Running(model)
    yield running
    running.renderer.close()
    model.cells.clear()


def test_a_prompt_that_others_hold_up_is_begun_anew_with_fewer_threads(running: Running) -> None:
    pace = running.neighbours.pace
    running.ask(1, LONG)
    time.sleep(0.1)
    running.engine.watch()
    running.neighbours.cores = 1.0
    while pace.batch_threads == 2:
        time.sleep(0.15)
        running.engine.watch()
    answer = running.done()
    assert answer.prompt_tokens > 200
    assert answer.completion_tokens == 8
    assert answer.cached_tokens == 0


def test_without_neighbours_a_prompt_is_read_with_all_threads(running: Running) -> None:
    running.ask(1, LONG)
    for _ in range(4):
        time.sleep(0.15)
        running.engine.watch()
    assert running.neighbours.pace.batch_threads == 2
    assert running.done().completion_tokens == 8
