"""Tokens per second over time, added up over generations that ran at the same time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbllm.core.history import GenerationRecord

__all__ = ["Throughput", "throughput_by_device"]


@dataclass(frozen=True, slots=True)
class Throughput:
    """``rates`` (tokens/s) of each device in equal steps of time.

    ``began`` is POSIX time; step ``i`` lasts from ``began + i * step_seconds`` to the next.
    """

    began: float
    step_seconds: float
    rates: dict[str, list[float]]


def throughput_by_device(records: Sequence[GenerationRecord], steps: int = 160) -> Throughput:
    """What all ``records`` together wrote, in ``steps`` steps; at least one of them wrote."""
    writing = [each for each in records if sum(each.token_counts)]
    began = min(map(_first_token_at, writing))
    ended = max(
        _first_token_at(each) + len(each.token_counts) * each.interval_seconds for each in writing
    )
    step = max((ended - began) / steps, 1e-3)
    rates: dict[str, list[float]] = defaultdict(lambda: [0.0] * steps)
    for each in writing:
        _spread(each, rates[each.device], began, step)
    return Throughput(began, step, dict(rates))


def _spread(record: GenerationRecord, rates: list[float], began: float, step: float) -> None:
    """Add the record's tokens to the steps, each interval by its share in them."""
    for number, (start, end) in enumerate(_intervals(record)):
        speed = record.token_counts[number] / (end - start)
        for index in _indices(start - began, end - began, step, len(rates)):
            low, high = began + index * step, began + (index + 1) * step
            rates[index] += speed * max(0.0, min(end, high) - max(start, low)) / step


def _intervals(record: GenerationRecord) -> Iterable[tuple[float, float]]:
    first, length = _first_token_at(record), record.interval_seconds
    for number in range(len(record.token_counts)):
        yield first + number * length, first + (number + 1) * length


def _indices(start: float, end: float, step: float, count: int) -> range:
    return range(max(0, int(start / step)), min(count, int(end / step) + 1))


def _first_token_at(record: GenerationRecord) -> float:
    return record.started.timestamp() + (record.timings.first_token_seconds or 0.0)
