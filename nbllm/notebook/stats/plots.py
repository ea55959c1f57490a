"""The figures of ``%llm_plot``: each a function that draws records into axes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from statistics import median

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from nbllm.core.hardware.resources import Resources
from nbllm.core.history import GenerationRecord
from nbllm.core.kinds import kind_of
from nbllm.core.types import FinishReason, ModelInfo
from nbllm.notebook.stats.figure import LINE_STYLES, THEMES, LlmFigure, Theme
from nbllm.notebook.stats.stats_table import side_by_side

__all__ = ["PLOTS", "Throughput", "draw_run", "plot", "throughput_by_device"]

_GIB = 2**30
_NO_RECORDS = "Nothing was generated yet.\nAsk a model with %%llm, then plot again."
_NO_SPEEDS = (
    "No answer was long enough to measure its speed.\nAsk for some with at least two tokens."
)
_MAX_NAME = 28
_BOX = 0.5  # the height of a box; rows are 1 apart
_EDGE = 0.25  # of the axes: a figure so near to a side is written inward
_MAX_BESIDE = 12
"""Names of models up to this length stand beside one another in a legend."""


_NO_RUN = "No run over a table yet.\nBegin one with %%llm --map DF, then plot again."
_UNITS = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0))


@dataclass(frozen=True, slots=True)
class Source:
    """What there is to draw."""

    records: Sequence[GenerationRecord]
    resources: Resources
    loaded: Sequence[ModelInfo]


Draw = Callable[[LlmFigure, Axes, Source], None]


def plot(
    what: str,
    records: Sequence[GenerationRecord],
    resources: Resources,
    loaded: Sequence[ModelInfo],
    *,
    theme: Theme = "auto",
) -> LlmFigure:
    """One of ``PLOTS``, all of them in one figure ("all"), or the last run over a table ("run")."""
    source, palette = Source(records, resources, loaded), THEMES[theme]
    if what == "run":
        figure = LlmFigure(8.0, 3.8, palette)
        draw_run(figure, records)
        return figure
    if what != "all":
        figure = LlmFigure(8.0, 3.8, palette)
        PLOTS[what](figure, figure.subplots(), source)
        return figure
    figure = LlmFigure(9.6, 6.6, palette)
    for axes, draw in zip(figure.subplots(2, 2).flat, PLOTS.values(), strict=True):
        draw(figure, axes, source)
    return figure


def draw_throughput(figure: LlmFigure, axes: Axes, source: Source) -> None:
    """Tokens/s of each device over time; what ran at the same time is added up."""
    figure.style(axes, "Throughput over time", y="tokens/s")
    if not any(sum(each.token_counts) for each in source.records):
        figure.say(axes, _NO_RECORDS)
        return
    series = throughput_by_device(source.records)
    began = datetime.fromtimestamp(series.began, source.records[-1].started.tzinfo)
    count = len(next(iter(series.rates.values())))
    unit, seconds = _time_unit(count * series.step_seconds)
    times = [(i + 0.5) * series.step_seconds / seconds for i in range(count)]
    for number, (device, rates) in enumerate(sorted(series.rates.items())):
        colour = figure.palette.of(number)
        style = LINE_STYLES[number % len(LINE_STYLES)]
        axes.plot(times, rates, color=colour, linestyle=style, linewidth=1.8, label=device)
        axes.fill_between(times, rates, color=colour, alpha=0.12, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, min_n_ticks=2))
    axes.set_xlim(0, count * series.step_seconds / seconds)
    axes.set_xlabel(f"{unit} since {began:%d %b %H:%M:%S}")
    # The legend has a fifth of the height to itself: above the axes it would meet the title.
    axes.set_ylim(0, 1.25 * max(map(max, series.rates.values())) or 1.0)
    figure.legend_of(axes, loc="upper left", ncols=3, columnspacing=1.2, handlelength=1.5)


def draw_distribution(figure: LlmFigure, axes: Axes, source: Source) -> None:
    """Decoding speed of every generation, for each model and device, with box and median.

    Answers that were written side by side are apart: each of them is slower, all together faster.
    """
    figure.style(axes, "Decoding speed of each answer", x="tokens/s")
    speeds = _by_model(source.records, lambda each: each.tokens_per_second)
    _draw_boxes(figure, axes, speeds, "{:,.0f} tokens/s", empty=_NO_SPEEDS)


def draw_first_token(figure: LlmFigure, axes: Axes, source: Source) -> None:
    """Seconds from request to first token, for each model and device, with box and median."""
    figure.style(axes, "Time to first token", x="seconds")
    waits = _by_model(source.records, lambda each: each.timings.first_token_seconds)
    _draw_boxes(figure, axes, waits, "{:.2f} s", empty=_NO_RECORDS)


def draw_memory(figure: LlmFigure, axes: Axes, source: Source) -> None:
    """GiB of each device: loaded models, what others use, and what is free."""
    figure.style(axes, "Memory", x="GiB")
    devices, models = _devices(source.resources), _model_bytes(source.loaded)
    names = sorted({model for parts in models.values() for model in parts})
    rows = range(len(devices))
    left = [0.0] * len(devices)

    def stack(label: str, sizes: list[float], colour: str, alpha: float = 1.0) -> None:
        axes.barh(rows, sizes, left=left, height=0.55, color=colour, alpha=alpha, label=label)
        left[:] = [a + b for a, b in zip(left, sizes, strict=True)]

    for number, name in enumerate(names):
        sizes = [models.get(device, {}).get(name, 0) / _GIB for device, _, _ in devices]
        stack(_short(name), sizes, figure.palette.of(number))
    others = [
        max(0.0, used / _GIB - already) for (_, used, _), already in zip(devices, left, strict=True)
    ]
    stack("other use", others, figure.palette.muted, 0.8)
    free = [
        max(0.0, total / _GIB - already)
        for (_, _, total), already in zip(devices, left, strict=True)
    ]
    stack("free", free, figure.palette.muted, 0.25)
    axes.set_yticks(rows, [device for device, _, _ in devices])
    axes.set_ylim(len(devices) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    columns = 1 if any(len(name) > _MAX_BESIDE for name in names) else 3
    figure.legend_of(axes, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=columns)


PLOTS: Mapping[str, Draw] = {
    "throughput": draw_throughput,
    "distribution": draw_distribution,
    "first-token": draw_first_token,
    "memory": draw_memory,
}
"""The figures by the words for them."""


def _by_model(
    records: Sequence[GenerationRecord], value: Callable[[GenerationRecord], float | None]
) -> dict[str, list[float]]:
    """The values by model, device and, where some ran side by side, by that; by these as words."""
    groups: dict[str, list[float]] = defaultdict(list)
    beside = side_by_side(records)
    ways = {True: ", side by side", False: ", alone"} if any(beside) else {False: ""}
    for record, is_beside in zip(records, beside, strict=True):
        number = value(record)
        if number is not None:
            groups[f"{_short(record.model)}\n{record.device}{ways[is_beside]}"].append(number)
    return dict(sorted(groups.items()))


def _draw_boxes(
    figure: LlmFigure, axes: Axes, groups: dict[str, list[float]], words: str, *, empty: str
) -> None:
    if not groups:
        figure.say(axes, empty)
        return
    text = figure.palette.text
    most = 1.1 * max(max(values) for values in groups.values()) or 1.0
    line = {"color": text, "linewidth": 1.0}
    axes.boxplot(
        list(groups.values()),
        orientation="horizontal",
        widths=_BOX,
        showfliers=False,
        medianprops={"color": text, "linewidth": 2},
        boxprops=line,
        whiskerprops=line,
        capprops=line,
    )
    for number, values in enumerate(groups.values()):
        heights = [number + 1 + 0.18 * (i % 5 - 2) / 2 for i in range(len(values))]
        colour = figure.palette.of(number)
        axes.scatter(values, heights, s=18, color=colour, alpha=0.75, linewidths=0, zorder=3)
        _tell_median(axes, median(values), number + 1, most, words, text)
    axes.set_yticks(range(1, len(groups) + 1), list(groups))
    axes.set_ylim(len(groups) + 0.5, 0.35)
    axes.set_xlim(0, most)
    axes.grid(visible=False, axis="y")


def _tell_median(axes: Axes, value: float, row: int, most: float, words: str, colour: str) -> None:
    """The median's figure above its line; at the edges it keeps within the axes."""
    side = "left" if value < most * _EDGE else "right" if value > most * (1 - _EDGE) else "center"
    axes.annotate(
        f"median {words.format(value)}",
        (value, row - _BOX / 2),
        (0, 2),
        textcoords="offset points",
        ha=side,
        va="bottom",
        color=colour,
        fontsize=9,
    )


def _time_unit(span_seconds: float) -> tuple[str, float]:
    """The unit in which a time is told, and its seconds."""
    units = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0))
    return next((unit for unit in units if span_seconds < 180 * unit[1]), units[-1])


def _devices(resources: Resources) -> list[tuple[str, int, int]]:
    """Name, used and total bytes of each device with memory of its own."""
    memory = resources.memory
    gpus = [
        (gpu.label, gpu.vram_used_bytes or 0, gpu.vram_total_bytes)
        for gpu in resources.gpus
        if gpu.vram_total_bytes and not gpu.unified_memory
    ]
    return [("CPU", memory.used_bytes, memory.total_bytes), *gpus]


def _model_bytes(loaded: Sequence[ModelInfo]) -> dict[str, dict[str, int]]:
    """Bytes by device and model; as the placement splits them, else all on the first device."""
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for info in loaded:
        if info.placement is not None:
            for device, parts in info.placement.memory.items():
                sizes[device][info.name] = parts.total
        elif kind_of(info).takes_memory and info.memory_bytes:
            sizes[info.device or "CPU"][info.name] = info.memory_bytes
    return sizes


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


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


def draw_run(figure: LlmFigure, records: Sequence[GenerationRecord]) -> None:
    """Rows and tokens of the last run, as they added up: rows on the left, tokens on the right."""
    axes = figure.subplots()
    mine = [record for record in records if record.run is not None]
    last = max((record.run.number for record in mine if record.run), default=0)
    mine = sorted((each for each in mine if each.run and each.run.number == last), key=_end)
    if not mine:
        figure.style(axes, "Rows and tokens over time")
        figure.say(axes, _NO_RUN)
        return
    run, began = mine[0].run, min(record.started.timestamp() for record in mine)
    seconds = [_end(record) - began for record in mine]
    name, unit = next((each for each in _UNITS if seconds[-1] < 180 * each[1]), _UNITS[-1])
    times = [0.0, *(second / unit for second in seconds)]
    tokens = [(r.usage.prompt_tokens or 0) + (r.usage.completion_tokens or 0) for r in mine]
    title = f"{run.title}: {run.words}" if run else ""
    figure.style(axes, title, y="rows")
    rows_colour, tokens_colour = figure.palette.of(0), figure.palette.of(1)
    done = [0, *accumulate(each.finish_reason is not FinishReason.CANCELLED for each in mine)]
    (rows,) = axes.step(times, done, where="post", color=rows_colour, label="rows")
    right = axes.twinx()
    figure.style(right, "", y="tokens of prompts and answers")
    right.grid(visible=False)
    (all_tokens,) = right.plot(
        times, [0, *accumulate(tokens)], color=tokens_colour, linestyle="--", label="tokens"
    )
    for each in (axes, right):
        each.set_ylim(0, max(1.0, each.get_ylim()[1]))
        each.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        each.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlim(0, times[-1] or 1.0)
    at = datetime.fromtimestamp(began, mine[0].started.tzinfo)
    axes.set_xlabel(f"{name} since {at:%d %b %H:%M:%S}", color=figure.palette.text)
    figure.legend_of(axes, handles=[rows, all_tokens], loc="upper left")


def _end(record: GenerationRecord) -> float:
    return record.started.timestamp() + (record.timings.total_seconds or 0.0)
