"""Tuning: the quantization of a model that is fastest on this machine within a rule."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbllm.core import saved_files
from nbllm.core.errors import QuantizationError
from nbllm.core.hardware.resources import Resources
from nbllm.core.measurements import (
    Benchmark,
    ContextMeasurement,
    Measurement,
    Tuned,
    tuned_folder,
    write_measured,
    write_tuned,
)
from nbllm.core.quantization import Quality, Quantization, TunedType, Tuning, best_type, target_name
from nbllm.core.types import ModelInfo
from nbllm.local.ipc.job import running
from nbllm.local.ipc.operations import LoadSettings, Turn
from nbllm.local.ipc.protocol import LastEvent, Request
from nbllm.local.jobs.imatrix import study_load
from nbllm.local.jobs.quantize import failure_of, plan_quantizations, quantize_model, source_of
from nbllm.local.jobs.sample_conversations import SAMPLE_CONVERSATIONS
from nbllm.local.measuring.bench import QUIET_CORES, BenchPlan, plan_of

__all__ = ["Compare", "CompareDone", "sensible_types", "tune_model"]

_PROCESS = "nbllm.local.jobs.study_process"
_CONTEXT = 1024
_LARGEST = 1.6
"""Times the size of the source: a larger file is slower to decode, whatever its type."""
_TRIED = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_NL", "Q4_1", "Q3_K_M")

Report = Callable[[str, float], None]


class Compare(Request, tag="compare"):
    """Write a model's distributions over ``conversations`` to ``references``, or compare with them.

    Its speed is measured too. Answered by ``CompareDone``.
    """

    load: LoadSettings
    file_bytes: int
    conversations: Sequence[Sequence[Turn]]
    references: bytes
    writes: bool
    plan: BenchPlan


class CompareDone(LastEvent, tag="compared"):
    """How near the distributions are (None where they were written), and the speeds."""

    quality: Quality | None
    measured: tuple[Measurement, ...]
    contexts: tuple[ContextMeasurement, ...]
    other_cores: float


async def sensible_types(
    info: ModelInfo, labels: Sequence[str] | None = None, *, imatrix: Path | None = None
) -> list[Quantization]:
    """The types to try: not much larger than the source, and no two that come to the same.

    With ``labels`` exactly these. Raises as ``quantize_model`` does.
    """
    plans = await plan_quantizations(info, labels or _TRIED, imatrix=imatrix)
    if labels:
        return plans
    source, seen, sensible = info.size_bytes or 0, [_types_of(info)], []
    for plan in plans:
        if plan.size_bytes <= _LARGEST * source and dict(plan.tensor_types) not in seen:
            seen.append(dict(plan.tensor_types))
            sensible.append(plan)
    return sensible


async def tune_model(
    info: ModelInfo,
    resources: Resources,
    *,
    max_changed: float,
    types: Sequence[str] | None = None,
    imatrix: Path | None = None,
    thorough: bool = False,
    report: Report = lambda what, fraction: None,
) -> Tuning:
    """Measure a model's quantizations on this machine, and have later loads use the best.

    The best is the fastest that changes the likeliest next token at most at the share
    ``max_changed`` of the positions of a chat-like text, against the file as it is. Its file is
    kept in the user's cache folder, the others are removed. What was measured while other
    processes kept the cores busy is returned, and nothing is kept. ``report`` gets what is done
    and the finished fraction of all. Cancelling it keeps nothing. Raises as ``quantize_model``.
    """
    plans = await sensible_types(info, types, imatrix=imatrix)
    with tempfile.TemporaryDirectory(prefix="nbllm-tune-", ignore_cleanup_errors=True) as folder:
        work = _Work(info, resources, Path(folder), imatrix, thorough, len(plans) + 1, report)
        rows, best_file = [await work.source()], None
        for plan in plans:
            row, file = await work.candidate(plan)
            rows.append(row)
            left = best_file if best_type(rows, max_changed) is row else file
            best_file = file if left is not file else best_file
            if left is not None:
                left.unlink()
        best = best_type(rows, max_changed)
        noisy = any(row.benchmark.noisy for row in rows)
        path = source_of(info)[0]
        if not noisy:
            path = await asyncio.to_thread(_keep, info, path, resources, best, best_file)
    return Tuning(
        info=info,
        types=tuple(rows),
        max_changed=max_changed,
        best=best,
        path=path,
        noisy=noisy,
    )


def _types_of(info: ModelInfo) -> dict[str, str]:
    return {tensor.name: tensor.type_label for tensor in source_of(info)[1].tensors}


@dataclass(slots=True)
class _Work:
    """Runs the steps one after another, and tells how far all of them are."""

    info: ModelInfo
    resources: Resources
    folder: Path
    imatrix: Path | None
    thorough: bool
    steps: int
    report: Report
    step: int = 0

    async def source(self) -> TunedType:
        """The model as it is, whose distributions the others are compared with."""
        label = (self.info.quantization or "as it is").upper()
        shape = source_of(self.info)[1]
        quality, benchmark = await self._study(self.info, label, writes=True)
        return TunedType(
            label=label,
            size_bytes=shape.file_size_bytes,
            bits_per_weight=shape.bits_per_weight or 0.0,
            quality=quality,
            benchmark=benchmark,
        )

    async def candidate(self, plan: Quantization) -> tuple[TunedType, Path]:
        """One quantization, and its file."""
        target = self.folder / target_name(source_of(self.info)[0], plan.label)
        made = await quantize_model(
            self.info,
            plan.label,
            target,
            self.resources,
            imatrix=self.imatrix,
            progress=lambda fraction: self._tell(plan.label, 0.3 * fraction),
        )
        quality, benchmark = await self._study(made.info, plan.label, writes=False)
        row = TunedType(
            label=plan.label,
            size_bytes=plan.size_bytes,
            bits_per_weight=plan.bits_per_weight,
            quality=quality,
            benchmark=benchmark,
        )
        return row, target

    async def _study(
        self, info: ModelInfo, label: str, *, writes: bool
    ) -> tuple[Quality | None, Benchmark]:
        context = min(_CONTEXT, info.context_length or _CONTEXT)
        load = await asyncio.to_thread(study_load, info, self.resources, context)
        begun = 0.0 if writes else 0.3
        failure = failure_of(self.info.name)
        async with running(_PROCESS, CompareDone, failure, stage="study") as job:
            done = await job.ask(
                lambda number: Compare(
                    number,
                    load,
                    info.size_bytes or 0,
                    conversations=SAMPLE_CONVERSATIONS,
                    references=os.fsencode(self.folder / "references"),
                    writes=writes,
                    plan=self._plan(load),
                ),
                lambda fraction: self._tell(label, begun + (1 - begun) * fraction),
            )
        self.step += 1
        benchmark = Benchmark(
            measured=done.measured,
            contexts=done.contexts,
            other_cores=done.other_cores,
            noisy=done.other_cores > QUIET_CORES,
        )
        return done.quality, benchmark

    def _plan(self, load: LoadSettings) -> BenchPlan:
        return plan_of(
            self.resources.cpu,
            self.info.load,
            parallel=1,
            gpu_layers=load.gpu_layers,
            thorough=self.thorough,
        )

    def _tell(self, label: str, fraction: float) -> None:
        self.report(label, (self.step + fraction) / self.steps)


def _keep(
    info: ModelInfo, source: Path, resources: Resources, best: TunedType, file: Path | None
) -> Path:
    """Move the best file to where loads look for it, and note it; the path that loads use."""
    folder = tuned_folder() / hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    cpu = resources.cpu
    try:
        target = source if file is None else _moved(file, folder)
        write_measured(target, cpu, best.benchmark)
        size = target.stat().st_size
        tuned = None if file is None else Tuned(label=best.label, path=target, size_bytes=size)
        write_tuned(source, cpu, tuned)
        for other in folder.glob("*.gguf"):
            if other != target:
                other.unlink()
    except OSError as error:
        raise QuantizationError(info.name, f"the result cannot be kept: {error}") from None
    return target


def _moved(file: Path, folder: Path) -> Path:
    """The file in its place, all at once, also where that is another file system."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    with saved_files.replacing(target) as draft:
        shutil.copyfile(file, draft)
    return target
