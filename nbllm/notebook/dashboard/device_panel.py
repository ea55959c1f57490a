"""The devices with their live use and its history, and the throughput of each."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from nbllm.core.hardware.resource_sample import GpuSample, ResourceSample
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.words import size_words
from nbllm.notebook.dashboard.saved_view import Section
from nbllm.notebook.dashboard.widgets import card, text

__all__ = ["DevicePanel", "ThroughputPanel", "line_chart", "meter", "nice_top"]

POINTS = 121
"""Two minutes, at a point a second."""
_NO_READING = "\N{EN DASH}"
"""For what is a share of the time between two samples, at the first of them."""
SMOOTHING = 3
"""Answers come in pieces; a rate is that of so many seconds."""


class DevicePanel:
    """Meters for processors and memories, and a chart of how busy they were."""

    def __init__(self) -> None:
        self._meters, self._chart = text(), text()
        self._busy: dict[str, deque[float]] = {}
        self._saved: tuple[tuple[str, ...], ...] = ()
        self.widget = card("Devices", self._meters, self._chart)

    def update(self, sample: ResourceSample, cpu_name: str) -> None:
        """Show a sample; ``cpu_name`` is that of the processor."""
        rows = [_cpu(sample, cpu_name), *map(_gpu, sample.gpus)]
        self._meters.value = "".join(rows)
        self._saved = (_saved_cpu(sample, cpu_name), *map(_saved_gpu, sample.gpus))
        self._note("CPU", sample.cpu_fraction)
        for gpu in sample.gpus:
            self._note(gpu.label, gpu.utilization)
        self._chart.value = line_chart(
            {name: list(values) for name, values in self._busy.items()},
            points=POINTS,
            top=100.0,
            span="2 min ago",
            unit="busy, %",
        )

    @property
    def section(self) -> Section:
        """The last sample."""
        return Section("Devices", self._saved)

    def _note(self, name: str, fraction: float | None) -> None:
        if fraction is not None:
            self._busy.setdefault(name, deque(maxlen=POINTS)).append(round(100 * fraction))


class ThroughputPanel:
    """Tokens a second of each device that has written any, from counters that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._chart = text()
        self._counts: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=SMOOTHING + 1)
        self._rates: dict[str, deque[float]] = {"CPU": deque(maxlen=POINTS)}
        self.widget = card("Throughput", self._chart)

    def update(self, tokens: Mapping[str, int]) -> None:
        """Show what ``tokens`` (by device, in total) have grown by."""
        self._counts.append((self._clock(), dict(tokens)))
        (then, before), (now, after) = self._counts[0], self._counts[-1]
        seconds = max(now - then, 1e-3)
        for device in after:
            self._rates.setdefault(device, deque(maxlen=POINTS))
        for device, rates in self._rates.items():
            grown = after.get(device, 0) - before.get(device, 0)
            rates.append(round(max(0.0, grown / seconds)))
        top = nice_top(max((max(rates) for rates in self._rates.values()), default=0.0))
        self._chart.value = line_chart(
            {device: list(rates) for device, rates in self._rates.items()},
            points=POINTS,
            top=top,
            span="2 min ago",
            unit="tokens/s",
        )


def _cpu(sample: ResourceSample, name: str) -> str:
    used, total = sample.memory_used_bytes, sample.memory_total_bytes
    return _device(
        name,
        meter("CPU", sample.cpu_fraction, _cpu_words(sample)),
        meter("Memory", used / total if total else None, _of(used, total)),
    )


def _gpu(gpu: GpuSample) -> str:
    used, total = gpu.vram_used_bytes, gpu.vram_total_bytes
    return _device(
        f"{gpu.label}: {gpu.name}",
        meter("GPU", gpu.utilization, _gpu_words(gpu)),
        meter("Memory", used / total if used is not None and total else None, _vram_words(gpu)),
    )


def _cpu_words(sample: ResourceSample) -> str:
    busy = sample.cpu_fraction
    return _NO_READING if busy is None else _percent(busy)


def _gpu_words(gpu: GpuSample) -> str:
    details = [
        *([f"{gpu.temperature_celsius:.0f} °C"] if gpu.temperature_celsius is not None else []),
        *([f"{gpu.power_watts:.0f} W"] if gpu.power_watts is not None else []),
    ]
    return " · ".join([_percent(gpu.utilization), *details])


def _vram_words(gpu: GpuSample) -> str:
    used, total = gpu.vram_used_bytes, gpu.vram_total_bytes
    return "unknown" if used is None or total is None else _of(used, total)


def _saved_cpu(sample: ResourceSample, name: str) -> tuple[str, ...]:
    memory = _of(sample.memory_used_bytes, sample.memory_total_bytes)
    return name, f"CPU {_cpu_words(sample)}", f"memory {memory}"


def _saved_gpu(gpu: GpuSample) -> tuple[str, ...]:
    words = f"GPU {_gpu_words(gpu)}", f"memory {_vram_words(gpu)}"
    return f"{gpu.label}: {gpu.name}", *words


def _device(name: str, *meters: str) -> str:
    rows = "".join(meters)
    return (
        f'<div class="nbllm-device"><div class="nbllm-name" title="{attribute_html(name)}">'
        f"{text_html(name)}</div>"
        f"{rows}</div>"
    )


def _percent(fraction: float | None) -> str:
    return "unknown" if fraction is None else f"{fraction:.0%}"


def _of(used: int, total: int) -> str:
    return f"{used / 2**30:,.1f} of {size_words(total)}"


_WIDTH, _HEIGHT = 240, 60


def nice_top(value: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below ``value``; at least 10."""
    if value <= 10:
        return 10.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def line_chart(
    series: Mapping[str, Sequence[float]], *, points: int, top: float, span: str, unit: str
) -> str:
    """Lines of the last ``points`` values of each series, from 0 to ``top``, the newest right.

    ``span`` says how long ago the left edge is, ``unit`` what is counted. The last values stand
    in the legend.
    """
    lines = "".join(
        _line(number, values[-points:], points, top)
        for number, values in enumerate(series.values())
    )
    legend = "".join(
        f'<span><i class="nbllm-key nbllm-s{number % 6}"></i>{text_html(name)} '
        f"<b>{values[-1] if values else 0:,.0f}</b></span>"
        for number, (name, values) in enumerate(series.items())
    )
    grid = "".join(
        f'<path class="nbllm-grid" d="M0 {y}H{_WIDTH}"/>' for y in (0, _HEIGHT // 2, _HEIGHT)
    )
    return (
        f'<div class="nbllm-chart"><div class="nbllm-legend">{legend}</div>'
        f'<div class="nbllm-plot"><div class="nbllm-scale"><span>{top:,.0f}</span>'
        f"<span>{top / 2:,.0f}</span><span>0</span></div>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{attribute_html(unit)}">{grid}{lines}</svg></div>'
        f'<div class="nbllm-times"><span>{text_html(span)}</span>'
        f"<span>{text_html(unit)}</span><span>now</span></div></div>"
    )


def meter(name: str, fraction: float | None, words: str) -> str:
    """A labelled bar that is full at 1; empty where the fraction is not known."""
    percent = 0 if fraction is None else round(100 * min(1.0, max(0.0, fraction)))
    return (
        f'<div class="nbllm-meter"><span>{text_html(name)}</span>'
        f'<div class="nbllm-bar"><i style="width:{percent}%"></i></div>'
        f"<b>{text_html(words)}</b></div>"
    )


def _line(number: int, values: Sequence[float], points: int, top: float) -> str:
    if len(values) < 2:
        return ""
    step = _WIDTH / (points - 1)
    first = points - len(values)
    marks = [
        f"{(first + i) * step:.0f} {_HEIGHT - _HEIGHT * min(value, top) / top:.0f}"
        for i, value in enumerate(values)
    ]
    line = "L".join(marks)
    begin, kind = first * step, f"nbllm-s{number % 6}"
    return (
        f'<path class="nbllm-area {kind}" d="M{begin:.0f} {_HEIGHT}L{line}L{_WIDTH} {_HEIGHT}z"/>'
        f'<path class="nbllm-line {kind}" d="M{line}"/>'
    )
