"""A process that studies one model: ``python -m nbllm.local.jobs.study_process``.

It does one ``Imatrix`` or ``Compare``; see ``nbllm.local.jobs.imatrix`` and ``tune``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from nbllm.core.measurements import ContextMeasurement, Measurement
from nbllm.core.paths import read_text
from nbllm.local.ipc.liveness import LOAD_BYTES_A_SECOND, TOKEN_SECONDS, Stage
from nbllm.local.ipc.operations import Turn
from nbllm.local.ipc.outbox import Outbox, job_input, take_standard_output
from nbllm.local.ipc.protocol import Failed, Fraction, assert_never
from nbllm.local.jobs.imatrix import Imatrix, ImatrixDone
from nbllm.local.jobs.imatrix_file import write_imatrix
from nbllm.local.jobs.quality import References, compare, quality_of
from nbllm.local.jobs.tune import Compare, CompareDone
from nbllm.local.llama.chat import ChatTemplate
from nbllm.local.llama.importance import ImportanceCollector, ObservedModel
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.measuring.bench import BenchPlan
from nbllm.local.measuring.bench_process import Neighbours, SpeedBench
from nbllm.local.rendering.client import Renderer

__all__ = ["main"]

_MOST_TEXT_BYTES = 64 * 2**20
_BENCH_SHARE = 0.5  # of the work of a comparison
_OPERATION = msgspec.json.Decoder(Imatrix | Compare)


class _Study:
    """The one piece of work of this process."""

    def __init__(self, operation: Imatrix | Compare, outbox: Outbox, stage: Stage) -> None:
        self._id, self._settings = operation.id, operation.load
        self._outbox, self._stage = outbox, stage
        stage.begin(operation.file_bytes / LOAD_BYTES_A_SECOND)

    def imatrix(self, operation: Imatrix) -> ImatrixDone:
        """Read a text and write what the weights were multiplied by."""
        collector = ImportanceCollector()
        model = ObservedModel(self._settings, collector)
        size = min(operation.chunk_tokens, model.context_length, model.batch.capacity)
        text = Path(os.fsdecode(operation.text))
        tokens = model.vocabulary.tokenize(_content(text), add_special=False, parse_special=False)
        begin = list(model.vocabulary.begin)
        chunks = _chunks(tokens, size - len(begin))[: operation.chunks]
        if not chunks:
            count = f"{len(tokens):,} tokens; at least {size:,} are needed"
            raise ValueError(f"{text} has only {count}")
        for number, chunk in enumerate(chunks):
            self._tell(number / len(chunks), size)
            model.read([*begin, *chunk])
            if collector.problem:
                raise ValueError(collector.problem)
        data = write_imatrix(
            collector.sums, collector.counts, chunks=len(chunks), chunk_tokens=size
        )
        Path(os.fsdecode(operation.target)).write_bytes(data)
        return ImatrixDone(self._id, len(chunks))

    def compare(self, operation: Compare) -> CompareDone:
        """The distributions over conversations, and the speed."""
        model = NativeModel(self._settings, lambda fraction: None)
        prompts = self._prompts(model, operation.conversations)
        rows = self._rows(model, prompts, 1 - _BENCH_SHARE)
        references = References(Path(os.fsdecode(operation.references)), model.vocabulary.size)
        quality = None
        if operation.writes:
            references.write(rows)
        else:
            pairs = zip(references.read(), rows, strict=True)
            quality = quality_of(compare(reference, row) for reference, row in pairs)
        return CompareDone(self._id, quality, *self._speeds(model, operation.plan))

    def _prompts(
        self, model: NativeModel, conversations: Sequence[Sequence[Turn]]
    ) -> list[list[int]]:
        renderer = Renderer()
        template = ChatTemplate(model.chat_template, model.vocabulary, renderer)
        prompts = []
        for turns in conversations:
            prompt = template.render(turns)
            tokens = model.vocabulary.tokenize_prompt(
                prompt.text, add_special=prompt.add_special, guard=prompt.guard
            )
            prompts.append(tokens[: model.context_length])
        renderer.close()
        return prompts

    def _rows(
        self, model: NativeModel, prompts: Sequence[Sequence[int]], share: float
    ) -> Iterator[npt.NDArray[np.float32]]:
        """The logits behind every token but each conversation's last, one view after another."""
        total, done = sum(map(len, prompts)), 0
        width = min(model.batch.capacity, self._settings.max_outputs)
        for tokens in prompts:
            model.cells.forget(0, 0)
            for start in range(0, len(tokens) - 1, width):
                piece = tokens[start : min(start + width, len(tokens) - 1)]
                self._tell(share * done / total, len(piece))
                model.batch.clear()
                model.batch.add(piece, start, 0, logits=len(piece))
                if model.decode() != 0:
                    raise NotLoadableError("llama.cpp failed while it read the text")
                for row in range(len(piece)):
                    yield model.logits(row)
                done += len(piece)

    def _speeds(
        self, model: NativeModel, plan: BenchPlan
    ) -> tuple[tuple[Measurement, ...], tuple[ContextMeasurement, ...], float]:
        bench = SpeedBench(model, plan, self._stage)
        neighbours = Neighbours()
        for fraction in bench.run():
            self._tell(1 - _BENCH_SHARE + _BENCH_SHARE * fraction, None)
        return tuple(bench.results()), tuple(bench.contexts()), neighbours.cores

    def _tell(self, fraction: float, tokens: int | None) -> None:
        """Where it is, and how many ``tokens`` it computes next; None where that is told."""
        if tokens is not None:
            self._stage.begin(tokens * TOKEN_SECONDS)
        self._outbox.send(Fraction(self._id, fraction))


def _content(text: Path) -> str:
    try:
        return read_text(text, _MOST_TEXT_BYTES)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None


def _chunks(tokens: Sequence[int], size: int) -> list[list[int]]:
    """As many whole chunks as there are."""
    starts = range(0, len(tokens) - size + 1, size)
    return [list(tokens[start : start + size]) for start in starts]


def main() -> None:
    """Do what the first line of standard input asks for."""
    outbox, stage = Outbox(take_standard_output()), Stage()
    outbox.keep_beating({"study": stage})
    operation = job_input(_OPERATION)
    study = _Study(operation, outbox, stage)
    try:
        match operation:
            case Imatrix():
                outbox.send(study.imatrix(operation))
            case Compare():
                outbox.send(study.compare(operation))
            case _:
                assert_never(operation)
    except (NotLoadableError, ValueError, OSError) as error:
        outbox.send(Failed(operation.id, str(error)))
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
