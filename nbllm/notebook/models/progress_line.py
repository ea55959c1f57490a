"""A line of progress that a page which was reloaded shows again, and keeps showing.

An output that is updated belongs to the page that ran the cell: after a reload it stands still.
A widget is asked for its state by the new page, which front ends and kernels with subshells do
while the cell runs (JupyterLab 4.4, ipykernel 7), others when it has ended.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from nbllm.notebook.asking.stop_button import is_watched
from nbllm.notebook.subshells import answer_where_asked
from nbllm.notebook.views.bundles import note_html, widget_view

if TYPE_CHECKING:
    from nbllm.notebook.session import NotebookSession
    from nbllm.notebook.views.display import View

__all__ = ["ProgressLine"]


class ProgressLine:
    """One line in ``view``, as a widget where there are widgets and somebody looks, else a note.

    Leaving the ``with`` block takes it away.
    """

    def __init__(self, session: NotebookSession, view: View) -> None:
        self._view, self._is_live = view, is_watched(session.shell)
        self._widget: Any = None

    def show(self, words: str) -> None:
        """Have the line say ``words``."""
        if not self._is_live:
            self._view.note(words)
        elif self._widget is None:
            self._widget = _widget(words)
            self._view.control(widget_view(self._widget, words))
        else:
            self._widget.value = note_html(words)  # nothing is sent where it is the same

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._view.drop_note("")
        if self._widget is not None:
            for widget in (self._widget, self._widget.layout, self._widget.style):
                widget.close()


def _widget(words: str) -> Any:
    import ipywidgets

    return answer_where_asked(ipywidgets.HTML(note_html(words)))
