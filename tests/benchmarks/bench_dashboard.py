"""What the dashboard costs its kernel: CPU idle and beside four streams, and bytes a minute.

Run with ``python tests/benchmarks/bench_dashboard.py [SECONDS]`` on a quiet machine. A real kernel
shows the dashboard and does the same work with and without it; the share of a core is that of the
kernel's process, by its own CPU times. The streams are those of a fake model, 50 tokens/s each, so
that the engine's share is not part of it. The page's share is not measured here.
"""

from __future__ import annotations

import json
import queue
import sys
import time

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

SETUP = """
import asyncio
from nbllm.core.model_manager import ModelManager
from nbllm.notebook.dashboard.board import Dashboard
from nbllm.testing import FakeOpener, fake_info

opener = FakeOpener(text="word " * 100_000, token_seconds=0.02)
manager = ModelManager([fake_info("tiny")], open_model=opener)
model, _ = await manager.load_model("tiny")
streams = []
"""
SHOW = """
board = Dashboard(manager)
board._presence._ask = board._presence.answered  # in place of a page
display(board)
board.widget._view_count = 1
"""
STREAM = "streams = [asyncio.ensure_future(model.generate('Go on.')) for _ in range(4)]"
STOP = """
for stream in streams:
    stream.cancel()
await asyncio.gather(*streams, return_exceptions=True)
"""


def main(seconds: float) -> None:
    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    process = psutil.Process(manager.provisioner.pid)
    try:
        execute(client, SETUP)
        idle, _ = measure(client, process, seconds)
        execute(client, STREAM)
        streaming, _ = measure(client, process, seconds)
        execute(client, STOP)
        execute(client, SHOW)
        measure(client, process, 3)  # the first ticks look for models
        board, sent = measure(client, process, seconds)
        execute(client, STREAM)
        both, sent_streaming = measure(client, process, seconds)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print("share of a core            without   with the dashboard   difference")
    print(f"idle                     {idle:9.2%} {board:20.2%} {board - idle:12.2%}")
    print(f"four streams             {streaming:9.2%} {both:20.2%} {both - streaming:12.2%}")
    print(f"KiB a minute: idle {sent:,.0f}, four streams {sent_streaming:,.0f}")


def execute(client: BlockingKernelClient, code: str) -> None:
    reply = client.execute_interactive(code, timeout=60, output_hook=lambda message: None)
    assert reply["content"]["status"] == "ok", reply["content"]


def measure(
    client: BlockingKernelClient, process: psutil.Process, seconds: float
) -> tuple[float, float]:
    """The share of a core, and the KiB of messages a minute."""
    drain(client, 0.0)
    began, before = time.monotonic(), sum(process.cpu_times()[:2])
    sent = drain(client, seconds)
    passed = time.monotonic() - began
    used = sum(process.cpu_times()[:2]) - before
    return used / passed, sent / 1024 * 60 / passed


def drain(client: BlockingKernelClient, seconds: float) -> int:
    """Read what comes for so long; its size in bytes."""
    size, deadline = 0, time.monotonic() + seconds
    while True:
        try:
            message = client.get_iopub_msg(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            return size
        size += len(json.dumps(message["content"], default=str))
        if seconds and time.monotonic() > deadline:
            return size


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
