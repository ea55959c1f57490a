"""What the buttons of the models do, on the dashboard's own loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from nbllm.core.model_manager import ModelManager
from nbllm.core.types import LoadOptions
from nbllm.notebook.dashboard.cell_defaults import CellDefaults
from nbllm.notebook.dashboard.model_row import ModelActions, Report
from nbllm.notebook.dashboard.widgets import failure_words
from nbllm.notebook.loop import LoopThread

__all__ = ["ModelWork"]


class ModelWork:
    """Loads, unloads and pins. ``on_end`` gets a line for the log, "" where nothing went wrong;
    ``on_choice`` the name of a model that was loaded from here.
    """

    def __init__(
        self,
        manager: ModelManager,
        loop: LoopThread,
        cells: CellDefaults,
        *,
        on_end: Callable[[str], None],
        on_choice: Callable[[str], None],
    ) -> None:
        self._manager, self._loop, self._cells = manager, loop, cells
        self._on_end, self._on_choice = on_end, on_choice

    @property
    def actions(self) -> ModelActions:
        """What the buttons call."""
        manager, cells = self._manager, self._cells
        return ModelActions(
            load=lambda name, report: self.load(name, LoadOptions(), report),
            unload=lambda name, report: self._do(manager.unload_model(name), report),
            pin=lambda name, report: self._do(_called(manager.pin_model, name), report),
            unpin=lambda name, report: self._do(_called(manager.unpin_model, name), report),
            use=lambda name, report: self._do(_called(cells.choose, name), report),
        )

    def load(self, name: str, options: LoadOptions, report: Report) -> None:
        """Load a model, which then answers the cells that name none."""
        self._do(self._load(name, options), report)

    def _do(self, work: Coroutine[Any, Any, object], report: Report) -> None:
        self._loop.submit(self._reported(work, report))

    async def _reported(self, work: Coroutine[Any, Any, object], report: Report) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - nobody else hears of what a press raises
            words = failure_words(error)
            report(words)
            self._on_end(f"✗ {words.splitlines()[0]}")
        else:
            report("")
            self._on_end("")

    async def _load(self, name: str, options: LoadOptions) -> None:
        wish = self._cells.load_options().merged(options)
        _, info = await self._manager.load_model(name, options=wish)
        self._cells.choose(info.name)
        self._on_choice(info.name)


async def _called(function: Callable[[str], object], name: str) -> None:
    function(name)
