"""``%llm_plot run``: what the last run over a table has done, over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate

from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from nbllm.core.history import GenerationRecord
from nbllm.core.types import FinishReason
from nbllm.notebook.stats.figure import LlmFigure

__all__ = ["draw_run"]

_NO_RUN = "No run over a table yet.\nBegin one with %%llm --map DF, then plot again."
_UNITS = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0))


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
