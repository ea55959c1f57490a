"""Batches on a real Dask cluster of processes: each row once, in order, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbllm
from nbllm import ModelManager
from nbllm.core.errors import BatchError

from .cluster_parts import START_SECONDS, EchoServer, echo_server, processes

distributed = pytest.importorskip("distributed", reason='needs pip install "nbllm[dask]"')


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes of one thread each."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster
    resource_tracker._resource_tracker._stop()  # a process of multiprocessing's that would stay


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with echo_server() as server:
        yield server


def mapped(client: Any, server: EchoServer, texts: list[str], **settings: Any) -> pd.DataFrame:
    df = pd.DataFrame({"text": texts})
    entry = server.entry(f"echo-{server.server_port}")
    settings = {"model": entry.name, "manager": ModelManager([entry]), **settings}
    return nbllm.map_frame(
        df, "{text}", client=client, temperature=0, progress=lambda *_: None, **settings
    )


def test_rows_come_in_order_and_equal_ones_are_asked_once(client: Any, server: EchoServer) -> None:
    texts = [f"q {number % 50}" for number in range(100)]
    out = mapped(client, server, texts)
    assert out["answer"].tolist() == [text.upper() for text in texts]
    assert Counter(server.asked) == Counter({f"q {number}": 1 for number in range(50)})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Asking(threading.Thread):
    """``mapped`` in a thread, for what happens meanwhile."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__()
        self._arguments, self._settings = arguments, settings
        self.out: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.out = mapped(*self._arguments, **self._settings)
        except BatchError as error:
            self.out = error


def test_eight_at_a_time_are_asked_on_each_worker_or_as_many_as_are_wanted_on_all(
    client: Any, server: EchoServer
) -> None:
    for wanted, under_way in ((None, 16), (5, 5), (24, 24)):
        server.asked.clear()
        server.gate.clear()
        asking = Asking(client, server, [f"wait {n}" for n in range(40)], concurrency=wanted)
        until(lambda: len(server.asked) >= under_way)  # noqa: B023 - it ends within the loop
        time.sleep(0.05)
        assert len(server.asked) == under_way
        server.gate.set()
        asking.join()
        assert len(asking.out) == len(server.asked) == 40


def test_a_killed_worker_s_rows_are_asked_elsewhere_and_each_row_once(
    client: Any, server: EchoServer, tmp_path: Path
) -> None:
    texts = [f"a {n}" for n in range(20)] + [f"wait {n}" for n in range(40)]
    asking = Asking(client, server, texts, journal=tmp_path / "run.jsonl")
    until(lambda: sum(text.startswith("wait") for text in server.asked) >= 16)
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    until(lambda: max(Counter(server.asked).values()) > 1)
    server.gate.set()
    asking.join()
    assert asking.out["answer"].tolist() == [text.upper() for text in texts]
    times = Counter(server.asked)
    assert sorted(times) == sorted(texts)
    assert sum(times.values()) <= len(texts) + 8  # those that the worker had
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert len(lines) == 1 + len(texts)


def test_a_worker_that_joins_is_asked_too(cluster: Any, client: Any, server: EchoServer) -> None:
    asking = Asking(client, server, [f"wait {n}" for n in range(60)])
    until(lambda: len(server.asked) == 16)
    cluster.scale(3)
    until(lambda: len(server.asked) == 24)
    server.gate.set()
    asking.join()
    cluster.scale(2)
    assert len(asking.out) == len(server.asked) == 60


def test_a_lost_scheduler_ends_the_run_and_the_journal_goes_on(
    client: Any, server: EchoServer, tmp_path: Path
) -> None:
    texts = [f"a {n}" for n in range(20)] + [f"wait {n}" for n in range(20)]
    journal = tmp_path / "run.jsonl"
    file = tmp_path / "scheduler.json"
    with processes(file, workers=1) as (scheduler, _):
        until(file.exists)
        with distributed.Client(scheduler_file=str(file), timeout=START_SECONDS) as lost:
            asking = Asking(lost, server, texts, journal=journal, retry_failed=False)
            until(lambda: len(server.asked) == 28)
            scheduler.kill()
            asking.join()
    assert isinstance(asking.out, BatchError)
    assert "the Dask scheduler at tcp://127.0.0.1:" in str(asking.out)
    assert "is lost. Connect to a cluster and run it again with the same journal" in str(asking.out)
    server.gate.set()
    before = len(server.asked)
    out = mapped(client, server, texts, journal=journal, retry_failed=False)
    assert out["answer"].tolist() == [text.upper() for text in texts]
    assert len(server.asked) == before + 20


def test_a_run_begun_here_goes_on_there(client: Any, server: EchoServer, tmp_path: Path) -> None:
    journal = tmp_path / "run.jsonl"
    manager = ModelManager([server.entry(f"echo-{server.server_port}")])
    mapped(None, server, ["a", "b"], journal=journal, manager=manager)
    nbllm.run(manager.aclose())
    out = mapped(client, server, ["a", "b", "c"], journal=journal)
    assert out["answer"].tolist() == ["A", "B", "C"]
    assert sorted(server.asked) == ["a", "b", "c"]
