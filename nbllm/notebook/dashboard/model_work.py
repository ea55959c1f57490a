"""What the buttons of the models do, on the dashboard's own loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from IPython.core.getipython import get_ipython

from nbllm.core.loading.model_loads import ModelStatus
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import LoadOptions
from nbllm.notebook.dashboard.model_row import ModelActions, Report
from nbllm.notebook.dashboard.widgets import failure_words
from nbllm.notebook.loop import LoopThread
from nbllm.notebook.session import NotebookSession, SessionMagics

__all__ = ["CellDefaults", "ModelWork"]


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


class CellDefaults:
    """The defaults of the cells that use ``manager``.

    The extension may come and go while a dashboard is shown, so its session is looked for each
    time; without one the model used last answers.
    """

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def load_options(self) -> LoadOptions:
        """How ``%llm_load`` loads where no flag says otherwise."""
        session = self._session()
        return session.load_options() if session else LoadOptions()

    def magic(self) -> str:
        """What ``%%llm`` is called."""
        session = self._session()
        return session.magic_name("llm") if session else "llm"

    def model(self, statuses: Sequence[ModelStatus]) -> str | None:
        """The name of the model that answers where a cell names none, of those in ``statuses``.

        None where that is one that is yet to be loaded.
        """
        names = [status.info.name for status in statuses if status.state == "loaded"]
        session = self._session()
        if session and session.settings.model:
            chosen = session.settings.model
            alike = [name for name in names if name.casefold().startswith(chosen.casefold())]
            return chosen if chosen in names else alike[0] if len(alike) == 1 else None
        used = max(statuses, key=lambda status: status.used, default=None)
        return used.info.name if used and used.info.name in names else None

    def choose(self, name: str) -> None:
        """Have a loaded model answer from now on where a cell names none.

        Without a setting that is the one used last. Raises ``ModelNotFoundError``.
        """
        self._manager.get_model(name)
        session = self._session()
        if session and session.settings.model:
            session.settings.model = name

    def _session(self) -> NotebookSession | None:
        shell = get_ipython()
        registry = shell.magics_manager.registry.values() if shell else ()
        sessions = (magics.session for magics in registry if isinstance(magics, SessionMagics))
        return next((each for each in sessions if each.manager is self._manager), None)
