"""How fast this machine's memory can be read, measured.

Decoding with one request reads every weight once for each token, so the bandwidth divided by the
model's size is the most tokens per second that a processor can reach.
"""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path

from nbllm.core.hardware.drm import text_in

__all__ = ["buffer_bytes", "last_cache_bytes", "measured_bandwidth"]

_MIB = 2**20
_STEP = 4 * _MIB  # bytes between two looks at the clock
_SECONDS = 0.2
_LEAST, _MOST = 64 * _MIB, 256 * _MIB


def buffer_bytes(available_bytes: int, cache_bytes: int) -> int:
    """How much to read in turn: four times the last cache, if the memory allows.

    At most 256 MiB and an eighth of what is available. A power of two, so that the answer stays
    the same while the available memory changes a little.
    """
    size = min(max(4 * cache_bytes, _LEAST), _MOST, max(available_bytes // 8, _STEP))
    return int(1 << (size.bit_length() - 1))


@functools.cache
def measured_bandwidth(threads: int, size: int) -> float:
    """Bytes per second, read by ``threads`` at once; the answer is kept for this process.

    Each thread runs again and again through a part of its own of ``size`` bytes, and combines
    their words with "or", which costs next to nothing beside the reading and needs no lock of
    Python's. All start together; the bytes read within 0.2 s count. Filling the memory takes
    about as long again. Where the last cache is larger than the memory read, the result is the
    cache's speed in part, and other processes' reading lowers it.
    """
    import numpy as np

    barrier = threading.Barrier(threads + 1, timeout=10)
    spans: list[tuple[int, float, float]] = []

    def read() -> None:
        words = np.ones(max(size // threads, _STEP) // 8, dtype=np.uint64)  # touches every page
        barrier.wait()
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            for start in range(0, len(words), _STEP // 8):
                part = words[start : start + _STEP // 8]
                np.bitwise_or.reduce(part)
                done += part.nbytes
                if time.perf_counter() - began >= _SECONDS:
                    break
        spans.append((done, began, time.perf_counter()))

    readers = [threading.Thread(target=read, daemon=True) for _ in range(threads)]
    for reader in readers:
        reader.start()
    barrier.wait()
    for reader in readers:
        reader.join()
    seconds = max(end for _, _, end in spans) - min(began for _, began, _ in spans)
    return sum(done for done, _, _ in spans) / seconds


def last_cache_bytes(root: Path) -> int:
    """The size of the largest cache of the first processor; 0 where that is not told."""
    texts = (
        text_in(file) or "" for file in root.glob("sys/devices/system/cpu/cpu0/cache/index*/size")
    )
    units = {"K": 2**10, "M": 2**20}
    sizes = (
        int(text[:-1]) * units[text[-1]]
        for text in texts
        if text[:-1].isdecimal() and text[-1] in units
    )
    return max(sizes, default=0)
