"""``Dashboard``: the panels together, and the ticks that keep them up to date."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any

import ipywidgets
from IPython.core.getipython import get_ipython

from nbllm.core.forks import ChildSafeLock
from nbllm.core.history import GenerationRecord
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_manager import ModelManager, default_manager
from nbllm.core.rendering.escaping import text_html
from nbllm.core.resource_detector import ResourceDetector
from nbllm.notebook.dashboard.activity_panels import LogPanel, RequestPanel
from nbllm.notebook.dashboard.device_panel import DevicePanel, ThroughputPanel
from nbllm.notebook.dashboard.model_panel import ModelPanel
from nbllm.notebook.dashboard.model_work import CellDefaults, ModelWork, Survey
from nbllm.notebook.dashboard.models_page import ModelsPage
from nbllm.notebook.dashboard.page_code import ENTRIES, STYLE, runs
from nbllm.notebook.dashboard.playground import Playground
from nbllm.notebook.dashboard.presence import Presence, follow_cells
from nbllm.notebook.dashboard.saved_view import SavedView, Section
from nbllm.notebook.dashboard.widgets import box, button, close_tree, mark, text
from nbllm.notebook.loop import LoopThread
from nbllm.notebook.versions import answer_where_asked, can_be_started

__all__ = ["Dashboard", "dashboard"]

TICK_SECONDS = 1.0
NUDGE_SECONDS = 0.1
"""What happens in between is shown this late at most, and no more often."""
FIRST_SECONDS = 1.0
"""How long a cell waits at most for what a notebook is to keep of the dashboard."""
_BUTTONS_WAIT = "a cell is running: buttons respond when it ends"
_SCANS_AGAIN = {"loaded", "unloaded", "evicted", "failed"}


class Dashboard:
    """Models, devices, throughput, running requests, a playground and a log, live.

    It is shown by being the value of a cell, and may be shown in several places at once. While
    nobody looks at it, it rests. ``close`` takes it away for good; the models stay loaded.
    Devices and rates are measured every ``tick_seconds``.
    """

    def __init__(
        self, manager: ModelManager | None = None, *, tick_seconds: float = TICK_SECONDS
    ) -> None:
        self.manager = manager or default_manager()
        self._tick_seconds = tick_seconds
        self._detector = ResourceDetector()
        self._nudge: Callable[[], object] = lambda: None
        self._survey = Survey(self.manager, self._detector)
        self._cells = CellDefaults(self.manager)
        self._saved, self._saved_version = SavedView(self._sections), (0, 0)
        self._has_state = threading.Event()
        self._loop = LoopThread()
        self._lock = ChildSafeLock()
        self._is_ticking = self._is_closed = False
        self._needs_scan = threading.Event()
        self._build()
        self._presence = Presence(self._ask_pages if can_be_started(self._pulse) else None)
        self._at_close = ExitStack()
        for leave in (
            self.manager.subscribe(self._on_event),
            self.manager.history.subscribe(self._on_record),
            follow_cells(get_ipython(), self._presence),
        ):
            self._at_close.callback(leave)

    def _build(self) -> None:
        self._requests, self._log = RequestPanel(), LogPanel()
        self._devices, self._throughput = DevicePanel(), ThroughputPanel()
        self._playground = Playground(self.manager, self._loop, self._cells.magic)
        work = ModelWork(
            self.manager,
            self._loop,
            self._cells,
            on_end=self._on_work_end,
            on_choice=self._playground.choose,
        )
        self._models = ModelPanel(work.actions, work.load, self._on_work_end)
        self._page = ModelsPage(self.manager, self._loop, work, self._on_files_end)
        self._head = text()
        self._pulse = answer_where_asked(ipywidgets.Play(value=0, max=1, interval=1000))
        self._pulse.add_class("nbllm-hidden")
        self._pulse.observe(self._on_pulse, "value")
        refresh = button("Refresh", "Look for models again", self._scan_soon)
        self._overview_tab = button(
            "Overview", "What runs now", lambda: self._turn(to_models=False)
        )
        self._models_tab = button(
            "Model files",
            "What is on this machine; download, quantize, tune, delete",
            lambda: self._turn(to_models=True),
        )
        tabs = box([self._overview_tab, self._models_tab], "nbllm-buttons")
        left = (self._devices, self._throughput, self._requests, self._log)
        right = (self._models, self._playground)
        columns = [box([panel.widget for panel in side], "nbllm-column") for side in (left, right)]
        self._overview = box(columns, "nbllm-columns")
        mark(self._overview_tab, "nbllm-on", on=True)
        self.widget = box(
            [
                text(STYLE + self._saved.hiding_style + runs(ENTRIES), "nbllm-hidden"),
                box([self._head, tabs, refresh, self._pulse], "nbllm-head"),
                self._overview,
                self._page.widget,
            ],
            "nbllm-board",
        )
        self.widget._view_count = 0  # noqa: SLF001 - documented so: from now on pages count views
        self.widget.observe(self._on_views, "_view_count")

    def _turn(self, *, to_models: bool) -> None:
        """Show one of the two pages, in all views."""
        self._page.open(is_open=to_models)
        mark(self._overview, "nbllm-hidden", on=to_models)
        mark(self._overview_tab, "nbllm-on", on=not to_models)
        mark(self._models_tab, "nbllm-on", on=to_models)
        self._nudge()
        self._wake()

    # ------------------------------------------------------------ showing

    def _ipython_display_(self) -> None:
        shell = get_ipython()
        if shell is None or self._is_closed:
            print(repr(self))  # noqa: T201 - all that there is to show
            return
        self._presence.shown()
        self._wake()
        self._saved.show(
            shell.display_pub, self.widget, lambda: self._has_state.wait(FIRST_SECONDS)
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython's way
        """In a terminal of IPython 7, which asks for nothing else."""
        printer.text(repr(self) if self._is_closed else self._saved.text)

    def _sections(self) -> list[Section]:
        panels = (
            self._models,
            self._page,
            self._requests,
            self._playground,
            self._devices,
            self._log,
        )
        return [panel.section for panel in panels]

    def __repr__(self) -> str:
        return "<Dashboard, closed>" if self._is_closed else f"<Dashboard of {self.manager!r}>"

    @property
    def ticking(self) -> bool:
        """Whether it is being kept up to date at the moment."""
        return self._is_ticking

    @property
    def closed(self) -> bool:
        """Whether it was taken away."""
        return self._is_closed

    def close(self) -> None:
        """Take it out of the kernel and the page; closing twice is harmless."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._at_close.close()
        self._loop.close()
        self._detector.close()
        self._saved.clear()
        close_tree(self.widget)

    # ------------------------------------------------------------ what pages and the manager tell

    def _on_views(self, change: Any) -> None:
        if isinstance(change["new"], int):
            self._presence.count_views(change["new"])
            self._wake()

    def _on_pulse(self, change: Any) -> None:
        if change["new"] == 1:
            self._presence.answered()

    def _ask_pages(self) -> None:
        self._pulse.playing = False
        self._pulse.value = 0
        self._pulse.playing = True

    def _on_event(self, event: ManagerEvent) -> None:
        self._log.add_event(event)
        if event.kind in _SCANS_AGAIN:
            self._needs_scan.set()
        self._nudge()

    def _on_record(self, record: GenerationRecord) -> None:
        self._log.add_record(record)
        self._nudge()

    def _on_work_end(self, problem: str = "") -> None:
        if problem:
            self._log.add(problem)
        self._nudge()

    def _on_files_end(self, line: str) -> None:
        if line:
            self._log.add(line)
            self._needs_scan.set()
        self._nudge()

    def _scan_soon(self) -> None:
        self._needs_scan.set()
        self._page.look_again()
        self._nudge()
        self._wake()

    # ------------------------------------------------------------ ticks

    def _wake(self) -> None:
        with self._lock:
            if self._is_closed or self._is_ticking or not self._presence.check():
                return
            self._is_ticking = True
            self._needs_scan.set()
        self._loop.submit(self._tick()).result.add_done_callback(self._on_tick_end)

    def _on_tick_end(self, result: Future[None]) -> None:
        error = None if result.cancelled() else result.exception()
        if error is not None and not self._is_closed:
            words = f"updates stopped ({type(error).__name__}: {error}); Refresh restarts them"
            self._head.value = _head(words)

    async def _tick(self) -> None:
        loop, nudged = asyncio.get_running_loop(), asyncio.Event()

        def nudge() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(nudged.set)

        self._nudge = nudge
        next_sample = 0.0
        try:
            while not self._is_closed and self._presence.check():
                await self._look()
                if loop.time() >= next_sample:
                    next_sample = loop.time() + self._tick_seconds
                    self._update_charts()
                self._update_rows()
                self._keep()
                await _pause(nudged, next_sample - loop.time())
            self._keep(is_last=True)
        finally:
            self._is_ticking = False
        self._wake()  # a view may have been opened while this one ended

    async def _look(self) -> None:
        """What takes longer: look for files, read their headers, and see what fits now."""
        survey = self._survey
        if self._needs_scan.is_set():
            self._needs_scan.clear()
            await asyncio.to_thread(survey.scan)
        shown = self._models.shown(self.manager.list_statuses(), survey.available)
        if unplanned := survey.unplanned(shown):
            await asyncio.to_thread(survey.plan, unplanned)
        await self._page.look(survey)

    def _keep(self, *, is_last: bool = False) -> None:
        """Have the notebook keep the state, where something happened since it did so last."""
        self._has_state.set()
        version = (self._log.version, self._playground.version)
        if version != self._saved_version and self._saved.update(is_last=is_last):
            self._saved_version = version

    def _update_charts(self) -> None:
        """Measure, and show it."""
        self._devices.update(self._detector.sample(), self._survey.cpu_name)
        self._throughput.update(self.manager.activity.tokens_by_device())

    def _update_rows(self) -> None:
        """Show what is now; a widget whose value is the same sends nothing."""
        survey, statuses = self._survey, self.manager.list_statuses()
        loaded = [status.info.name for status in statuses if status.state == "loaded"]
        others = [info.name for info in survey.available if info.name not in loaded]
        self._requests.update(self.manager.activity.running())
        default = self._cells.model(statuses)
        self._models.update(statuses, survey.available, survey.fits, default)
        if survey.resources is not None:
            self._models.form.offer_devices(survey.resources)
        self._playground.offer([*loaded, *others])
        self._page.update(survey)
        self._log.update()
        self._head.value = _head(_updated(_BUTTONS_WAIT if self._presence.buttons_wait else ""))


def dashboard(manager: ModelManager | None = None) -> Dashboard:
    """The dashboard of ``manager``, without it of the one that the magics use.

    It needs a notebook. ``close()`` takes it away again.
    """
    return Dashboard(manager)


async def _pause(nudged: asyncio.Event, seconds: float) -> None:
    """Wait, but not for all of it once ``nudged`` is set."""
    await asyncio.sleep(min(NUDGE_SECONDS, max(seconds, 0.0)))
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(nudged.wait(), max(seconds - NUDGE_SECONDS, 0.0))
    nudged.clear()


def _updated(words: str) -> str:
    """When it was brought up to date: true in a page that nobody updates any more, too."""
    return " · ".join(filter(None, [f"as of {datetime.now().astimezone():%H:%M:%S}", words]))


def _head(words: str) -> str:
    return (
        '<div class="nbllm-brand"><strong>nbllm</strong>'
        f'<span class="nbllm-soft">{text_html(words)}</span></div>'
    )
