"""The engine in this process, on a machine that is told to it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbllm.local.engine import Engine
from nbllm.local.intake import Intake
from nbllm.local.llama.loading import Settings
from nbllm.local.llama.native import NativeModel
from nbllm.local.protocol import Frame
from nbllm.local.scheduling.pace import Pace

LONG = "The quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture(scope="module")
def native(bundled_gguf: Path) -> NativeModel:
    settings = Settings(
        path=str(bundled_gguf),
        context_length=1024,
        parallel=2,
        sequences=2,
        threads=2,
        batch_threads=2,
        gpus=(),
        gpu_layers=0,
        tensor_split=(),
        kv_type="f16",
        flash_attention=None,
        batch_tokens=512,
        max_outputs=64,
        batch_invariant=False,
    )
    return NativeModel(settings, lambda fraction: None)


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

    def __init__(self, native: NativeModel) -> None:
        self.neighbours = Neighbours()
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.engine = Engine(native, self.frames.put, self.neighbours.pace)
        self._intake = Intake(native, self.engine, self.frames.put)
        threading.Thread(target=self.engine.run, daemon=True).start()

    def ask(self, number: int, prompt: str) -> None:
        options = {"temperature": 0, "max_tokens": 8}
        turns = [{"role": "user", "content": prompt}]
        self._intake.handle(
            {"op": "generate", "id": number, "messages": turns, "options": options, "suffix": None}
        )

    def done(self) -> dict[str, Any]:
        while (frame := self.frames.get(timeout=60))["op"] != "done":
            pass
        return frame


@pytest.fixture
def running(native: NativeModel) -> Iterator[Running]:
    yield Running(native)
    native.cells.clear()


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
    assert answer["prompt_tokens"] > 200
    assert answer["completion_tokens"] == 8
    assert answer["cached_tokens"] == 0


def test_without_neighbours_a_prompt_is_read_with_all_threads(running: Running) -> None:
    running.ask(1, LONG)
    for _ in range(4):
        time.sleep(0.15)
        running.engine.watch()
    assert running.neighbours.pace.batch_threads == 2
    assert running.done()["completion_tokens"] == 8
