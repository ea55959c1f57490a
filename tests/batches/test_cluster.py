"""Batches on a real Dask cluster of processes: each row once, in order, whoever dies meanwhile."""

from __future__ import annotations

import enum
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbllm
from nbllm import ModelManager, default_manager
from nbllm.batches.cluster.cluster_model import ClusterModel
from nbllm.core.budgets.budget import Budget
from nbllm.core.errors import BatchError, InvalidOptionError
from nbllm.notebook.batch.dask_tables import DaskTable
from nbllm.notebook.batch.frame_batch import FrameBatch
from nbllm.notebook.batch.frame_run import RunInterrupt

from .cluster_parts import START_SECONDS, EchoServer, echo_server, processes

pytestmark = pytest.mark.skipif(
    find_spec("distributed") is None, reason='needs pip install "nbllm[dask]"'
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes of one thread each."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster
    resource_tracker._resource_tracker._stop()  # a process of multiprocessing's that would stay


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster) as client:
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
    assert sum(not line.startswith("{") for line in lines) == len(texts)


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
    from distributed import Client

    texts = [f"a {n}" for n in range(20)] + [f"wait {n}" for n in range(20)]
    journal = tmp_path / "run.jsonl"
    file = tmp_path / "scheduler.json"
    with processes(file, workers=1) as (scheduler, _):
        until(file.exists)
        with Client(scheduler_file=str(file), timeout=START_SECONDS) as lost:
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


DIES = """
import os
from nbllm.batches.cluster import on_worker
async def opened(self, wanted):
    os._exit(9)
on_worker._Process.opened = opened
"""


async def test_workers_that_die_as_they_load_end_the_run_and_say_so(tmp_path: Path) -> None:
    from distributed import Client

    file = tmp_path / "scheduler.json"
    with processes(file, workers=3, preload=DIES):
        until(file.exists)
        with Client(scheduler_file=str(file), timeout=START_SECONDS) as client:
            client.wait_for_workers(3, timeout=START_SECONDS)
            model = ClusterModel(client, "m", patience=1_000)
            with pytest.raises(BatchError, match="can be asked for m:\n- the Dask worker") as ended:
                await model.map(["a"])
    assert str(ended.value).count("was lost while it loaded m; its log says why") == 3


def test_a_run_begun_here_goes_on_there(client: Any, server: EchoServer, tmp_path: Path) -> None:
    journal = tmp_path / "run.jsonl"
    manager = ModelManager([server.entry(f"echo-{server.server_port}")])
    mapped(None, server, ["a", "b"], journal=journal, manager=manager)
    nbllm.run(manager.aclose())
    out = mapped(client, server, ["a", "b", "c"], journal=journal)
    assert out["answer"].tolist() == ["A", "B", "C"]
    assert sorted(server.asked) == ["a", "b", "c"]


def asked_as_table(client: Any, server: EchoServer, df: Any, **settings: Any) -> Any:
    manager = ModelManager([server.entry(f"echo-{server.server_port}")])
    model = f"echo-{server.server_port}"
    return nbllm.map_frame(
        df, "{text}", model=model, manager=manager, client=client, temperature=0, **settings
    )


def test_a_dask_frame_gets_its_answers_in_its_partitions(client: Any, server: EchoServer) -> None:
    dd = pytest.importorskip("dask.dataframe")
    df = pd.DataFrame({"text": list("abcdefg"), "n": range(7), 3: 1}, index=[0, 0, 1, 1, 5, 5, 9])
    whole = dd.from_pandas(df, npartitions=3)
    for used in (client, None):  # None: the cluster of Dask's default client
        out = asked_as_table(used, server, whole, details=True)
        assert out.divisions == whole.divisions
        assert {*out.columns} >= {"text", "n", 3, "answer", "prompt_tokens"}
        there = out.compute()
        assert there["answer"].tolist() == list("ABCDEFG")
        assert [*there.index] == [*df.index]
        assert there.dtypes.to_dict() == out.dtypes.to_dict()
    with pytest.raises(InvalidOptionError, match="has a column 'n' already"):
        asked_as_table(client, server, whole, into="n")
    assert len(asked_as_table(client, server, whole, dry_run=True)) == 5


def test_a_dask_frame_that_changes_is_told(client: Any, server: EchoServer) -> None:
    dd = pytest.importorskip("dask.dataframe")
    frames = [pd.DataFrame({"text": ["a"]}), pd.DataFrame({"text": ["a", "b"]})]
    table = DaskTable.of(
        dd.from_map(lambda frame: frame, [frames[0]], meta=frames[0]),
        FrameBatch.of(frames[0], "{text}", schema=None, into=None, details=False),
        client,
    )
    changed = replace(table, lengths=(2,)).joined(frames[1].assign(answer="x"))
    with pytest.raises(BatchError, match=r"has 1 rows now and had 2 when .* call persist"):
        changed.compute()


def set_variable(name: str, value: str) -> None:
    os.environ[name] = value


def test_keys_stay_where_they_are(
    client: Any, server: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has no key of the kernel's; each sends the one of its own environment."""
    monkeypatch.setenv("ECHO_API_KEY", "key-of-the-kernel")
    client.run(set_variable, "ECHO_API_KEY", "key-of-a-worker")
    client.run(nbllm.allow_key, "ECHO_API_KEY", f"http://127.0.0.1:{server.server_port}")
    entry = server.entry("keyed", api_key_env="ECHO_API_KEY")
    mapped(client, server, ["a", "b"], model="keyed", manager=ModelManager([entry]))
    assert server.keys == {"Bearer key-of-a-worker"}


def test_a_worker_that_cannot_says_why_and_the_others_go_on(
    client: Any, server: EchoServer
) -> None:
    server.refused_key = "bad"
    first, *others = client.nthreads()
    client.run(set_variable, "SOME_API_KEY", "good")
    client.run(nbllm.allow_key, "SOME_API_KEY", f"http://127.0.0.1:{server.server_port}")
    client.run(set_variable, "SOME_API_KEY", "bad", workers=[first])
    entry = server.entry("some", api_key_env="SOME_API_KEY")
    texts = [f"q {n}" for n in range(60)]
    with pytest.warns(UserWarning, match=f"worker {first} is not asked: AuthenticationError"):
        out = mapped(client, server, texts, model="some", manager=ModelManager([entry]))
    assert others
    assert out["answer"].tolist() == [text.upper() for text in texts]
    assert sorted(server.asked) == sorted(texts)


def test_where_no_worker_has_the_model_each_says_why(client: Any, server: EchoServer) -> None:
    with (
        pytest.warns(UserWarning, match="is not asked: ModelNotFoundError"),
        pytest.raises(BatchError) as failure,
    ):
        mapped(client, server, ["a"], model="nonesuch")
    words = str(failure.value)
    assert "can be asked for nonesuch:" in words
    for address in client.nthreads():
        assert f"- the Dask worker {address} is not asked: ModelNotFoundError" in words


def test_an_interrupt_keeps_what_is_done_and_ends_the_work(
    client: Any, server: EchoServer, tmp_path: Path
) -> None:
    texts = [f"a {n}" for n in range(10)] + [f"wait {n}" for n in range(20)]

    def interrupt() -> None:
        until(lambda: sum(text.startswith("wait") for text in server.asked) >= 16)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(RunInterrupt) as stopped:
        mapped(client, server, texts, journal=tmp_path / "run.jsonl")
    assert stopped.value.frame["answer"].notna().sum() == 10
    server.gate.set()
    before = len(server.asked)
    time.sleep(0.3)
    assert len(server.asked) == before
    out = mapped(client, server, texts, journal=tmp_path / "run.jsonl")
    assert out["answer"].tolist() == [text.upper() for text in texts]
    assert Counter(server.asked)["a 3"] == 1


def test_what_is_spent_there_counts_here(client: Any, server: EchoServer) -> None:
    entry = server.entry("counted")
    manager = ModelManager([entry], budgets=Budget(requests=10))
    texts = [f"q {n}" for n in range(30)]
    with pytest.raises(BatchError, match="budget of 10 requests has 0 requests left") as refused:
        mapped(client, server, texts, model="counted", manager=manager, max_failures=1)
    assert refused.value.finished["answer"].notna().sum() == len(server.asked) == 10


@dataclass
class Told:
    """A type that no worker can import."""

    topic: str


def test_answers_have_the_types_of_this_process(client: Any, server: EchoServer) -> None:
    out = mapped(client, server, ['{"TOPIC": "X"}'], schema=Told, max_failures=1)
    assert out["error"].str.contains("AnswerFormError").all()  # in capitals: "TOPIC" is not a field


class Team(enum.Enum):
    """Labels that no worker can import."""

    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize("given", ["tcp://127.0.0.1:8786", 5, object()])
def test_what_is_no_client_is_refused(given: Any, server: EchoServer) -> None:
    with pytest.raises(InvalidOptionError, match=r"client must be a Client of dask\.distributed"):
        mapped(given, server, ["a"])


def test_a_client_does_not_go_with_a_batch_api(client: Any, server: EchoServer) -> None:
    with pytest.raises(InvalidOptionError, match="client cannot be combined with batch_api"):
        mapped(client, server, ["a"], batch_api=True)


def test_the_real_model_is_loaded_by_each_worker_and_decides_as_it_does_here(
    client: Any, server: EchoServer, tmp_path: Path
) -> None:
    texts = ["The sky is", "One and one is"]
    file = tmp_path / "run.jsonl"
    settings = {"model": "SmolLM2", "decide": {"team": Team}, "journal": file}
    there = mapped(client, server, texts, manager=ModelManager(), **settings)
    manager = ModelManager()
    here = mapped(None, server, [*texts, "Two"], manager=manager, **settings)
    nbllm.run(manager.aclose())
    assert there.equals(here.iloc[:2])
    kept = [line for line in file.read_text().splitlines() if not line.startswith("{")]
    assert len(kept) == 3  # the keys are the same: one was asked here
    for _ in range(2):
        out = mapped(client, server, texts, model="SmolLM2", manager=ModelManager(), max_tokens=4)
        assert out["answer"].str.len().min() > 0
    loaded = client.run(lambda: [info.name for info in default_manager().list_loaded_models()])
    assert any("SmolLM2" in name for names in loaded.values() for name in names)
