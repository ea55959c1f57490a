"""Measuring a GGUF on this machine, in a process of its own that can be stopped at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nbllm.core.errors import ModelFileError, ModelLoadError
from nbllm.core.hardware.resources import CpuInfo, Resources
from nbllm.core.load_options import LoadOptions
from nbllm.core.measurements import (
    PROMPT_TOKENS,
    Benchmark,
    ContextMeasurement,
    Measurement,
    write_measured,
)
from nbllm.core.placement import ContextSettings, Placement
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
    ``sequences`` are numbers of answers at a time. Each of ``contexts`` is measured in
    ``context_rounds`` rounds with a prompt of ``behind`` tokens and an answer behind it.
    """

    threads: tuple[int, ...]
    sequences: tuple[int, ...]
    prompt_tokens: int
    answer_tokens: int
    rounds: int
    seconds: float
    contexts: tuple[ContextSettings, ...] = ()
    context_rounds: int = 1
    behind: int = PROMPT_TOKENS

    @property
    def attentions(self) -> tuple[bool, ...]:
        """Whether flash attention is on in the contexts, each once."""
        return tuple(dict.fromkeys(settings.flash_attention for settings in self.contexts))

    def batches(self, flash_attention: bool) -> tuple[int, ...]:  # noqa: FBT001
        """The batch sizes of such contexts, the largest last."""
        chosen = (each for each in self.contexts if each.flash_attention is flash_attention)
        return tuple(sorted(settings.batch_tokens for settings in chosen))

    @property
    def runs(self) -> int:
        """How many runs there are: in each kind of context one for each batch, and one more."""
        cases = 2 * len(self.threads) + len(self.sequences)
        in_contexts = len(self.contexts) + len(self.attentions)
        return self.rounds * cases + self.context_rounds * in_contexts

    @property
    def most_seconds(self) -> float:
        """How long all runs take at most."""
        return self.runs * self.seconds


class Bench(Request, tag="bench"):
    """Load a model and measure it by the plan; answered by ``BenchDone``."""

    load: LoadSettings
    file_bytes: int
    plan: BenchPlan


class BenchDone(LastEvent, tag="measured"):
    """The speeds, and how many cores other processes kept busy meanwhile on average."""

    measured: tuple[Measurement, ...]
    contexts: tuple[ContextMeasurement, ...]
    other_cores: float


_THOROUGH = {"prompt_tokens": 512, "answer_tokens": 64, "rounds": 5, "seconds": 10.0}
_QUICK = {"prompt_tokens": 128, "answer_tokens": 16, "rounds": 3, "seconds": 2.0}
_THOROUGH_CONTEXT_ROUNDS = 3
_CONTEXTS = (
    ContextSettings(flash_attention=True, batch_tokens=512),
    ContextSettings(flash_attention=False, batch_tokens=128),
    ContextSettings(flash_attention=False, batch_tokens=512),
)
"""What loads on the CPU choose from, the default first. Without flash attention a larger batch
takes a larger compute buffer; with it there is nothing to gain from a smaller one."""


def plan_of(
    cpu: CpuInfo, options: LoadOptions, *, parallel: int, gpu_layers: int, thorough: bool
) -> BenchPlan:
    """What is worth measuring on these processors: every doubling of threads, and all cores.

    More threads than cores that may be used are never faster, so they are left out. The settings
    of a context are compared where the CPU alone computes and no option decides about them.
    """
    most = max(1, int(cpu.usable_cores))
    counts = {2**power for power in range(most.bit_length())} | {most}
    if cpu.physical_cores:
        counts.add(cpu.physical_cores)
    return BenchPlan(
        threads=tuple(sorted(count for count in counts if count <= most)),
        sequences=tuple(count for count in (2, 4, 8, 16) if count <= parallel),
        contexts=_CONTEXTS if options.leaves_attention_open and not gpu_layers else (),
        context_rounds=_THOROUGH_CONTEXT_ROUNDS if thorough else 1,
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
    plan = plan or _plan(info, resources, placement, thorough=thorough)
    found = await _run(info, placement, plan, progress)
    if not placement.gpu_layers:
        await asyncio.to_thread(write_measured, info.path, resources.cpu, found)
    return found


def bench_seconds(info: ModelInfo, resources: Resources, *, thorough: bool) -> float:
    """How long ``measure_model`` takes at most on a quiet machine, the load left out.

    Raises as it does.
    """
    placement = plan_model(info, resources)
    return _plan(info, resources, placement, thorough=thorough).most_seconds


def _plan(
    info: ModelInfo, resources: Resources, placement: Placement, *, thorough: bool
) -> BenchPlan:
    return plan_of(
        resources.cpu,
        info.load,
        parallel=placement.parallel,
        gpu_layers=placement.gpu_layers,
        thorough=thorough,
    )


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
        contexts=done.contexts,
        other_cores=others,
        noisy=others > QUIET_CORES,
        device=placement.device,
    )
