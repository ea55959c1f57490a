"""``ResourceDetector``: what this process may use of processors, memory and GPUs.

There is a source for each kind of GPU, and every question has a time limit: a driver or a file
system that hangs costs its own part of the answer and no more.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from nbllm.core.hardware.drm_gpus import DrmSource
from nbllm.core.hardware.host import (
    buffer_bytes,
    cpu_of,
    last_cache_bytes,
    measured_bandwidth,
    memory_of,
    unknown_cpu,
    unknown_memory,
)
from nbllm.core.hardware.machine import Machine
from nbllm.core.hardware.nvml import NvidiaSource
from nbllm.core.hardware.other_gpus import AppleSource, TegraSource, TorchSource
from nbllm.core.hardware.resource_sample import CpuLoad, GpuSample, ResourceSample
from nbllm.core.hardware.resources import (
    CpuInfo,
    GpuFindings,
    GpuInfo,
    GpuSource,
    MemoryInfo,
    Resources,
    renumbered,
)
from nbllm.core.hardware.time_limit import Answer, answer_within

__all__ = [
    "CpuInfo",
    "GpuInfo",
    "GpuSample",
    "MemoryInfo",
    "ResourceDetector",
    "ResourceSample",
    "Resources",
]

_LIVE_SECONDS = 1.0  # a view that stands still for longer looks broken
_Value = TypeVar("_Value")
_Found: TypeAlias = tuple[GpuSource, Answer[GpuFindings]]


class ResourceDetector:
    """Finds out what this process may use. Nothing here raises, whatever the machine is like.

    ``machine`` answers for the operating system, ``gpu_sources`` for the drivers (by default all
    that this system may have; the later ones are asked where the earlier have found nothing);
    each question is given up after ``time_limit_seconds``.
    """

    def __init__(
        self,
        machine: Machine | None = None,
        *,
        gpu_sources: Sequence[GpuSource] | None = None,
        time_limit_seconds: float = 5.0,
    ) -> None:
        self._machine = machine or Machine()
        self._sources, self._side_doors = (
            _sources_of(self._machine) if gpu_sources is None else (tuple(gpu_sources), ())
        )
        self._time_limit_seconds = time_limit_seconds
        self._load = CpuLoad(self._machine)
        self._followed: list[tuple[GpuSource, int]] | None = None
        # Not at exit, when the system takes everything back anyway and a driver might hang.
        weakref.finalize(self, _close, (*self._sources, *self._side_doors)).atexit = False

    def detect(self) -> Resources:
        """Everything, with a sentence for each thing that is absent."""
        cpu = self._ask("processors", lambda: cpu_of(self._machine), unknown_cpu)
        memory = self._ask("memory", lambda: memory_of(self._machine), unknown_memory)
        found = self._find()
        gpus, hidden = _numbered([answer.value for _, answer in found])
        failures = [cpu.failure, memory.failure, *(answer.failure for _, answer in found)]
        return Resources(
            cpu=cpu.value,
            memory=memory.value,
            gpus=gpus,
            hidden_gpus=hidden,
            absences=(
                *_sentences([answer.value for _, answer in found]),
                *filter(None, failures),
            ),
        )

    def sample(self) -> ResourceSample:
        """The state of this moment, for views that follow it: at most 5 ms (on a Mac some 30).

        What the drivers need stays open between samples, until the detector is closed or gone.
        """
        memory = self.memory()
        if self._followed is None:
            self._followed = _with_gpus(self._find())
        gpus = [
            gpu
            for source, first in self._followed
            for gpu in renumbered(self._follow(source), first)
        ]
        return ResourceSample(
            time=time.monotonic(),
            cpu_fraction=self._ask("load", self._load.fraction, lambda: None).value,
            memory_used_bytes=memory.used_bytes,
            memory_total_bytes=memory.total_bytes,
            gpus=tuple(GpuSample.of(gpu) for gpu in gpus),
        )

    def cpu(self) -> CpuInfo:
        """The processors alone, for those who need not wait for a driver."""
        return self._ask("processors", lambda: cpu_of(self._machine), unknown_cpu).value

    def memory(self) -> MemoryInfo:
        """The memory alone."""
        return self._ask("memory", lambda: memory_of(self._machine), unknown_memory).value

    def memory_bandwidth(self) -> float | None:
        """Bytes per second that the usable cores read from memory together.

        Measured in about 0.4 s when first asked, then kept for as long as this process lives (see
        ``nbllm.core.hardware.host`` for the method). None where that is not possible.
        """
        threads = max(1, int(self.cpu().usable_cores))
        cache = last_cache_bytes(self._machine.root)
        size = buffer_bytes(self.memory().available_bytes, cache)
        return self._ask("bandwidth", lambda: measured_bandwidth(threads, size), lambda: None).value

    def close(self) -> None:
        """Give back what ``sample`` keeps open; the next one opens it again."""
        self._followed = None
        _close((*self._sources, *self._side_doors))

    def _find(self) -> list[_Found]:
        """What each source has found; the side doors are tried where no other has anything."""
        found = [(one, self._ask(one.what, one.find, GpuFindings)) for one in self._sources]
        if not any(answer.value.gpus or answer.value.hidden for _, answer in found):
            doors = self._side_doors
            found += [(one, self._ask(one.what, one.find, GpuFindings)) for one in doors]
        return found

    def _follow(self, source: GpuSource) -> tuple[GpuInfo, ...]:
        limit = min(self._time_limit_seconds, _LIVE_SECONDS)
        return answer_within(limit, source.what, source.live, lambda: ()).value

    def _ask(
        self, what: str, question: Callable[[], _Value], otherwise: Callable[[], _Value]
    ) -> Answer[_Value]:
        return answer_within(self._time_limit_seconds, what, question, otherwise)


def _sources_of(machine: Machine) -> tuple[tuple[GpuSource, ...], tuple[GpuSource, ...]]:
    if sys.platform == "darwin":
        return (AppleSource(machine),), ()
    usual = (NvidiaSource(machine.root), DrmSource(machine.root))
    return usual, (TegraSource(machine.root), TorchSource())


def _numbered(
    findings: Iterable[GpuFindings],
) -> tuple[tuple[GpuInfo, ...], tuple[GpuInfo, ...]]:
    """All GPUs and all hidden ones; those of a later source are numbered after an earlier's."""
    gpus: list[GpuInfo] = []
    hidden: list[GpuInfo] = []
    for found, first in _firsts(findings):
        gpus += renumbered(found.gpus, first)
        hidden += renumbered(found.hidden, first)
    return tuple(gpus), tuple(hidden)


def _firsts(findings: Iterable[GpuFindings]) -> Iterator[tuple[GpuFindings, int]]:
    """Each with the number of its first GPU."""
    first = 0
    for found in findings:
        yield found, first
        first += max((gpu.index + 1 for gpu in (*found.gpus, *found.hidden)), default=0)


def _with_gpus(found: Sequence[_Found]) -> list[tuple[GpuSource, int]]:
    """The sources that are worth following, with the numbers of their first GPUs."""
    numbered = _firsts(answer.value for _, answer in found)
    return [
        (source, first)
        for (source, _), (findings, first) in zip(found, numbered, strict=True)
        if findings.gpus
    ]


def _sentences(findings: Sequence[GpuFindings]) -> list[str]:
    """What is wrong and, where there is no GPU at all, why there is none of each kind."""
    sentences = [problem for found in findings for problem in found.problems]
    if not any(found.gpus or found.hidden for found in findings):
        sentences += [found.absence for found in findings if found.absence]
    return sentences


def _close(sources: Iterable[GpuSource]) -> None:
    for source in sources:
        source.close()
