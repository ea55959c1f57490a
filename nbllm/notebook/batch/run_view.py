"""How a run over a table is shown while it goes on: a bar, its figures, and the last rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.displaypub import CapturingDisplayPublisher, DisplayPublisher
from IPython.core.getipython import get_ipython

from nbllm.batches.batch_rows import BatchProgress, BatchRow
from nbllm.notebook.views.bundles import note

if TYPE_CHECKING:
    import pandas as pd
    from IPython.core.display_functions import DisplayHandle

__all__ = ["SHOWN_ROWS", "RunView", "figures", "rows_html", "show_data", "show_value"]

SHOWN_ROWS = 5
_SHOW_SECONDS = 1.0
_LONGEST_CELL = 60

Frame = Sequence[BatchRow]


class RunView:
    """Counts on the loop's thread, by ``tick``, and shows on the cell's, by ``show``.

    ``table`` makes a DataFrame of some rows, and ``activity`` says what goes on before there are
    any. In a notebook the last rows stand under the bar until
    the run ends; a terminal has the bar alone.
    """

    def __init__(
        self,
        progress: BatchProgress,
        table: Callable[[Frame], pd.DataFrame],
        activity: Callable[[], str],
    ) -> None:
        self._progress, self._table, self._activity = progress, table, activity
        self._last: deque[BatchRow] = deque(maxlen=SHOWN_ROWS)
        self._began = self._shown = time.monotonic()
        self._shown_rows = 0
        from tqdm.auto import tqdm

        self._bar = tqdm(total=progress.total, unit="row")
        self._handle = _open_output() if _is_rich() else None

    def tick(self, progress: BatchProgress, row: BatchRow | None) -> None:
        """Note a row that is finished; None where only the figures are new."""
        self._progress = progress
        if row is not None:
            self._last.append(row)

    def show(self, *, now: bool = False) -> None:
        """Show what is new, once a second at most unless ``now``."""
        done, at = self._progress.done, time.monotonic()
        self._bar.n = done
        self._bar.set_postfix_str(self.figures, refresh=True)
        if self._handle is None or done == self._shown_rows:
            return
        if now or at - self._shown >= _SHOW_SECONDS:
            self._shown, self._shown_rows = at, done
            _update(self._handle, self._html())

    def tell(self, line: str) -> None:
        """Show a line below the bar and its rows, in a terminal above the bar."""
        if self._handle is None:
            self._bar.write(line)
        else:
            show_data(note(line).data)

    def close(self) -> None:
        """Take the rows away and leave the bar as it is, if there is a row that it tells of."""
        self.show(now=True)
        self._bar.leave = self._progress.done > 0
        self._bar.close()
        if self._handle is not None:
            _update(self._handle, "")

    @property
    def figures(self) -> str:
        """What goes on before the first row, then speed, cost, failures and what was kept."""
        return self._activity() or figures(self._progress, time.monotonic() - self._began)

    def _html(self) -> str:
        return rows_html(self._table, self._last)


def rows_html(table: Callable[[Frame], pd.DataFrame], rows: Iterable[BatchRow]) -> str:
    """These rows as ``table`` makes a DataFrame of them; "" where there are none."""
    import pandas as pd

    last = [*rows]
    if not last:
        return ""
    with pd.option_context("display.max_colwidth", _LONGEST_CELL):
        html = str(table(last).to_html(border=0, escape=True, na_rep="", justify="left"))
    return html.replace("<td>", '<td style="text-align: left">')  # no other has escaped "<"


def figures(progress: BatchProgress, seconds: float) -> str:
    """What stands behind a bar."""
    if progress.vendor_state:
        return progress.vendor_state
    parts = []
    if progress.completion_tokens:
        parts.append(f"{progress.completion_tokens / max(seconds, 1e-3):,.0f} tokens/s")
    if progress.cost_usd:
        parts.append(f"{progress.cost_usd:.4f} USD")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.resumed:
        parts.append(f"{progress.resumed:,} from the journal")
    if progress.running and not progress.done:  # or nothing would move until the first is done
        parts.append(f"{progress.running:,} under way")
    return ", ".join(parts)


def _is_rich() -> bool:
    """Whether there is a place that can be shown anew: a notebook's, which nothing captures."""
    shell = get_ipython()
    publisher = None if shell is None else shell.display_pub
    plain = publisher is None or type(publisher) is DisplayPublisher
    return not plain and not isinstance(publisher, CapturingDisplayPublisher)


def show_value(value: object) -> None:
    """Show it in the cell, beside its value."""
    from IPython.display import display

    display(value)  # type: ignore[no-untyped-call]


def show_data(data: Mapping[str, Any]) -> None:
    """Show it in the cell; its forms by MIME type."""
    from IPython.display import display

    display(dict(data), raw=True)  # type: ignore[no-untyped-call]


def _open_output() -> DisplayHandle:
    from IPython.display import DisplayHandle

    handle = DisplayHandle()  # type: ignore[no-untyped-call]
    handle.display(_html_of(""))  # type: ignore[no-untyped-call]
    return handle


def _update(handle: DisplayHandle, html: str) -> None:
    handle.update(_html_of(html))  # type: ignore[no-untyped-call]


def _html_of(html: str) -> Any:
    from IPython.display import HTML

    return HTML(html)  # type: ignore[no-untyped-call]
