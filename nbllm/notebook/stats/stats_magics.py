"""``%llm_stats`` and ``%llm_plot``: what was generated, as a table and as figures."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.core.paths import absolute_path, reason
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.stats.figure import LlmFigure

__all__ = ["StatsMagics"]

STATS = Help(
    """
    %llm_stats                       every generation, the oldest first
    %llm_stats --summary             one row for each model and device
    %llm_stats --save stats.csv
    stats = %llm_stats
    stats.groupby("model")["speed (tokens/s)"].median()
""",
    (
        flag("--summary", action="store_true", help="Counts, medians and totals by model."),
        flag("--save", metavar="FILE", help="Write the table to a .csv or .json file."),
        flag("--clear", action="store_true", help="Clear the statistics afterwards."),
    ),
)


class StatsFlags(Flags):
    """What ``STATS`` explains."""

    summary: bool
    save: str | None
    clear: bool


PLOT = Help(
    """
    %llm_plot                        four figures in one
    %llm_plot throughput             tokens/s of each device over time
    figure = %llm_plot memory --theme dark --save memory.svg
""",
    (
        flag(
            "what",
            nargs="?",
            default="all",
            choices=("all", "throughput", "distribution", "first-token", "memory", "run"),
            help="throughput (tokens/s over time by device), distribution (decoding speeds by "
            "model), first-token (by model), memory (by device), all of these, or run (rows and "
            "tokens of the last run over a table).",
        ),
        flag(
            "--theme",
            default="auto",
            choices=("auto", "light", "dark"),
            help="Colours for a light or a dark page; auto works on both.",
        ),
        flag("--save", metavar="FILE", help="Write the figure to a .png, .svg or .pdf file."),
    ),
)


class PlotFlags(Flags):
    """What ``PLOT`` explains."""

    what: str
    theme: Literal["auto", "light", "dark"]
    save: str | None


_FIGURES = (".png", ".svg", ".pdf")


@magics_class
class StatsMagics(SessionMagics):
    """The magics that look back."""

    @no_var_expand
    @with_help(STATS)
    @line_magic
    def llm_stats(self, line: str) -> pd.DataFrame:
        """List every generation with its tokens, times, speed and cost, as a DataFrame."""
        args = parse(parser_of(self, "llm_stats"), line, StatsFlags())
        from nbllm.notebook.stats.stats_table import (
            SAVE_SUFFIXES,
            save_stats,
            stats_summary,
            stats_table,
        )

        path = _save_path(args.save, SAVE_SUFFIXES)
        history = self.session.manager.history
        notes = [f"Saved to {path}."] if path else []
        table = (stats_summary if args.summary else stats_table)(history.records(), notes)
        if path is not None:
            with _telling(path):
                save_stats(table, path)
        if args.clear:
            history.clear()
        return table

    @no_var_expand
    @with_help(PLOT)
    @line_magic
    def llm_plot(self, line: str) -> LlmFigure:
        """Plot what was generated: throughput, speeds, time to first token, memory."""
        args = parse(parser_of(self, "llm_plot"), line, PlotFlags())
        path = _save_path(args.save, _FIGURES)
        from nbllm.core.resource_detector import ResourceDetector
        from nbllm.core.saved_files import write
        from nbllm.notebook.stats.plots import plot

        manager = self.session.manager
        figure = plot(
            args.what,
            manager.history.records(),
            ResourceDetector().detect(),
            manager.list_loaded_models(),
            theme=args.theme,
        )
        if path is not None:
            drawn = io.BytesIO()
            figure.savefig(drawn, format=path.suffix.removeprefix("."))
            with _telling(path):
                write(path, drawn.getvalue())
        return figure


def _save_path(save: str | None, suffixes: Collection[str]) -> Path | None:
    """Where to save to, if anywhere. Raises ``UsageError`` for names of another kind of file."""
    if not save:
        return None
    try:
        path = absolute_path(save)
    except ValueError as error:
        raise UsageError(f"--save {save}: {error}") from None
    if path.suffix not in suffixes:
        raise UsageError(f"--save {save}: the name must end in {' or '.join(suffixes)}")
    return path


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Raises ``UsageError`` in place of an ``OSError``."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"--save {path}: cannot be written: {reason(error)}") from None
