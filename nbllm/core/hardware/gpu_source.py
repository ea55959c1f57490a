"""What every source of GPUs, such as a driver's library, has to offer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from nbllm.core.hardware.resources import GpuInfo

__all__ = ["GpuFindings", "GpuSource", "renumbered"]


@dataclass(frozen=True, slots=True)
class GpuFindings:
    """The GPUs that one source knows.

    ``gpus`` can be used, ``hidden`` cannot, for the reason in each. ``problems`` are sentences on
    single GPUs and settings. ``absence`` says why there is none of this kind; it is told where no
    other source has found one either.
    """

    gpus: tuple[GpuInfo, ...] = ()
    hidden: tuple[GpuInfo, ...] = ()
    problems: tuple[str, ...] = ()
    absence: str | None = None


class GpuSource(Protocol):
    """One way to learn of GPUs. Both questions may raise anything and may hang.

    ``what`` names the GPUs in sentences: "NVIDIA GPUs".
    """

    what: str

    def find(self) -> GpuFindings:
        """Everything that is known; nothing stays open."""
        ...

    def live(self) -> tuple[GpuInfo, ...]:
        """The GPUs that can be used, for views that ask again and again.

        Memory, utilization, temperature and power are of now; the rest may be left out. What is
        costly to open stays open until ``close``.
        """
        ...

    def close(self) -> None:
        """Give back what ``live`` holds. Never waits for one that hangs."""
        ...


def renumbered(gpus: Iterable[GpuInfo], offset: int) -> tuple[GpuInfo, ...]:
    """The GPUs with ``offset`` added to their indices, so that sources do not share numbers."""
    return tuple(replace(gpu, index=gpu.index + offset) if offset else gpu for gpu in gpus)
