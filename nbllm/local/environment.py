"""The variables of the processes that run llama.cpp."""

from __future__ import annotations

import os

__all__ = ["engine_environment"]

_DEFAULTS = {
    "GGML_NO_BACKTRACE": "1",  # it would start a debugger on each failed check
    # The order of the driver's list and of nvidia-smi; CUDA's own begins with the fastest GPU.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # How often a thread that waits for the others looks again before it sleeps. It then keeps
    # its core for microseconds, not OpenMP's usual milliseconds, from a thread that is waited
    # for; on a quiet machine there is no difference to measure.
    "GOMP_SPINCOUNT": "50000",
}


def engine_environment() -> dict[str, str]:
    """The variables of this process, with ours where the user has not set them."""
    return _DEFAULTS | os.environ
