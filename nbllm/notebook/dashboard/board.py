"""``Dashboard``: the panels together, and the ticks that keep them up to date."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import Any

import ipywidgets
from IPython.core.getipython import get_ipython

from nbllm.core.errors import DoesNotFitError, NbllmError
from nbllm.core.forks import ChildSafeLock
from nbllm.core.hardware.resources import Resources
from nbllm.core.history import GenerationRecord
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_manager import ModelManager, default_manager
from nbllm.core.openers import plan_model
from nbllm.core.rendering.escaping import text_html
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import place_of
from nbllm.core.words import size_words
from nbllm.notebook.dashboard.device_panel import DevicePanel, ThroughputPanel
from nbllm.notebook.dashboard.log_panel import LogPanel
from nbllm.notebook.dashboard.model_panel import SHOWN_MODELS, ModelActions, ModelPanel
from nbllm.notebook.dashboard.playground import Playground
from nbllm.notebook.dashboard.presence import Presence, follow_cells
from nbllm.notebook.dashboard.request_panel import RequestPanel
from nbllm.notebook.dashboard.style import STYLE
from nbllm.notebook.dashboard.widgets import box, button, close_tree, text
from nbllm.notebook.loop import LoopThread
from nbllm.notebook.subshells import answer_where_asked
from nbllm.notebook.versions import can_be_started
from nbllm.notebook.views.bundles import widget_view

__all__ = ["Dashboard", "dashboard"]

TICK_SECONDS = 1.0
NUDGE_SECONDS = 0.1
"""What happens in between is shown this late at most, and no more often."""
_BUTTONS_WAIT = "a cell is running: buttons answer when it ends"
_IN_PLAIN_TEXT = (
    "The dashboard is live in a notebook only; %llm_models, %llm_devices and %llm_stats show "
    "tables everywhere."
)
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
        self._cpu_name = ""
        self._available: list[ModelInfo] = []
        self._fits: dict[str, str] = {}
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
        actions = ModelActions(
            load=lambda name: self._do(self._load(name)),
            unload=lambda name: self._do(self.manager.unload_model(name)),
            pin=lambda name: self._do(self._pin(name, pinned=True)),
            unpin=lambda name: self._do(self._pin(name, pinned=False)),
        )
        self._models, self._requests = ModelPanel(actions), RequestPanel()
        self._devices, self._throughput = DevicePanel(), ThroughputPanel()
        self._playground, self._log = Playground(self.manager, self._loop), LogPanel()
        self._head = text()
        self._pulse = answer_where_asked(ipywidgets.Play(value=0, max=1, interval=1000))
        self._pulse.add_class("nbllm-hidden")
        self._pulse.observe(self._on_pulse, "value")
        refresh = button("Refresh", "Look for models again", self._scan_soon)
        left = [self._devices.widget, self._throughput.widget, self._log.widget]
        right = [self._models.widget, self._requests.widget, self._playground.widget]
        columns = [box(side, "nbllm-column") for side in (left, right)]
        self.widget = box(
            [
                text(STYLE, "nbllm-hidden"),
                box([self._head, refresh, self._pulse], "nbllm-head"),
                box(columns, "nbllm-columns"),
            ],
            "nbllm-board",
        )
        self.widget._view_count = 0  # noqa: SLF001 - documented so: from now on pages count views
        self.widget.observe(self._on_views, "_view_count")

    # ------------------------------------------------------------ showing

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._is_closed:
            return {"text/plain": repr(self)}
        self._presence.shown()
        self._wake()
        return dict(widget_view(self.widget, _IN_PLAIN_TEXT).data)

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

    def _scan_soon(self) -> None:
        self._needs_scan.set()
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
            words = f"stopped by {type(error).__name__}: {error}. Refresh starts it again."
            self._head.value = _head(words, is_on=False)

    async def _tick(self) -> None:
        loop, nudged = asyncio.get_running_loop(), asyncio.Event()

        def nudge() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(nudged.set)

        self._nudge = nudge
        next_sample = 0.0
        try:
            while not self._is_closed and self._presence.check():
                if self._needs_scan.is_set():
                    self._needs_scan.clear()
                    await asyncio.to_thread(self._scan)
                if loop.time() >= next_sample:
                    next_sample = loop.time() + self._tick_seconds
                    self._update_charts()
                self._update_rows()
                await _pause(nudged, next_sample - loop.time())
        finally:
            self._is_ticking = False
        self._wake()  # a view may have been opened while this one ended

    def _scan(self) -> None:
        """What takes longer: look for files, read their headers, and see what fits now."""
        resources = self._detector.detect()
        self._cpu_name = resources.cpu.model or resources.cpu.architecture
        self._available = self.manager.list_available_models()
        shown = self._available[: SHOWN_MODELS + len(self.manager.list_statuses())]
        self._fits = {info.name: _fit_words(info, resources) for info in shown}

    def _update_charts(self) -> None:
        """Measure, and show it."""
        self._devices.update(self._detector.sample(), self._cpu_name)
        self._throughput.update(self.manager.activity.tokens_by_device())

    def _update_rows(self) -> None:
        """Show what is now; a widget whose value is the same sends nothing."""
        statuses = self.manager.list_statuses()
        loaded = [status.info.name for status in statuses if status.state == "loaded"]
        others = [info.name for info in self._available if info.name not in loaded]
        self._requests.update(self.manager.activity.running())
        self._models.update(statuses, self._available, self._fits)
        self._playground.offer([*loaded, *others])
        self._log.update()
        waits = self._presence.buttons_wait
        self._head.value = _head(_BUTTONS_WAIT if waits else "live", is_on=not waits)

    # ------------------------------------------------------------ what buttons do

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop.submit(self._logged(work))

    async def _logged(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except NbllmError as error:
            self._log.add(f"✗ {str(error).splitlines()[0]}")
        self._nudge()

    async def _load(self, name: str) -> None:
        await self.manager.load_model(name)

    async def _pin(self, name: str, *, pinned: bool) -> None:
        (self.manager.pin_model if pinned else self.manager.unpin_model)(name)


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


def _fit_words(info: ModelInfo, resources: Resources) -> str:
    try:
        placement = plan_model(info, resources)
    except DoesNotFitError as error:
        needed, there = size_words(error.needed_bytes), size_words(error.available_bytes)
        return f"needs {needed}, {there} free"
    except NbllmError as error:
        return str(error).splitlines()[0].removeprefix(f"{info.name}: ")
    if placement is None:
        return place_of(info) or ""
    return f"fits {placement.device} · {size_words(placement.total_bytes)}"


def _head(words: str, *, is_on: bool) -> str:
    return (
        '<div class="nbllm-brand"><strong>nbllm</strong>'
        f'<span class="nbllm-soft"><i class="nbllm-dot{" on" if is_on else ""}"></i>'
        f"{text_html(words)}</span></div>"
    )
