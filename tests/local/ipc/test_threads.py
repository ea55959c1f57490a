"""A thread that others wait for: it works, or its process ends in time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from nbllm.local.ipc import threads
from nbllm.local.ipc.threads import Pool, start_thread

BEGINNING = """
import _thread, os, sys, time
from nbllm.local.ipc import threads
threads._START_SECONDS = 0.3
def fails(*_): raise MemoryError("nothing left")
"""

ENDS = {
    "its work fails": "threads.start_thread(fails)",
    "the main thread's work fails": "threads.vital(fails)",
    "a pool's work fails": "threads.Pool(1).submit(fails)",
    "it never begins": "_thread.start_new_thread = lambda *_: 0; threads.start_thread(print)",
    "nor can it be said why": "threads.traceback.print_exc = fails; threads.vital(fails)",
    "nor with standard error closed": "os.close(2); threads.vital(fails)",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_thread_that_fails_ends_its_process(code: str) -> None:
    began = time.monotonic()
    program = f"{BEGINNING}\n{code}\ntime.sleep(30)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=25)
    assert ended.returncode == 1
    assert time.monotonic() - began < 15


def no_thread(*_: object) -> int:
    raise RuntimeError("can't start new thread")


def test_a_pool_does_its_work_where_the_system_has_no_thread_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    pool = Pool(2)
    monkeypatch.setattr("_thread.start_new_thread", no_thread)
    pool.submit(lambda: done.append(threading.get_ident()))
    assert done == [threading.get_ident()]
    monkeypatch.undo()
    ended = threading.Event()
    pool.submit(ended.set)
    assert ended.wait(10)
    monkeypatch.setattr("_thread.start_new_thread", no_thread)
    ended.clear()
    pool.submit(ended.set)
    assert ended.wait(10), "the thread that there is does it"


def test_where_no_thread_is_left_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_thread.start_new_thread", no_thread)
    with pytest.raises(RuntimeError, match="new thread"):
        start_thread(print)
    assert threads.vital(int) is None  # type: ignore[func-returns-value]
