"""Loading from a cell, and what there is to see of it: how far it is, what it waits for."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import WAIT_SECONDS, ModelManager
from nbllm.core.types import LoadOptions
from nbllm.notebook.failures import Stopped
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.status_messages import loading_words
from nbllm.notebook.views.display import TICK_SECONDS, View

__all__ = ["NOTE_AFTER_SECONDS", "Loading", "load_model"]

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
