"""While a cell waits: how far a load is and what it waits for, and the button that stops it.

While a cell runs, a press reaches the kernel over a subshell only (JupyterLab 4.6 and Notebook
7.6 with ipykernel 7); the toolbar's own button works everywhere. A cell that nobody watches, as
nbclient runs it, gets no button: its comm would be saved with the notebook.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import ModelNotFoundError
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import WAIT_SECONDS, ModelManager
from nbllm.core.types import LoadOptions
from nbllm.notebook.running_cell import Stopped
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.status_messages import loading_words, ready_words
from nbllm.notebook.versions import answer_where_asked
from nbllm.notebook.views.bundles import Bundle, widget_view
from nbllm.notebook.views.display import TICK_SECONDS, View

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.notebook.session import NotebookSession
    from nbllm.notebook.views.display import View

__all__ = ["NOTE_AFTER_SECONDS", "Loading", "StopButton", "WantedModel", "load_model"]

NOTE_AFTER_SECONDS = 0.3
"""What is done sooner shows no progress: it would only flicker."""


class Loading:
    """A load on its way, as the context in which it runs. ``name`` is what the user called it."""

    def __init__(self, manager: ModelManager, name: str) -> None:
        self.name, self._manager = name, manager
        self._fraction, self._waits_for = 0.0, ""
        self._evictions: list[ManagerEvent] = []
        self._began = time.monotonic()

    def __enter__(self) -> Loading:
        self._unsubscribe = self._manager.subscribe(self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._unsubscribe()

    def report(self, fraction: float) -> None:
        """Takes the progress, from any thread."""
        self._fraction = fraction

    @property
    def seconds(self) -> float:
        """Since the load began."""
        return time.monotonic() - self._began

    @property
    def message(self) -> str:
        """What it waits for, or how far it is; "" as long as it is not worth telling."""
        is_long = self.seconds >= NOTE_AFTER_SECONDS
        return (self._waits_for or loading_words(self.name, self._fraction)) if is_long else ""

    def evictions(self, model: str) -> list[str]:
        """Sentences on what was unloaded for ``model``, as the manager calls it; itself too."""
        return [event.words for event in self._evictions if event.cause == model]

    def _take(self, event: ManagerEvent) -> None:
        if event.kind == "evicted" or event.cause:
            self._evictions.append(event)
        elif _is_meant(self.name, event.model):
            self._waits_for = event.words if event.kind == "waiting" else ""


def _is_meant(name: str, model: str) -> bool:
    """Whether the user's ``name`` can mean the model; a name may be begun, or be a path."""
    requested = Path(name).stem if name.endswith(".gguf") else name
    return model.casefold().startswith(requested.casefold())


class WantedModel:
    """The model that a cell asks: of this ``name``, or the one used last, or the bundled one.

    ``loading`` is its load as long as that goes on.
    """

    def __init__(self, session: NotebookSession, name: str | None) -> None:
        self.name, self._session = name, session
        self.loading: Loading | None = None
        self._lines: list[str] = []

    async def get(self) -> ModelInterface:
        """Find it, or load it. Raises what loading raises."""
        manager = self._session.manager
        try:
            return manager.get_model(self.name)
        except ModelNotFoundError:
            requested = self.name or manager.bundled_model().name
        with Loading(manager, requested) as loading:
            self.loading = loading
            try:
                options = self._session.load_options()
                model, info = await manager.load_model(
                    requested, options=options, progress=loading.report
                )
            finally:
                self.loading = None
        why = "" if self.name else "No model was loaded, so the bundled one answers: "
        ready = why + ready_words(info, loading.seconds, model.unready)
        self._lines = [*loading.evictions(info.name), ready]
        return model

    @property
    def title(self) -> str:
        """What it is called before it is there."""
        return self.loading.name if self.loading else self.name or "the model"

    @property
    def activity(self) -> str:
        """How far its load is; "" where there is nothing to tell."""
        return self.loading.message if self.loading else ""

    def lines(self) -> list[str]:
        """What there is to tell of a load that has ended; each line is given out once."""
        lines, self._lines = self._lines, []
        return lines


def load_model(
    session: NotebookSession,
    name: str | Path,
    view: View,
    *,
    alias: str | None = None,
    options: LoadOptions | None = None,
    wait: float = WAIT_SECONDS,
) -> tuple[ModelInterface, float]:
    """The loaded model, and the seconds that it took; what was unloaded for it is told.

    ``wait`` is for how many seconds it waits for busy models. Raises what the manager raises.
    """
    with Loading(session.manager, alias or str(name)) as loading:

        def look() -> None:
            if loading.message:
                view.note(loading.message)

        work = session.manager.load_model(
            name, alias=alias, options=options, progress=loading.report, wait=wait, reload=True
        )
        try:
            model, _ = session.loop.run(work, on_tick=look, tick_seconds=TICK_SECONDS)
        except KeyboardInterrupt:
            view.drop_note("")
            raise Stopped(f"Loading {alias or name} was stopped.") from None
        except Exception:  # whatever it is, it is told in place of the progress
            view.drop_note("")
            raise
        for message in loading.evictions(model.name):
            view.keep(message)
        return model, loading.seconds


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
