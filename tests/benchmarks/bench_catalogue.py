"""How long it takes to find many model files, with nothing known of them and with all.

python tests/benchmarks/bench_catalogue.py [FILES …]

Makes so many files as LM Studio keeps them (a real header each, 500 and 10,000 by default) in a
folder of its own and lists them twice, each time in a new process: first cold, then warm, when an
earlier process has kept what the headers say. The page cache holds the files both times.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from nbllm.core.catalogue.listing import bundled_models

HEADER_BYTES = 2 * 2**20
LIST = """
import time
import nbllm.core.openers, nbllm.local.gguf.shape
from nbllm.core.catalogue.listing import stored_models
began = time.perf_counter()
found = stored_models()
print(len(found.models), time.perf_counter() - began)
"""
ROUNDS = 5


def make(folder: Path, count: int) -> None:
    """Sparse files: the bundled model's header, and the rest a hole."""
    source = bundled_models()[0].path
    assert source is not None
    head, size = source.read_bytes()[:HEADER_BYTES], source.stat().st_size
    for number in range(count):
        file = folder / f".lmstudio/models/owner{number % 100}/repo{number}/m{number}.gguf"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as target:
            target.write(head)
            target.truncate(size)


def listed(home: Path) -> tuple[int, float]:
    names = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"HOME": str(home), "USERPROFILE": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", LIST], env=environment, capture_output=True, check=True, text=True
    )
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def main() -> None:
    for count in map(int, sys.argv[1:] or ("500", "10000")):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            make(home, count)
            found, cold = listed(home)
            warm = statistics.median(listed(home)[1] for _ in range(ROUNDS))
            size = (home / ".cache/nbllm/headers.json").stat().st_size
            print(
                f"{count:6,} files: {found:,} found; cold {cold:6.2f} s, warm {1000 * warm:7.1f} "
                f"ms; what is kept {size / 1024:,.0f} KiB"
            )


if __name__ == "__main__":
    main()
