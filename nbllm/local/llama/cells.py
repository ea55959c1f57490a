"""The memory of a context: which of its cells hold the keys and values of which sequence."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import llama_cpp.llama_cpp as lib

from nbllm.core.fitting.memory_estimate import PIECE_CELLS
from nbllm.local.scheduling.prefixes import shared_length

__all__ = ["Cells", "OrderedCells", "SplitCells"]

_DEFRAGMENT_AFTER = (
    1024  # cells that were taken; defragmenting copies them in a few hundredths of a second
)


class Cells:
    """The sequences of a context, and what may be done with the cells of each."""

    is_ordered = False
    """Whether a sequence's cells lie in the order of its tokens, whatever else happens."""

    are_shared = True
    """Whether all sequences take their cells from one store, and share those of a beginning."""

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

    def defragment(self, lengths: Mapping[int, int]) -> list[int]:
        """Move all cells together; the sequences that could not be kept.

        ``lengths`` are the cells of each sequence that has some.
        """
        raise NotImplementedError


class SplitCells(Cells):
    """Cells of which each sequence has as many to itself.

    Attention looks at a sequence's own cells only, where it else passes over those of all others.
    llama.cpp copies cells from one store to another when it decodes the next batch, so no state is
    saved here. It computes sequences together whose numbers follow on one another in the batch.
    """

    are_shared = False

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` cells of ``source`` to the empty sequence ``target``."""
        super().copy_prefix(source, target, -1)  # it copies whole stores only
        self.forget(target, length)


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
        self._numbers = count()
        self._held = defaultdict[int, list[int]](list)
        # A number for each cell of a sequence, the same where two share it; new ones lack theirs.

    def forget(self, sequence: int, start: int) -> bool:
        """Drop a sequence's cells from position ``start`` on; they stay taken."""
        if lib.llama_memory_seq_pos_max(self._memory, sequence) < start:
            return True
        self._has_dropped = True
        del self._held[sequence][start:]
        lib.llama_memory_seq_cp(self._memory, sequence, self._dropped, start, -1)
        return super().forget(sequence, start)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Share the first ``length`` cells of ``source`` with the empty sequence ``target``."""
        self._held[target] = self._numbered(source, length)[:length]
        super().copy_prefix(source, target, length)

    def drop(self, sequence: int, start: int, end: int) -> None:
        """Drop the cells of positions ``start`` to ``end``; they stay taken."""
        self._has_dropped = True
        del self._numbered(sequence, end)[start:end]
        lib.llama_memory_seq_cp(self._memory, sequence, self._dropped, start, end)
        super().drop(sequence, start, end)

    def clear(self) -> None:
        """Forget all sequences; now every cell is free."""
        super().clear()
        self._held.clear()
        self._taken = self._packed = 0
        self._has_dropped = False

    def load_state(self, sequence: int, state: bytearray, length: int) -> bool:
        """Put ``length`` saved cells into an empty sequence; False where there is no room."""
        self._held[sequence] = []
        return super().load_state(sequence, state, length)

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

    def defragment(self, lengths: Mapping[int, int]) -> list[int]:
        """Move all cells together; the sequences that could not be kept.

        A piece at a time is taken out and put into the lowest cells that are free. In the order of
        a sequence's tokens none passes what stands before it, and only a piece is outside.
        """
        super().forget(self._dropped, 0)
        self._taken, self._has_dropped = 0, False
        held = {each: self._numbered(each, length) for each, length in lengths.items()}
        lost = set[int]()
        for piece in _pieces(held):
            if not lost.intersection(piece.sequences):
                lost |= set() if self._move(piece) else piece.sequences
        self._packed = self._taken
        return [*lost]

    def _numbered(self, sequence: int, length: int) -> list[int]:
        held = self._held[sequence]
        held += islice(self._numbers, max(0, length - len(held)))
        return held

    def _move(self, piece: _Piece) -> bool:
        """Put a piece into the lowest free cells, for all that share it."""
        first, start, end = min(piece.sequences), piece.start, piece.end
        lib.llama_memory_seq_cp(self._memory, first, self._helper, start, end)
        state = self.save_state(self._helper)
        for sequence in (self._helper, *piece.sequences):
            lib.llama_memory_seq_rm(self._memory, sequence, start, end)
        loaded = self.load_state(self._helper, state, end - start)
        for sequence in piece.sequences:
            lib.llama_memory_seq_cp(self._memory, self._helper, sequence, start, end)
        super().forget(self._helper, 0)
        return loaded


@dataclass(frozen=True, slots=True)
class _Piece:
    """Cells of positions ``start`` to ``end`` that ``sequences`` share."""

    sequences: frozenset[int]
    start: int
    end: int


def _pieces(held: Mapping[int, list[int]]) -> Iterator[_Piece]:
    """All cells, each once, a sequence after the other; ``held`` are the numbers of their cells."""
    before = list[int]()
    for sequence, mine in held.items():
        start = max((shared_length(held[other], mine) for other in before), default=0)
        before.append(sequence)
        sharing = {
            other: shared_length(theirs, mine)
            for other, theirs in held.items()
            if other not in before
        } | {sequence: len(mine)}
        while start < len(mine):
            end = min(start + PIECE_CELLS, *(each for each in sharing.values() if each > start))
            owners = frozenset(each for each, length in sharing.items() if length >= end)
            yield _Piece(owners, start, end)
            start = end
