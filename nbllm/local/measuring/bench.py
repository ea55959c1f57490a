"""Measuring a GGUF on this machine, in a process of its own that can be stopped at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nbllm.core.errors import ModelFileError, ModelLoadError
from nbllm.core.hardware.resources import CpuInfo, Resources
from nbllm.core.measurements import Benchmark, Measurement, write_measured
from nbllm.core.placement import Placement
from nbllm.core.types import ModelInfo
from nbllm.local.installation import check_installation
from nbllm.local.ipc.job import running
from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.ipc.protocol import LastEvent, Request
from nbllm.local.load_settings import load_settings
from nbllm.local.plans import plan_model

__all__ = [
    "QUIET_CORES",
    "Bench",
    "BenchDone",
    "BenchPlan",
    "bench_seconds",
    "measure_model",
    "plan_of",
]

_PROCESS = "nbllm.local.measuring.bench_process"
QUIET_CORES = 0.25  # of other processes' use; beside more, fewer threads seem to be faster


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """What is measured: each of ``threads`` alone, then the rest with the fastest of them.

    ``prompt_tokens`` and ``answer_tokens`` bound one run, ``seconds`` does too on a slow model;
    ``batches`` are numbers of prompt tokens processed at a time, ``sequences`` of answers.
    """

    threads: tuple[int, ...]
    batches: tuple[int, ...]
    sequences: tuple[int, ...]
    prompt_tokens: int
    answer_tokens: int
    rounds: int
    seconds: float

    @property
    def most_seconds(self) -> float:
        """How long all runs take at most."""
        cases = 2 * len(self.threads) + len(self.batches) + len(self.sequences)
        return self.rounds * cases * self.seconds


class Bench(Request, tag="bench"):
    """Load a model and measure it by the plan; answered by ``BenchDone``."""

    load: LoadSettings
    file_bytes: int
    plan: BenchPlan


class BenchDone(LastEvent, tag="measured"):
    """The speeds, and how many cores other processes kept busy meanwhile on average."""

    measured: tuple[Measurement, ...]
    other_cores: float


_THOROUGH = {"prompt_tokens": 512, "answer_tokens": 64, "rounds": 5, "seconds": 10.0}
_QUICK = {"prompt_tokens": 128, "answer_tokens": 16, "rounds": 3, "seconds": 2.0}


def plan_of(cpu: CpuInfo, *, parallel: int, thorough: bool) -> BenchPlan:
    """What is worth measuring on these processors: every doubling of threads, and all cores.

    More threads than cores that may be used are never faster, so they are left out.
    """
    most = max(1, int(cpu.usable_cores))
    counts = {2**power for power in range(most.bit_length())} | {most}
    if cpu.physical_cores:
        counts.add(cpu.physical_cores)
    return BenchPlan(
        threads=tuple(sorted(count for count in counts if count <= most)),
        batches=(32, 128),
        sequences=tuple(count for count in (2, 4, 8, 16) if count <= parallel),
        **(_THOROUGH if thorough else _QUICK),  # type: ignore[arg-type]
    )


async def measure_model(
    info: ModelInfo,
    resources: Resources,
    *,
    thorough: bool = False,
    plan: BenchPlan | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Benchmark:
    """The speeds of a local model on this machine.

    Later loads of it go by those of a model that the CPU alone computes. Takes seconds, a
    ``thorough`` one minutes, and is more exact; ``plan`` says otherwise what is measured.
    ``progress`` gets the finished fraction, 0 to 1. What was measured while other processes kept
    the cores busy is kept as noisy. Cancelling it ends it at once and keeps nothing; so does a
    process that gives no sign of life for the entry's ``stall_timeout``. Raises
    ``MissingDependencyError``, ``DoesNotFitError``, ``ModelFileError`` and ``ModelLoadError``.
    """
    check_installation()
    if info.path is None:
        raise ModelFileError(info.name, "its entry names no file; give it a path")
    placement = await asyncio.to_thread(plan_model, info, resources)
    plan = plan or plan_of(resources.cpu, parallel=placement.parallel, thorough=thorough)
    found = await _run(info, placement, plan, progress)
    if not placement.gpu_layers:
        await asyncio.to_thread(write_measured, info.path, resources.cpu, found)
    return found


def bench_seconds(info: ModelInfo, resources: Resources, *, thorough: bool) -> float:
    """How long ``measure_model`` takes at most on a quiet machine, the load left out.

    Raises as it does.
    """
    parallel = plan_model(info, resources).parallel
    return plan_of(resources.cpu, parallel=parallel, thorough=thorough).most_seconds


async def _run(
    info: ModelInfo,
    placement: Placement,
    plan: BenchPlan,
    progress: Callable[[float], None],
) -> Benchmark:
    def failure(problem: str, log: tuple[str, ...]) -> ModelLoadError:
        return ModelLoadError(info.name, problem, log=log)

    settings, size = load_settings(info, placement), info.size_bytes or 0
    async with running(
        _PROCESS,
        BenchDone,
        failure,
        stage="bench",
        stall_seconds=info.options.stall_timeout,
        noun="its benchmark",
    ) as job:
        done = await job.ask(lambda number: Bench(number, settings, size, plan), progress)
    others = done.other_cores
    return Benchmark(
        measured=done.measured,
        other_cores=others,
        noisy=others > QUIET_CORES,
        device=placement.device,
    )
