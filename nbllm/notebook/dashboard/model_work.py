"""What the dashboard finds out about models, and what their buttons do, on its own loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from IPython.core.getipython import get_ipython

from nbllm.core.errors import DoesNotFitError, ModelLoadError, NbllmError
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import place_of
from nbllm.core.loading.model_loads import ModelStatus
from nbllm.core.model_manager import ModelManager
from nbllm.core.openers import plan_model
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.core.words import size_words
from nbllm.notebook.dashboard.model_row import ModelActions, Report
from nbllm.notebook.dashboard.widgets import failure_words
from nbllm.notebook.loop import LoopThread
from nbllm.notebook.session import NotebookSession, SessionMagics

__all__ = ["CellDefaults", "ModelWork", "Survey"]


class Survey:
    """The last findings: ``available`` models, ``resources``, and in words what ``fits``.

    ``scan`` and ``plan`` read files, and belong into a thread.
    """

    def __init__(self, manager: ModelManager, detector: ResourceDetector) -> None:
        self._manager, self._detector = manager, detector
        self.available: list[ModelInfo] = []
        self.resources: Resources | None = None
        self.fits: dict[str, str] = {}

    @property
    def cpu_name(self) -> str:
        """What the processor is called; "" before the first scan."""
        resources = self.resources
        return (resources.cpu.model or resources.cpu.architecture) if resources else ""

    def scan(self) -> None:
        """Look for models and memory; what fits is planned anew."""
        self.resources = self._detector.detect()
        self.available = self._manager.list_available_models()
        self.fits = {}

    def unplanned(self, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
        """Those of which is not known yet whether they fit."""
        return [info for info in infos if info.name not in self.fits]

    def plan(self, infos: Iterable[ModelInfo]) -> None:
        """Find out whether these fit."""
        if self.resources is not None:
            for info in infos:
                self.fits[info.name] = _fit_words(info, self.resources)


def _fit_words(info: ModelInfo, resources: Resources) -> str:
    try:
        placement = plan_model(info, resources)
    except DoesNotFitError as error:
        needed, there = size_words(error.needed_bytes), size_words(error.available_bytes)
        return f"needs {needed}, {there} free"
    except ModelLoadError as error:
        return error.problem.splitlines()[0]
    except NbllmError as error:
        return str(error).splitlines()[0].removeprefix(f"{info.name}: ")
    if placement is None:
        return place_of(info) or ""
    return f"fits {placement.device} · {size_words(placement.total_bytes)}"


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
