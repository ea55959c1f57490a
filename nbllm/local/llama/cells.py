"""The memory of a context: which of its cells hold the keys and values of which sequence."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as lib

__all__ = ["Cells", "OrderedCells", "Part"]

_DEFRAGMENT_AFTER = (
    1024  # cells that were taken; defragmenting copies them in a few hundredths of a second
)


@dataclass(frozen=True, slots=True)
class Part:
    """A sequence with cells: the first ``shared`` of them are those of ``source``."""

    sequence: int
    length: int
    source: int
    shared: int


class Cells:
    """The sequences of a context, and what may be done with the cells of each."""

    is_ordered = False
    """Whether a sequence's cells lie in the order of its tokens, whatever else happens."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._memory = lib.llama_get_memory(context)

    @property
    def exist(self) -> bool:
        """Whether there are any: a model without a memory of its own words only reads."""
        return bool(self._memory)

    def forget(self, sequence: int, start: int) -> bool:
        """Drop a sequence's cells from position ``start`` on.

        False where the architecture cannot drop a part; nothing has changed then.
        """
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, start, -1))

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Share the first ``length`` cells of ``source`` with the empty sequence ``target``."""
        lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    @property
    def can_shift(self) -> bool:
        """Whether tokens may be dropped from the middle of a sequence."""
        return self.exist and bool(lib.llama_memory_can_shift(self._memory))

    def drop(self, sequence: int, start: int, end: int) -> None:
        """Drop the cells of positions ``start`` to ``end``; those behind move up to them."""
        lib.llama_memory_seq_rm(self._memory, sequence, start, end)
        lib.llama_memory_seq_add(self._memory, sequence, end, -1, start - end)

    def state_size(self, sequence: int) -> int:
        """The bytes that a sequence's state takes outside the context."""
        return int(lib.llama_state_seq_get_size(self._context, sequence))

    def save_state(self, sequence: int) -> bytearray:
        """A sequence's cells, to be loaded again into any sequence of a context like this one."""
        state = bytearray(self.state_size(sequence))
        room = (ctypes.c_uint8 * len(state)).from_buffer(state)
        size = int(lib.llama_state_seq_get_data(self._context, room, len(room), sequence))
        del room  # while C may write there, it keeps its length
        del state[size:]
        return state

    def load_state(self, sequence: int, state: bytearray, length: int) -> bool:
        """Put ``length`` saved cells into an empty sequence; False where there is no room."""
        room = (ctypes.c_uint8 * len(state)).from_buffer(state)
        loaded = lib.llama_state_seq_set_data(self._context, room, len(state), sequence)
        if loaded:
            self.took(length)
        return bool(loaded)

    def clear(self) -> None:
        """Forget all sequences."""
        lib.llama_memory_clear(self._memory, False)  # noqa: FBT003 - positional in C

    def took(self, count: int) -> None:
        """Note that so many more cells were filled, by a decoded batch or a state."""

    @property
    def should_defragment(self) -> bool:
        """Whether it is time to ``defragment``."""
        return False

    @property
    def can_defragment(self) -> bool:
        """Whether ``defragment`` may free cells."""
        return False

    def defragment(self, parts: Sequence[Part]) -> list[int]:
        """Move all cells together; the sequences that could not be kept.

        ``parts`` are all sequences with cells, each behind the one that it shares with.
        """
        raise NotImplementedError


class OrderedCells(Cells):
    """Cells that are taken in ascending order only, so that a sequence's lie in its own order.

    Attention adds up over a sequence's cells in the order in which they lie, and llama.cpp puts
    new ones wherever some are free. So none becomes free here before all are defragmented: what a
    sequence drops is handed to another one, which nobody reads. Two sequences beyond those of the
    requests are needed: ``first_spare`` takes what was dropped, the next one serves ``defragment``.
    """

    is_ordered = True

    def __init__(self, context: Any, first_spare: int) -> None:
        super().__init__(context)
        self._dropped, self._helper = first_spare, first_spare + 1
        self._taken = self._packed = 0
        self._has_dropped = False

    def forget(self, sequence: int, start: int) -> bool:
        """Drop a sequence's cells from position ``start`` on; they stay taken."""
        if lib.llama_memory_seq_pos_max(self._memory, sequence) < start:
            return True
        self._has_dropped = True
        lib.llama_memory_seq_cp(self._memory, sequence, self._dropped, start, -1)
        return super().forget(sequence, start)

    def drop(self, sequence: int, start: int, end: int) -> None:
        """Drop the cells of positions ``start`` to ``end``; they stay taken."""
        self._has_dropped = True
        lib.llama_memory_seq_cp(self._memory, sequence, self._dropped, start, end)
        super().drop(sequence, start, end)

    def clear(self) -> None:
        """Forget all sequences; now every cell is free."""
        super().clear()
        self._taken = self._packed = 0
        self._has_dropped = False

    def took(self, count: int) -> None:
        """Note that so many more cells were filled, by a decoded batch or a state."""
        self._taken += count

    @property
    def should_defragment(self) -> bool:
        """Whether more cells were taken than had to be kept last: each costs attention a look."""
        return self._has_dropped and self._taken > 2 * self._packed + _DEFRAGMENT_AFTER

    @property
    def can_defragment(self) -> bool:
        """Whether anything was dropped since the last time."""
        return self._has_dropped

    def defragment(self, parts: Sequence[Part]) -> list[int]:
        """Move all cells together; the sequences that could not be kept."""
        tails = [self._save_tail(part) for part in parts]
        self.clear()
        lost = []
        for part, tail in zip(parts, tails, strict=True):
            self.copy_prefix(part.source, part.sequence, part.shared)
            if tail and not self.load_state(self._helper, tail, part.length - part.shared):
                lost.append(part.sequence)
            self._move(self._helper, part.sequence, 0)
        self._packed = self._taken
        return lost

    def _save_tail(self, part: Part) -> bytearray:
        """What a sequence does not share; empty where that is nothing."""
        if part.length == part.shared:
            return bytearray()
        lib.llama_memory_seq_cp(self._memory, part.sequence, self._helper, part.shared, -1)
        state = self.save_state(self._helper)
        super().forget(self._helper, 0)
        return state

    def _move(self, source: int, target: int, start: int) -> None:
        lib.llama_memory_seq_cp(self._memory, source, target, start, -1)
        super().forget(source, start)
