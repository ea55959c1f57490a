"""A Stop button beside an answer, where the front end can press it.

While a cell runs, a press reaches the kernel over a subshell only (JupyterLab 4.6 and Notebook
7.6 with ipykernel 7); the toolbar's own button works everywhere. A cell that nobody watches, as
nbclient runs it, gets no button: its comm would be saved with the notebook.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nbllm.notebook.versions import answer_where_asked
from nbllm.notebook.views.bundles import Bundle, widget_view

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.notebook.session import NotebookSession
    from nbllm.notebook.views.display import View

__all__ = ["StopButton", "is_watched"]


class StopButton:
    """One button; ``on_press`` is called from whatever thread the press arrives in.

    ``offer`` shows it below an answer that takes a while; leaving the ``with`` block takes its
    widgets back out of the kernel and the page.
    """

    def __init__(
        self,
        session: NotebookSession,
        on_press: Callable[[], None],
        *,
        after_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shell, self._on_press = session.shell, on_press
        self.is_wanted = session.settings.stop_button and is_watched(session.shell)
        self._clock, self._due = clock, clock() + after_seconds
        self._button: Any = None
        self._is_shown = False

    def offer(self, view: View) -> None:
        """Show it in ``view`` once the answer takes long and a press would reach the kernel."""
        if self._is_shown or not self.is_wanted or self._clock() < self._due:
            return
        channel = getattr(getattr(self._shell, "kernel", None), "shell_channel_thread", None)
        if channel is None:  # before ipykernel 7 no kernel has subshells
            return
        bundle = self.bundle()  # makes the comm, for which the front end may open a subshell
        if channel.manager.list_subshell():
            view.control(bundle)
            self._is_shown = True

    def bundle(self) -> Bundle:
        """The output that shows it."""
        if self._button is None:
            self._button = self._make()
        return widget_view(self._button)

    def _make(self) -> Any:
        import ipywidgets

        button = ipywidgets.Button(
            description="Stop",
            icon="stop",
            tooltip="Stop this answer; the text so far is kept",
            layout={"width": "auto", "height": "24px", "margin": "2px 0"},
        )
        button.style.font_size = "12px"  # a plain attribute, without effect, in ipywidgets 7
        button.on_click(self._pressed)
        return answer_where_asked(button)

    def _pressed(self, button: Any) -> None:
        button.disabled, button.description = True, "Stopping"
        self._on_press()

    def __enter__(self) -> StopButton:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take its widgets away; closing twice is harmless."""
        if self._button is not None:
            for widget in (self._button, self._button.layout, self._button.style):
                widget.close()
            self._button = None


def is_watched(shell: InteractiveShell) -> bool:
    """Whether somebody may be there to press a button in the cell that runs now."""
    get_parent = getattr(shell, "get_parent", None)
    request = get_parent() if get_parent is not None else {}
    answers_questions = bool(request.get("content", {}).get("allow_stdin"))
    return answers_questions and find_spec("ipywidgets") is not None
