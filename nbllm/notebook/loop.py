"""The bridge from code that cannot await to code that must be awaited, and ``nbllm.run`` on it.

A magic is called synchronously, in a kernel whose own loop is already running. So the coroutine
runs on a loop in a thread of its own, while the caller's thread waits, can be interrupted, and
shows what there is to see.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from nbllm.core.forks import keep_untouched, renew_in_children

__all__ = ["LoopJob", "LoopThread", "free_loop", "interruptible", "run"]

T = TypeVar("T")

CANCEL_SECONDS = 0.02
"""How long an interrupted caller waits for the cancelled work to end; it ends anyway."""

CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Running:
    """A loop that runs in a thread of this process, and the event that ends it."""

    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    thread: threading.Thread


class LoopThread:
    """One asyncio event loop in a daemon thread, for callers in any other thread.

    It starts with the first ``run`` and ends with ``close`` or with the process. A forked child
    starts one of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._jobs: list[LoopJob[Any]] = []
        renew_in_children(self)

    def renew(self) -> None:
        """Have no thread, in a forked child: the one that there is runs in the parent alone."""
        keep_untouched(self._running)
        self._lock = threading.Lock()
        self._running = None
        self._jobs = []

    def run(
        self,
        work: Coroutine[Any, Any, T],
        *,
        on_tick: Callable[[], None] = lambda: None,
        tick_seconds: float = 0.25,
        wake: threading.Event | None = None,
    ) -> T:
        """The result of ``work``, or its exception, once it is done.

        Meanwhile ``on_tick`` is called in the caller's thread, every ``tick_seconds`` and as soon
        as ``wake`` is set. The work sees the caller's context variables. An interrupt, or an
        exception from ``on_tick``, cancels the work at once and is raised.
        """
        job = self.submit(work, wake=wake)
        return job.wait(on_tick=on_tick, tick_seconds=tick_seconds)

    def submit(
        self, work: Coroutine[Any, Any, T], *, wake: threading.Event | None = None
    ) -> LoopJob[T]:
        """Have ``work`` done and return at once; ``wake`` is set when its result is there.

        The work sees the caller's context variables. Raises ``RuntimeError`` on the loop itself,
        which could not wait for it.
        """
        running = self._ensure_running()
        if self.is_here:
            work.close()
            raise RuntimeError("run() was called on the loop that would have to do the work")
        job = LoopJob(running.loop, work, wake or threading.Event())
        with self._lock:
            self._jobs = [*(each for each in self._jobs if not each.result.done()), job]
        return job

    @property
    def is_busy(self) -> bool:
        """Whether work that was submitted has not ended yet."""
        return any(not job.result.done() for job in self._jobs)

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop."""
        running = self._running
        return running is not None and running.thread is threading.current_thread()

    def close(self) -> None:
        """Cancel what still runs and end the thread. The next ``run`` starts another."""
        with self._lock:
            running, self._running = self._running, None
        atexit.unregister(self.close)
        if running is not None and running.thread.is_alive():
            running.loop.call_soon_threadsafe(running.stop.set)
            running.thread.join(CLOSE_SECONDS)

    def _ensure_running(self) -> _Running:
        with self._lock:
            if self._running is None or not self._running.thread.is_alive():
                self._running = _start()
                atexit.unregister(self.close)
                atexit.register(self.close)
            return self._running


class LoopJob(Generic[T]):
    """A task on another thread's loop. ``wake`` is set when its ``result`` is there."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], wake: threading.Event
    ) -> None:
        self.result: Future[T] = Future()
        self._loop, self._work, self._wake = loop, work, wake
        self._task: asyncio.Task[None] | None = None
        loop.call_soon_threadsafe(self._start)

    def wait(self, *, on_tick: Callable[[], None], tick_seconds: float) -> T:
        """The result of the work, or its exception; see ``LoopThread.run``.

        Raises ``concurrent.futures.CancelledError`` where ``stop`` was called.
        """
        self.wait_until(self.result.done, on_tick=on_tick, tick_seconds=tick_seconds)
        return self.result.result()

    def wait_until(
        self,
        ready: Callable[[], bool],
        *,
        on_tick: Callable[[], None] = lambda: None,
        tick_seconds: float = 0.25,
    ) -> None:
        """Wait until ``ready`` or until the work is done, whichever comes first.

        ``ready`` is asked when ``wake`` is set, and every ``tick_seconds``. An interrupt, or an
        exception from ``on_tick``, cancels the work and is raised.
        """
        with interruptible():
            try:
                while not (self.result.done() or ready()):
                    self._wake.wait(tick_seconds)
                    self._wake.clear()
                    if not self.result.done():
                        on_tick()
            except BaseException:
                self.cancel()
                raise

    def cancel(self) -> None:
        """Cancel the task and give it a moment to end."""
        self.stop()
        wait_for([self.result], CANCEL_SECONDS)

    def stop(self) -> None:
        """Cancel the task, from any thread, and return at once. Later it is harmless."""
        with suppress(RuntimeError):  # the loop is closed, and so the task has ended
            self._loop.call_soon_threadsafe(self._cancel)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._follow())
        # Work that the end of the loop cancels before its first step would else warn.
        self._task.add_done_callback(lambda task: self._work.close())

    def _cancel(self) -> None:
        if self._task is not None:
            self._loop.call_soon(self._task.cancel)  # after its first step, so that it can clean up

    async def _follow(self) -> None:
        try:
            self.result.set_result(await self._work)
        except asyncio.CancelledError:
            self.result.cancel()
            self.result.set_running_or_notify_cancel()
            raise
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            self.result.set_exception(error)
        finally:
            self._wake.set()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises ``KeyboardInterrupt`` in here.

    In a cell that awaits at top level too, ipykernel has put a handler in place that cancels the
    cell's task; this cannot happen while the cell's thread waits here.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main_thread else None
    if before is None:  # another thread, or a handler that Python cannot put back
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start() -> _Running:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_serve, args=(started,), name="nbllm-loop", daemon=True)
    thread.start()
    loop, stop = started.result()
    return _Running(loop, stop, thread)


def _serve(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    # Not asyncio.run: nest_asyncio replaces it by one that works in the main thread only.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_until_stopped(started))
    finally:
        loop.close()


async def _until_stopped(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    started.set_result((loop, stop))
    await stop.wait()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, or its exception, from any place that cannot await.

    In a script, a cell, a callback, or a function that a running loop has called: the work runs
    on a loop in a thread of nbllm's own, and nobody's loop is patched. An interrupt cancels it.
    Called from such work itself, the inner work gets another loop of its own, and the outer one
    waits; whatever awaits can rather be awaited there.
    """
    with free_loop() as loop:
        return loop.run(work)


@contextmanager
def free_loop() -> Iterator[LoopThread]:
    """A loop that the caller's thread can wait for: the process's, or on that one an inner one."""
    bridge = _bridge()
    if not bridge.is_here:
        yield bridge
        return
    inner = LoopThread()
    try:
        yield inner
    finally:
        inner.close()


@cache
def _bridge() -> LoopThread:
    """One for each process."""
    return LoopThread()
