"""Whether a model fits and how fast it decodes, from the size of its files alone.

For models that are not on this disk yet, whose headers nobody has read. What is added to the
weights is on the safe side for the usual shapes; a load computes it exactly.
"""

from __future__ import annotations

from typing import NamedTuple

from nbllm.core.fitting.machine_room import Room
from nbllm.core.fitting.memory_estimate import CPU

__all__ = ["SizeFit", "fit_by_size"]

_MIB = 2**20
_FIXED_BYTES = 300 * _MIB
"""The worker, compute buffers, and the KV cache of a small model."""
_SHARE = 0.12
"""The KV cache of 4,096 tokens and the buffers of larger ones: 8B models in Q4_K_M take about a
tenth of their weights for it."""


class SizeFit(NamedTuple):
    """``memory_bytes`` that are needed; the ``device`` that has them free, None where none has.

    ``tokens_per_second`` is that of a CPU; None elsewhere, and where its speed is unknown.
    """

    memory_bytes: int
    device: str | None
    tokens_per_second: float | None


def fit_by_size(size_bytes: int, room: Room, bandwidth: float | None) -> SizeFit:
    """How a model with ``size_bytes`` of weights does in ``room``.

    ``bandwidth`` is that of the main memory, in bytes per second: each token reads all weights
    once, so it is an upper bound, except for a mixture of experts, which reads some of them.
    """
    memory = size_bytes + _FIXED_BYTES + int(_SHARE * size_bytes)
    for group in room.groups():
        if sum(max(room.free[gpu], 0) for gpu in group) >= memory:
            return SizeFit(memory, " + ".join(group), None)
    speed = bandwidth / size_bytes if bandwidth and size_bytes else None
    free = max(room.free[CPU], 0)
    if memory <= free:
        return SizeFit(memory, CPU, speed)
    if room.gpus and not room.unified:
        gpus = room.groups()[-1]
        if memory <= free + sum(max(room.free[gpu], 0) for gpu in gpus):
            return SizeFit(memory, " + ".join((*gpus, CPU)), speed)
    return SizeFit(memory, None, speed)
