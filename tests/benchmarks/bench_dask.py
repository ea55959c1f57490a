"""What a second Dask worker is worth: rows/s of two against one, on a server of fixed latency.

    python tests/benchmarks/bench_dask.py [ROWS [SECONDS]]

The server answers on the loopback, SECONDS after each request, however many there are. Each worker
is a process with 8 requests at a time. A run is timed whole: the workers are started, and each has
loaded the model by a first run that is not. Two workers ought to be at least 1.8 times as fast.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd
from distributed import Client, LocalCluster

import nbllm
from nbllm import ModelManager

sys.path.insert(0, str(Path(__file__).parents[1] / "batches"))
from cluster_parts import EchoServer, echo_server

GOAL = 1.8


def rows_per_second(server: EchoServer, *, workers: int, rows: int) -> float:
    """Of one run over so many rows."""
    manager = ModelManager([server.entry()])
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for name, count in (("first", 16 * workers), ("row", rows)):
            df = pd.DataFrame({"text": [f"{name} {number}" for number in range(count)]})
            began = time.perf_counter()
            out = nbllm.map_frame(
                df, "{text}", model="echo", manager=manager, client=client, progress=lambda *_: None
            )
            seconds = time.perf_counter() - began
            assert out["answer"].tolist() == df["text"].str.upper().tolist()
    return rows / seconds


def main(rows: int = 320, seconds: float = 0.4) -> None:
    """Print both speeds and their ratio."""
    with echo_server(seconds) as server:
        one, two = (rows_per_second(server, workers=count, rows=rows) for count in (1, 2))
        assert len(server.asked) == 2 * rows + 16 * 3, "a row was asked twice"
    print(f"{rows} rows, {seconds:g} s each: 1 worker {one:.1f} rows/s, 2 workers {two:.1f} rows/s")
    print(f"{two / one:.2f} times as fast (goal: {GOAL})")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*map(int, given[:1]), *map(float, given[1:2]))
