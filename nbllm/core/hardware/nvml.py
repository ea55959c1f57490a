"""NVIDIA's GPUs, as the driver's management library (NVML) reports them.

Any single question may fail ("not supported") without losing the answers to the others.
Source: NVIDIA's NVML reference; ``pynvml`` is the package nvidia-ml-py.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbllm.core.forks import renew_in_children
from nbllm.core.hardware.nvml_readings import (
    NvmlDevice,
    devices_of,
    live_values,
    reading,
    value_or_none,
)
from nbllm.core.hardware.resources import GpuFindings, GpuInfo
from nbllm.core.hardware.visible_devices import Choice, choose_cuda_devices

__all__ = ["NvidiaSource"]

_LIBRARY = "libnvidia-ml.so.1"


class NvidiaSource:
    """The GPUs that NVML lists, under the rules of ``CUDA_VISIBLE_DEVICES`` in ``environ``."""

    what = "NVIDIA GPUs"

    def __init__(self, root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._environ = os.environ if environ is None else environ
        self._lock = threading.Lock()
        self._session: _Session | None = None
        renew_in_children(self)

    def renew(self) -> None:
        """Ask afresh, in a forked child, whoever asks in the parent."""
        self._lock = threading.Lock()

    def find(self) -> GpuFindings:
        """Every GPU and instance with all that it tells; the library is given back."""
        try:
            with _initialised(self._root) as pynvml:
                return _everything(pynvml, self._environ)
        except _NoDriverError as reason:
            return GpuFindings(absence=str(reason) or None, problems=reason.problems)

    def live(self) -> tuple[GpuInfo, ...]:
        """What changes from moment to moment; the library stays initialised for the next time."""
        with self._lock:
            try:
                if self._session is None or self._session.is_foreign:
                    self._session = _Session(self._root, self._environ)
                return self._session.read()
            except (_NoDriverError, _SessionOverError):
                self._session = None
                return ()

    def close(self) -> None:
        """Give the library back, unless a question to the driver hangs just now."""
        if self._lock.acquire(blocking=False):
            try:
                if self._session is not None and not self._session.is_foreign:
                    self._session.close()
                self._session = None
            finally:
                self._lock.release()


# ---------------------------------------------------------------- the library


class _NoDriverError(Exception):
    """Why there is no library to ask; ``problems`` are what is wrong rather than absent."""

    def __init__(self, reason: str = "", *, problem: str = "") -> None:
        super().__init__(reason)
        self.problems = (problem,) if problem else ()


class _SessionOverError(Exception):
    """The driver has forgotten this process, or a GPU has gone: all has to be opened again."""


@contextmanager
def _initialised(root: Path) -> Iterator[Any]:
    pynvml = _initialise(root)
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _initialise(root: Path) -> Any:
    """The module with the library at work. Raises ``_NoDriverError``."""
    if sys.platform == "linux" and not _loads(_LIBRARY):  # pynvml costs 35 ms to find that out
        raise _without_library(root)
    try:
        import pynvml
    except ImportError:
        remedy = "the package nvidia-ml-py is not installed. Install it: pip install nvidia-ml-py"
        raise _NoDriverError(f"NVIDIA GPUs were not detected: {remedy}") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _failure(pynvml, error) from None
    return pynvml


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _without_library(root: Path) -> _NoDriverError:
    if (root / "proc/driver/nvidia/version").exists():
        return _NoDriverError(
            problem="No NVIDIA GPU: the driver runs on this machine, but its library "
            f"({_LIBRARY}) is missing. In a container, start it with --gpus all."
        )
    return _NoDriverError(f"No NVIDIA GPU: the driver's library ({_LIBRARY}) is not installed.")


def _failure(pynvml: Any, error: Exception) -> _NoDriverError:
    if getattr(error, "value", None) == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return _NoDriverError("No NVIDIA GPU: the driver's library is not installed.")
    reasons = {
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "its driver is installed but not running.",
        pynvml.NVML_ERROR_NO_PERMISSION: "this user has no permission to query the driver.",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "the driver and its library are of different versions. Restart the machine."
        ),
    }
    reason = reasons.get(getattr(error, "value", None), f"the driver reported: {error}.")
    return _NoDriverError(problem=f"No NVIDIA GPU: {reason}")


# ---------------------------------------------------------------- everything, once


def _everything(pynvml: Any, environ: Mapping[str, str]) -> GpuFindings:
    devices, problems = devices_of(pynvml)
    if not devices and not problems:
        return GpuFindings(absence="No NVIDIA GPU: the driver is running and found none.")
    driver = value_or_none(pynvml, pynvml.nvmlSystemGetDriverVersion)
    choice = _choice(devices, environ)
    return GpuFindings(
        gpus=tuple(reading(pynvml, devices[place], driver) for place in choice.positions),
        hidden=tuple(
            reading(pynvml, devices[place], driver, hidden=why)
            for place, why in choice.hidden.items()
        ),
        problems=(*problems, *choice.problems),
    )


def _choice(devices: list[NvmlDevice], environ: Mapping[str, str]) -> Choice:
    return choose_cuda_devices([device.identity for device in devices], environ)


# ---------------------------------------------------------------- again and again


class _Session:
    """The initialised library with the handles of the GPUs that this process can use.

    Raises ``_NoDriverError`` where there is none.
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._process = os.getpid()
        self._pynvml = _initialise(root)
        devices, _ = devices_of(self._pynvml)
        self._devices = [devices[place] for place in _choice(devices, environ).positions]

    @property
    def is_foreign(self) -> bool:
        """Whether it was opened before a fork, after which it must not be used."""
        return self._process != os.getpid()

    def read(self) -> tuple[GpuInfo, ...]:
        """The GPUs now. Raises ``_SessionOverError``, and is closed then."""
        try:
            return tuple(live_values(self._pynvml, device) for device in self._devices)
        except self._pynvml.NVMLError as error:
            self.close()
            raise _SessionOverError from error

    def close(self) -> None:
        value_or_none(self._pynvml, self._pynvml.nvmlShutdown)
