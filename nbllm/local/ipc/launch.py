"""Starting a process of nbllm's own: the one way, for workers, jobs, dry runs and templates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbllm

__all__ = ["engine_environment", "launch"]

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


def launch(module: str, *, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start ``python -m module``, with unbuffered pipes. Raises ``OSError``.

    It runs from nbllm's own folder, so that no module beside a notebook shadows a real one, and in
    a session of its own, so that an interrupt of the notebook is not one of the process. Nothing
    is buffered here, for a forked child would flush it into the process.
    """
    return subprocess.Popen(  # noqa: S603 - the module is one of nbllm's own
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        cwd=Path(nbllm.__file__).parent.parent,
        env=engine_environment(),
        start_new_session=True,
    )
