import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from nbllm.notebook.loop import LoopThread


@pytest.fixture
def bridge() -> Iterator[LoopThread]:
    loop_thread = LoopThread()
    yield loop_thread
    loop_thread.close()


def interrupt_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


async def value(result: object) -> object:
    await asyncio.sleep(0)
    return result


async def forever(cancelled: threading.Event) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.set()
        raise


def test_gives_results_and_exceptions(bridge: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("missing")

    assert bridge.run(value(3)) == 3
    with pytest.raises(KeyError, match="missing"):
        bridge.run(fail())


async def test_works_in_a_thread_whose_own_loop_is_running(bridge: LoopThread) -> None:
    assert bridge.run(value("here")) == "here"


def test_all_work_shares_one_thread(bridge: LoopThread) -> None:
    async def ident() -> int:
        return threading.get_ident()

    first = bridge.run(ident())
    assert first == bridge.run(ident()) != threading.get_ident()


def test_work_sees_the_callers_context(bridge: LoopThread) -> None:
    cell: contextvars.ContextVar[int] = contextvars.ContextVar("cell")
    cell.set(7)

    async def read() -> int:
        return cell.get()

    assert bridge.run(read()) == 7


def test_interrupt_cancels_the_work_within_milliseconds(bridge: LoopThread) -> None:
    def seconds() -> float:
        cancelled = threading.Event()
        interrupt_after(0.1)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            bridge.run(forever(cancelled), tick_seconds=30)
        took = time.monotonic() - began
        assert cancelled.is_set()
        return took

    assert min(seconds() for _ in range(3)) < 0.3
    assert bridge.run(value("usable")) == "usable"


def test_work_that_is_slow_to_end_does_not_hold_the_interrupted_caller(bridge: LoopThread) -> None:
    async def slow_to_end(ended: threading.Event) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)
            ended.set()

    def seconds() -> float:
        ended = threading.Event()
        interrupt_after(0.1)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            bridge.run(slow_to_end(ended))
        took = time.monotonic() - began
        assert ended.wait(5)
        return took

    assert min(seconds() for _ in range(3)) < 0.4


def test_interrupts_even_where_the_kernel_has_replaced_the_handler(bridge: LoopThread) -> None:
    cancelled = threading.Event()
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        interrupt_after(0.1)
        with pytest.raises(KeyboardInterrupt):
            bridge.run(forever(cancelled))
        os.kill(os.getpid(), signal.SIGINT)
        assert seen == [signal.SIGINT], "the kernel's handler is back afterwards"
    finally:
        signal.signal(signal.SIGINT, before)


def test_may_be_called_from_any_thread(bridge: LoopThread) -> None:
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(bridge.run(value(n)))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(results) == list(range(8))  # type: ignore[type-var]


def test_refuses_to_wait_for_itself(bridge: LoopThread) -> None:
    async def nested() -> object:
        return bridge.run(value(1))

    with pytest.raises(RuntimeError, match="on the loop"):
        bridge.run(nested())


def test_ticks_at_its_pace_and_at_once_when_woken(bridge: LoopThread) -> None:
    wake = threading.Event()
    began = time.monotonic()
    ticks: list[float] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        wake.set()
        await asyncio.sleep(0.5)

    bridge.run(
        work(), on_tick=lambda: ticks.append(time.monotonic() - began), tick_seconds=0.2, wake=wake
    )
    assert 0.05 <= ticks[0] < 0.15
    assert 2 <= len(ticks) <= 3


def test_an_error_while_showing_cancels_the_work(bridge: LoopThread) -> None:
    cancelled = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bridge.run(forever(cancelled), on_tick=fail, tick_seconds=0.01)
    assert cancelled.wait(1)


def test_work_cancelled_before_its_first_step_leaves_no_warning(bridge: LoopThread) -> None:
    wake = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    bridge.run(value(None))
    for _ in range(20):
        wake.set()
        with pytest.raises(ZeroDivisionError):
            bridge.run(forever(threading.Event()), on_tick=fail, wake=wake)


def test_a_system_exit_reaches_the_caller_and_the_loop_goes_on(bridge: LoopThread) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        bridge.run(leave())
    assert bridge.run(value(1)) == 1


def test_work_cancelled_before_its_first_step_ends_for_those_who_wait(bridge: LoopThread) -> None:
    gate = threading.Event()

    async def hold() -> None:
        gate.wait(5)

    bridge.submit(hold())
    late = bridge.submit(value(1))
    late.stop()
    gate.set()
    with pytest.raises(CancelledError):
        late.result.result(timeout=5)


def test_close_cancels_what_runs_ends_the_thread_and_allows_a_new_start(
    bridge: LoopThread,
) -> None:
    cancelled = threading.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def start() -> threading.Thread:
        tasks.add(asyncio.create_task(forever(cancelled)))
        await asyncio.sleep(0)
        return threading.current_thread()

    thread = bridge.run(start())
    bridge.close()
    assert cancelled.is_set()
    assert not thread.is_alive()
    assert bridge.run(value("again")) == "again"


RUN = """
import asyncio, os, sys, threading, time
from nbllm.notebook.loop import LoopThread
bridge = LoopThread()
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Python 3.12 warns of any fork in a process with threads; that is what is tested here.
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            RUN + code,
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_process_ends_silently_while_work_is_under_way() -> None:
    done = run_python(
        "async def leave_one():\n"
        "    global task\n"
        "    task = asyncio.create_task(asyncio.sleep(60))\n"
        "    await asyncio.to_thread(time.sleep, 0)\n"
        "bridge.run(leave_one())\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forking is Unix only")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    done = run_python(
        "async def one(): return threading.get_ident()\n"
        "bridge.run(one())\n"
        "bridge._lock.__enter__()  # as if another thread held it at the fork\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    bridge.run(one())\n"
        "    sys.exit(7)\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "bridge._lock.__exit__()\n"
        "bridge.run(one())\n"
        "print(status)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_works_after_nest_asyncio_was_applied() -> None:
    pytest.importorskip("nest_asyncio2")
    done = run_python(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import nest_asyncio2; nest_asyncio2.apply()\n"
        "async def inner(): return 5\n"
        "async def cell(): return bridge.run(inner())\n"
        "print(asyncio.run(cell()), bridge.run(inner()))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "5 5\n", "")
