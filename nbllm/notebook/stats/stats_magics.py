"""``%llm_stats`` and ``%llm_plot``: what was generated, as a table and as figures."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.core.paths import absolute_path, reason
from nbllm.notebook.flags import PLOT, STATS, parser_of, with_help
from nbllm.notebook.magic_line import parse
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.stats.figure import LlmFigure

__all__ = ["StatsMagics"]

_FIGURES = (".png", ".svg", ".pdf")


@magics_class
class StatsMagics(SessionMagics):
    """The magics that look back."""

    @no_var_expand
    @with_help(STATS)
    @line_magic
    def llm_stats(self, line: str) -> pd.DataFrame:
        """List every generation with its tokens, times, speed and cost, as a DataFrame."""
        args = parse(parser_of(self, "llm_stats"), line)
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
        args = parse(parser_of(self, "llm_plot"), line)
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
