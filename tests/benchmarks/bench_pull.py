"""Downloads: the bytes that 20 cuts and a kill cost, and several connections against one.

Run it by hand: ``python tests/benchmarks/bench_pull.py [MiB MIB_PER_SECOND]``. A hub on
the loopback sends; ``curl`` fetches the same bytes by one connection.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "hub"), str(ROOT / "local")]

from fake_hub import MIB, FakeHub, digest_of, fake_hub, made_model  # noqa: E402

PULL = """
import asyncio, sys, time
from functools import partial
from nbllm.core.model_manager import ModelManager
from nbllm.hub import pulling, transfer
pulling.Transfer = partial(transfer.Transfer, connections=int(sys.argv[1]))
def show(progress):
    print(progress.phase, progress.received_bytes, flush=True)
manager = ModelManager()
plan = asyncio.run(manager.plan_pull("org/tiny"))
began, cpu = time.monotonic(), time.process_time()
path = asyncio.run(manager.pull_model(plan, progress=show)).path
print(f"{time.monotonic() - began} {time.process_time() - cpu} {path}", flush=True)
"""


def start_pull(connections: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PULL, str(connections)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[float, float, Path]:
    """The seconds of a pull, those of its processor, and the file."""
    output, _ = process.communicate()
    seconds, cpu, path = output.splitlines()[-1].split(" ", 2)
    return float(seconds), float(cpu), Path(path)


def cuts_and_a_kill(hub: FakeHub, content: bytes) -> None:
    hub.cuts, hub.rate, hub.sent = 20, 16 * MIB, 0
    process = start_pull(4)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("downloading") and int(line.split()[1]) > len(content) // 2:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hub.rate = 0
    path = finished(start_pull(4))[2]
    right = hashlib.sha256(path.read_bytes()).hexdigest() == digest_of(content)
    print(
        f"20 cuts ({hub.cuts} left) and a kill: {hub.sent / len(content):.4f} x the bytes, "
        f"SHA-256 {'right' if right else 'WRONG'}"
    )


def speeds(hub: FakeHub, content: bytes, cache: Path, rate: int) -> None:
    hub.rate = rate
    for connections in (1, 4):
        shutil.rmtree(cache, ignore_errors=True)
        seconds, cpu, _ = finished(start_pull(connections))
        told = f"{len(content) / seconds / 1e6:.1f} MB/s ({cpu:.1f} s of processor)"
        print(f"{connections} connection{'s' * (connections > 1)}: {told}")
    address = f"http://127.0.0.1:{hub.cdn_port}/{digest_of(content)}"
    began = time.monotonic()
    subprocess.run(["curl", "-s", "-o", os.devnull, address], check=True)
    print(f"curl: {len(content) / (time.monotonic() - began) / 1e6:.1f} MB/s")


def main() -> None:
    size, rate = map(int, sys.argv[1:] or (128, 16))
    content = made_model(size * MIB)
    with tempfile.TemporaryDirectory() as folder, fake_hub() as hub:
        cache = Path(folder) / "hf"
        os.environ.update(
            HF_ENDPOINT=hub.endpoint, HF_HOME=str(cache), XDG_DATA_HOME=f"{folder}/data"
        )
        hub.add("org/tiny", **{"tiny.gguf": content})
        cuts_and_a_kill(hub, content)
        speeds(hub, content, cache, rate * MIB)


if __name__ == "__main__":
    main()
