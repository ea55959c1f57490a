"""A process that studies one model: ``python -m nbllm.local.jobs.study_process``.

It speaks ``protocol.py`` as a worker does. Its one message has ``load`` (a load frame) and is
answered by frames ``fraction`` on the way and by ``done``, or by ``failed``:

- ``imatrix`` has ``text``, a file, ``target``, ``chunk_tokens`` and ``chunks`` (at most); ``done``
  has ``chunks``;
- ``compare`` has ``conversations``, ``chat_template`` (the one to use in place of the file's),
  ``references``, a file, and ``writes``: whether it is written or compared with; ``bench``, a
  plan, or null. ``done`` has ``quality`` (null where it ``writes``), ``measured`` and
  ``other_cores``.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nbllm.core.paths import read_text
from nbllm.local import protocol
from nbllm.local.jobs.imatrix_file import write_imatrix
from nbllm.local.jobs.quality import References, compare, quality_of
from nbllm.local.llama.chat import ChatTemplate
from nbllm.local.llama.importance import ImportanceCollector, ObservedModel
from nbllm.local.llama.loading import Settings
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.measuring.bench_process import (
    Neighbours,
    SpeedBench,
    leave_with_parent,
    plan_from,
)
from nbllm.local.outbox import Outbox, take_standard_output
from nbllm.local.protocol import Frame
from nbllm.local.rendering.client import Renderer
from nbllm.local.stages import LOAD_BYTES_A_SECOND, TOKEN_SECONDS, Stage

__all__ = ["main"]

_MOST_TEXT_BYTES = 64 * 2**20
_BENCH_SHARE = 0.5
"""Of the work, where speed is measured too."""


class _Study:
    """The one piece of work of this process."""

    def __init__(self, frame: Frame, outbox: Outbox, stage: Stage) -> None:
        self._frame, self._outbox, self._stage = frame, outbox, stage
        self._settings = Settings.from_frame(frame["load"])
        stage.begin(frame["load"]["file_bytes"] / LOAD_BYTES_A_SECOND)

    def imatrix(self) -> Frame:
        """Read a text and write what the weights were multiplied by."""
        frame, collector = self._frame, ImportanceCollector()
        model = ObservedModel(self._settings, collector)
        size = min(frame["chunk_tokens"], model.context_length, model.batch.capacity)
        text = read_text(Path(frame["text"]), _MOST_TEXT_BYTES)
        tokens = model.vocabulary.tokenize(text, add_special=False, parse_special=False)
        begin = list(model.vocabulary.begin)
        chunks = _chunks(tokens, size - len(begin))[: frame["chunks"]]
        if not chunks:
            raise ValueError(
                f"{frame['text']} has only {len(tokens):,} tokens; at least {size:,} are needed"
            )
        for number, chunk in enumerate(chunks):
            self._tell(number / len(chunks), size)
            model.read([*begin, *chunk])
            if collector.problem:
                raise ValueError(collector.problem)
        data = write_imatrix(
            collector.sums, collector.counts, chunks=len(chunks), chunk_tokens=size
        )
        Path(frame["target"]).write_bytes(data)
        return {"chunks": len(chunks)}

    def compare(self) -> Frame:
        """The distributions over conversations, and the speed."""
        frame = self._frame
        model = NativeModel(self._settings, lambda fraction: None)
        prompts = self._prompts(model)
        rows = self._rows(model, prompts, 1 - _BENCH_SHARE if frame["bench"] else 1.0)
        references = References(Path(frame["references"]), model.vocabulary.size)
        quality = None
        if frame["writes"]:
            references.write(rows)
        else:
            pairs = zip(references.read(), rows, strict=True)
            quality = asdict(quality_of(compare(reference, row) for reference, row in pairs))
        return {"quality": quality, **self._speeds(model)}

    def _prompts(self, model: NativeModel) -> list[list[int]]:
        renderer = Renderer()
        given = self._frame["chat_template"]
        template = ChatTemplate(given or model.chat_template, model.vocabulary, renderer)
        prompts = []
        for turns in self._frame["conversations"]:
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

    def _speeds(self, model: NativeModel) -> Frame:
        plan = self._frame["bench"]
        if plan is None:
            return {"measured": [], "other_cores": 0.0}
        bench = SpeedBench(model, plan_from(plan), self._stage)
        neighbours = Neighbours()
        for fraction in bench.run():
            self._tell(1 - _BENCH_SHARE + _BENCH_SHARE * fraction, None)
        measured = [asdict(measurement) for measurement in bench.results()]
        return {"measured": measured, "other_cores": neighbours.cores}

    def _tell(self, fraction: float, tokens: int | None) -> None:
        """Where it is, and how many ``tokens`` it computes next; None where that is told."""
        if tokens is not None:
            self._stage.begin(tokens * TOKEN_SECONDS)
        self._outbox.send({"op": "fraction", "id": self._frame["id"], "fraction": fraction})


def _chunks(tokens: Sequence[int], size: int) -> list[list[int]]:
    """As many whole chunks as there are."""
    starts = range(0, len(tokens) - size + 1, size)
    return [list(tokens[start : start + size]) for start in starts]


def main() -> None:
    """Do what the first line of standard input asks for."""
    outbox, stage = Outbox(take_standard_output()), Stage()
    outbox.keep_beating({"study": stage})
    frame: dict[str, Any] = protocol.decode(sys.stdin.buffer.readline() or b"{}")
    threading.Thread(target=leave_with_parent, daemon=True).start()
    try:
        study = _Study(frame, outbox, stage)
        done = study.imatrix() if frame["op"] == "imatrix" else study.compare()
    except (NotLoadableError, ValueError, OSError) as error:
        outbox.send({"op": "failed", "id": frame["id"], "problem": str(error)})
        os._exit(1)
    outbox.send({"op": "done", "id": frame["id"], **done})
    os._exit(0)


if __name__ == "__main__":
    main()
