"""A process that measures one model: ``python -m nbllm.local.measuring.bench_process``.

It does one ``Bench``, and tells by ``Failed`` where the model cannot be loaded.

The counts of threads take turns, round after round, so that a machine that slows down meanwhile
slows them all; each speed is the median of its rounds. So do the settings of a context, each kind
of attention in one of its own, just long enough for the prompt and the answer.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from nbllm.core.measurements import ContextMeasurement, Measurement, MeasurementKind
from nbllm.local.ipc.liveness import LOAD_BYTES_A_SECOND, TOKEN_SECONDS, Stage
from nbllm.local.ipc.outbox import Outbox, job_input, take_standard_output
from nbllm.local.ipc.protocol import Failed, Fraction
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.measuring.bench import Bench, BenchDone, BenchPlan
from nbllm.local.scheduling.thread_governor import cores_in_use, machine_busy_seconds

__all__ = ["Neighbours", "SpeedBench", "main"]

_BENCH = msgspec.json.Decoder(Bench)


@dataclass(frozen=True, slots=True)
class _Case:
    """What one speed is of; ``flash_attention`` is None in the context of the load itself."""

    kind: MeasurementKind
    threads: int
    batch: int
    sequences: int = 1
    flash_attention: bool | None = None


class SpeedBench:
    """Runs the cases of a plan on a loaded model, and leaves it with another context."""

    def __init__(self, model: NativeModel, plan: BenchPlan, stage: Stage) -> None:
        self._model, self._plan, self._stage = model, plan, stage
        self._token = model.vocabulary.tokenize("the", add_special=False, parse_special=False)[0]
        self._settings = model.settings
        self._behind = max(1, min(plan.behind, model.trained_length - plan.answer_tokens))
        self._speeds: dict[_Case, list[float]] = {}
        self._done = 0

    def run(self) -> Iterator[float]:
        """Measure everything; yields the finished fraction."""
        plan, whole = self._plan, self._model.batch.capacity
        alone = [_Case("prefill", threads, whole) for threads in plan.threads]
        alone += [_Case("decode", threads, 1) for threads in plan.threads]
        self._measure(alone[0])  # the first run touches memory that no later one waits for
        yield from self._rounds(alone)
        writing = self._fastest("decode")
        together = [_Case("decode", writing, count, count) for count in plan.sequences]
        yield from self._rounds(together)
        for _ in range(plan.context_rounds):
            for flash_attention in plan.attentions:
                yield from self._in_context(flash_attention)
        yield 1.0

    def results(self) -> list[Measurement]:
        """The medians in the context of the load."""
        return [
            Measurement(
                kind=case.kind,
                threads=case.threads,
                batch=case.batch,
                sequences=case.sequences,
                tokens_per_second=statistics.median(speeds),
            )
            for case, speeds in self._speeds.items()
            if case.flash_attention is None
        ]

    def contexts(self) -> list[ContextMeasurement]:
        """The medians with other settings of the context, those left out that it refuses."""
        speeds = {
            (case.kind, case.batch, case.flash_attention): statistics.median(each)
            for case, each in self._speeds.items()
        }
        return [
            ContextMeasurement(
                settings=settings,
                behind=self._behind,
                prefill=speeds["prefill", settings.batch_tokens, settings.flash_attention],
                decode=speeds["decode", 1, settings.flash_attention],
            )
            for settings in self._plan.contexts
            if ("decode", 1, settings.flash_attention) in speeds
        ]

    def _rounds(self, cases: Sequence[_Case]) -> Iterator[float]:
        for _ in range(self._plan.rounds):
            for case in cases:
                yield self._note(case, self._measure(case))

    def _in_context(self, flash_attention: bool) -> Iterator[float]:  # noqa: FBT001
        """A prompt in batches of each size, and an answer behind it."""
        batches = self._plan.batches(flash_attention)
        settings = msgspec.structs.replace(
            self._settings,
            context_length=self._behind + self._plan.answer_tokens,
            parallel=1,
            sequences=1,
            batch_tokens=max(batches),
            max_outputs=1,
            flash_attention=flash_attention,
        )
        try:
            self._model.renew_context(settings)
        except NotLoadableError:  # not every model can go without flash attention, or with it
            return
        for batch in batches:
            case = _Case("prefill", self._fastest("prefill"), batch, 1, flash_attention)
            self._begin(case)
            speed, prompt = self._prefill(batch, self._behind)
            yield self._note(case, speed)
        case = _Case("decode", self._fastest("decode"), 1, 1, flash_attention)
        self._model.set_threads(case.threads, case.threads)
        yield self._note(case, self._decode(1, prompt))

    def _note(self, case: _Case, speed: float) -> float:
        self._speeds.setdefault(case, []).append(speed)
        self._done += 1
        return min(1.0, self._done / self._plan.runs)

    def _fastest(self, kind: MeasurementKind) -> int:
        cases = [
            case
            for case in self._speeds
            if (case.kind, case.sequences, case.flash_attention) == (kind, 1, None)
        ]
        return max(cases, key=lambda case: statistics.median(self._speeds[case])).threads

    def _measure(self, case: _Case) -> float:
        self._begin(case)
        if case.kind == "prefill":
            return self._prefill(case.batch, self._plan.prompt_tokens)[0]
        return self._decode(case.sequences, 0)

    def _begin(self, case: _Case) -> None:
        self._model.set_threads(case.threads, case.threads)
        for sequence in range(case.sequences):
            self._model.cells.forget(sequence, 0)

    def _prefill(self, size: int, tokens: int) -> tuple[float, int]:
        """The speed, and how many tokens were processed in its time."""
        batch, position = self._model.batch, 0
        began = time.perf_counter()
        while position < tokens and self._has_time(began):
            batch.clear()
            piece = [self._token] * min(size, tokens - position)
            batch.add(piece, position, 0, logits=True)
            self._compute()
            position += len(piece)
        return position / (time.perf_counter() - began), position

    def _decode(self, sequences: int, behind: int) -> float:
        """The speed of answers behind as many tokens."""
        batch, count = self._model.batch, 0
        began = time.perf_counter()
        while count < self._plan.answer_tokens and self._has_time(began):
            batch.clear()
            for sequence in range(sequences):
                row = batch.add([self._token], behind + count, sequence, logits=True)
            self._compute()
            self._model.logits(row).argmax()
            count += 1
        return count * sequences / (time.perf_counter() - began)

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
    done = tuple(bench.results()), tuple(bench.contexts())
    outbox.send(BenchDone(asked.id, *done, neighbours.cores))
    os._exit(0)  # llama.cpp's own ending takes seconds for a large model


if __name__ == "__main__":
    main()
