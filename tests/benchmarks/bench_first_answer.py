"""From a new kernel to the first answer of the bundled model, as a person meets it: seconds.

Run it with ``python tests/benchmarks/bench_first_answer.py [ROUNDS]`` on a machine that does
nothing else. Each round starts a kernel of its own, loads the extension and asks; nothing is loaded
yet, so the first request loads the model too. The files are in the page cache, the bytecode is
compiled: a warm installation. Medians, and all rounds.

- kernel: until the kernel is ready
- load_ext: the cell ``%load_ext nbllm``
- first text: from the start of the cell ``%%llm`` until text of the answer is shown
- answer: until the cell has ended
- in all: from the start of the kernel to the end of the answer
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from jupyter_client.manager import KernelManager

ASK = "%%llm --temperature 0 --max-tokens 40\nGive three tips for learning a language, as a list."
TEXT = ("<p>", "<li>")  # of an answer; what nbllm itself says is in a <div>
SECONDS_AT_MOST = 4.0


def messages(client: Any, code: str) -> Iterator[str]:
    """The contents of what a cell shows, until it has ended."""
    request = client.execute(code)
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if content.get("execution_state") == "idle":
            return
        if message["msg_type"] == "error":
            raise RuntimeError(content["evalue"])
        yield str(content.get("data", content.get("text", "")))


def one_round() -> dict[str, float]:
    """The seconds of one new kernel."""
    began = time.perf_counter()
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        ready = time.perf_counter()
        list(messages(client, "%load_ext nbllm"))
        loaded, first = time.perf_counter(), None
        for shown in messages(client, ASK):
            if first is None and any(tag in shown for tag in TEXT):
                first = time.perf_counter()
        ended = time.perf_counter()
        list(messages(client, "%llm_unload --all"))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if first is None:
        raise RuntimeError("no text of the answer was shown")
    return {
        "kernel": ready - began,
        "load_ext": loaded - ready,
        "first text": first - loaded,
        "answer": ended - loaded,
        "in all": ended - began,
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    one_round()  # fills the caches of files and bytecode
    taken = [one_round() for _ in range(rounds)]
    for name in taken[0]:
        values = [each[name] for each in taken]
        print(f"{name:10} {statistics.median(values):5.2f} s  {[round(v, 2) for v in values]}")
    print(f"the whole of it is to be at most {SECONDS_AT_MOST:g} s")


if __name__ == "__main__":
    main()
