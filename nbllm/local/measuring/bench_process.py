"""A process that measures one model: ``python -m nbllm.local.measuring.bench_process``.

It does one ``Bench``, and tells by ``Failed`` where the model cannot be loaded.

The counts of threads take turns, round after round, so that a machine that slows down meanwhile
slows them all; each speed is the median of its rounds.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from nbllm.core.measurements import Measurement, MeasurementKind
from nbllm.local.ipc.liveness import LOAD_BYTES_A_SECOND, TOKEN_SECONDS, Stage
from nbllm.local.ipc.outbox import Outbox, job_input, take_standard_output
from nbllm.local.ipc.protocol import Failed, Fraction
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.measuring.bench import Bench, BenchDone, BenchPlan
from nbllm.local.scheduling.pace import cores_in_use, machine_busy_seconds

__all__ = ["Neighbours", "SpeedBench", "main"]

_BENCH = msgspec.json.Decoder(Bench)


@dataclass(frozen=True, slots=True)
class _Case:
    kind: MeasurementKind
    threads: int
    batch: int
    sequences: int


class SpeedBench:
    """Runs the cases of a plan on a loaded model."""

    def __init__(self, model: NativeModel, plan: BenchPlan, stage: Stage) -> None:
        self._model, self._plan, self._stage = model, plan, stage
        self._token = model.vocabulary.tokenize("the", add_special=False, parse_special=False)[0]
        self._speeds: dict[_Case, list[float]] = {}

    def run(self) -> Iterator[float]:
        """Measure everything; yields the finished fraction."""
        plan, whole = self._plan, self._model.batch.capacity
        alone = [_Case("prefill", threads, whole, 1) for threads in plan.threads]
        alone += [_Case("decode", threads, 1, 1) for threads in plan.threads]
        others = len(plan.batches) + len(plan.sequences)
        total = plan.rounds * (len(alone) + others)
        self._measure(alone[0])  # the first run touches memory that no later one waits for
        done = 0
        for _ in range(plan.rounds):
            for case in alone:
                self._speeds.setdefault(case, []).append(self._measure(case))
                done += 1
                yield done / total
        reading, writing = self._fastest("prefill"), self._fastest("decode")
        more = [_Case("prefill", reading, batch, 1) for batch in plan.batches if batch < whole]
        more += [_Case("decode", writing, count, count) for count in plan.sequences if count > 1]
        for _ in range(plan.rounds):
            for case in more:
                self._speeds.setdefault(case, []).append(self._measure(case))
                done += 1
                yield min(1.0, done / total)

    def results(self) -> list[Measurement]:
        """The medians."""
        return [
            Measurement(
                kind=case.kind,
                threads=case.threads,
                batch=case.batch,
                sequences=case.sequences,
                tokens_per_second=statistics.median(speeds),
            )
            for case, speeds in self._speeds.items()
        ]

    def _fastest(self, kind: MeasurementKind) -> int:
        cases = [case for case in self._speeds if case.kind == kind]
        return max(cases, key=lambda case: statistics.median(self._speeds[case])).threads

    def _measure(self, case: _Case) -> float:
        self._model.set_threads(case.threads, case.threads)
        for sequence in range(case.sequences):
            self._model.cells.forget(sequence, 0)
        return self._prefill(case.batch) if case.kind == "prefill" else self._decode(case)

    def _prefill(self, size: int) -> float:
        batch, position = self._model.batch, 0
        began = time.perf_counter()
        while position < self._plan.prompt_tokens and self._has_time(began):
            batch.clear()
            piece = [self._token] * min(size, self._plan.prompt_tokens - position)
            batch.add(piece, position, 0, logits=True)
            self._compute()
            position += len(piece)
        return position / (time.perf_counter() - began)

    def _decode(self, case: _Case) -> float:
        batch, position = self._model.batch, 0
        began = time.perf_counter()
        while position < self._plan.answer_tokens and self._has_time(began):
            batch.clear()
            for sequence in range(case.sequences):
                row = batch.add([self._token], position, sequence, logits=True)
            self._compute()
            self._model.logits(row).argmax()
            position += 1
        return position * case.sequences / (time.perf_counter() - began)

    def _compute(self) -> None:
        self._stage.begin(TOKEN_SECONDS * self._model.batch.size)
        self._model.decode()

    def _has_time(self, began: float) -> bool:
        return time.perf_counter() - began < self._plan.seconds


class Neighbours:
    """What other processes take of the cores that this one may use, from now on."""

    def __init__(self) -> None:
        self._since = self._look()

    @property
    def cores(self) -> float:
        """How many of them on average."""
        elapsed, busy, own = (
            now - then for now, then in zip(self._look(), self._since, strict=True)
        )
        return max(0.0, busy - own) / elapsed

    def _look(self) -> tuple[float, float, float]:
        return time.monotonic(), machine_busy_seconds(cores_in_use()), time.process_time()


def main() -> None:
    """Measure what the first line of standard input asks for."""
    outbox, stage = Outbox(take_standard_output()), Stage()
    outbox.keep_beating({"bench": stage})
    asked = job_input(_BENCH)
    allowed = asked.file_bytes / LOAD_BYTES_A_SECOND
    try:
        stage.begin(allowed)
        model = NativeModel(asked.load, lambda fraction: stage.begin(allowed))
    except NotLoadableError as error:
        outbox.send(Failed(asked.id, str(error)))
        os._exit(1)
    bench, neighbours = SpeedBench(model, asked.plan, stage), Neighbours()
    for fraction in bench.run():
        outbox.send(Fraction(asked.id, fraction))
    outbox.send(BenchDone(asked.id, tuple(bench.results()), neighbours.cores))
    os._exit(0)  # llama.cpp's own ending takes seconds for a large model


if __name__ == "__main__":
    main()
