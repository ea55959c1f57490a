"""The sequences of a context: which request has which, and what of a prompt they hold already.

A slot keeps its tokens after its request ended; the next request that begins alike goes on there,
or copies the beginning that it shares. When the memory is full, slots at rest are emptied, the
longest unused first; what they held may be kept in the machine's memory, if that is allowed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from nbllm.local.llama.native import NativeModel
from nbllm.local.scheduling.prefix_disk import PrefixDisk
from nbllm.local.scheduling.prefixes import PrefixStore, shared_length
from nbllm.local.scheduling.steps import Row
from nbllm.local.scheduling.tasks import Slot, Task

__all__ = ["Slots"]

_GROWTH = 32  # cells kept free for each running answer before one more is admitted
_FEW_CELLS = 512
_SHORT = 256  # tokens that are read again in less than a second
_LONG = 1024  # tokens that are worth saving before the model is unloaded
_WORTH_WAITING = 32  # tokens that another request is about to read for both


class Slots:
    """The slots of ``model``. ``kept_bytes`` bounds what is kept of emptied ones.

    What they hold is saved to ``disk``, where there is one.
    """

    def __init__(
        self, model: NativeModel, kept_bytes: int = 0, disk: PrefixDisk | None = None
    ) -> None:
        self._model, self._cells = model, model.cells
        self._slots = [Slot(number) for number in range(model.settings.parallel)]
        self._store = PrefixStore(kept_bytes)
        self._disk = disk

    def running(self) -> Iterator[tuple[Task, Slot]]:
        """The requests that have a slot, with it."""
        return ((task, slot) for slot in self._slots if (task := slot.task) is not None)

    def gap_fillers(self) -> dict[int, int] | None:
        """The lengths of the slots that have room for one more row; None in a unified KV cache."""
        if self._cells.are_shared:
            return None
        if not self._model.can_copy_prefix:  # nothing can be taken back from its memory
            return {}
        most = self._model.context_length
        return {slot.id: len(slot.tokens) for slot in self._slots if len(slot.tokens) < most}

    def drop_fillers(self, fillers: dict[int, int], rows: list[Row]) -> None:
        """Drop what a batch has put into slots that have no row in it."""
        if self._model.batch.size > sum(len(row.tokens) for row in rows):
            for number in fillers.keys() - {row.slot.id for row in rows}:
                self._cells.forget(number, fillers[number])

    # ------------------------------------------------------------ admission

    @property
    def has_free(self) -> bool:
        """Whether any slot is at rest."""
        return any(slot.task is None for slot in self._slots)

    def has_place(self, task: Task) -> bool:
        """Whether a slot is free, and cells for this request with some growth for all.

        Background requests leave one slot free for the others, and wait while the cells are few.
        """
        running = [other for other, _ in self.running()]
        free = len(self._slots) - len(running)
        if free == 0 or (task.background and free == 1 and len(self._slots) > 1):
            return False
        cells, before = 0, list[Task]()
        for other in [*running, task]:
            cells += len(other.tokens) - self._longest_shared(other, before) + _GROWTH
            before.append(other)
        has_cells = cells <= self._model.context_length or not self._cells.are_shared
        return not running or has_cells

    def _longest_shared(self, task: Task, others: list[Task]) -> int:
        if not self._model.can_copy_prefix:
            return 0
        return max((_shared(other, task) for other in others), default=0)

    def place(self, task: Task) -> Slot:
        """Take a free slot and return it, with as much of the prompt in it as is known already.

        A slot whose prompt is asked again or carried on is used itself; one that only begins
        alike, as under a shared system prompt, keeps its cells and shares the beginning.
        """
        free = [slot for slot in self._slots if slot.task is None]
        donor = max(self._slots, key=lambda slot: self._usable(slot, task))
        shared = self._usable(donor, task)
        stays = donor.task is None and 2 * shared >= donor.prompt_length
        slot = donor if stays else min(free, key=lambda slot: (len(slot.tokens) > 0, slot.used))
        if not stays:
            self._keep(slot)
        if self._restore(task, slot, shared) or slot is donor or not self._model.can_copy_prefix:
            self.cut(slot, self._usable(slot, task))
        else:
            self._copy(donor, slot, task)
        task.slot, slot.task, slot.prompt_length = slot, task, task.prompt_length
        slot.scales, slot.background = task.scales, task.background
        if self._cells.are_shared and not self._cells.is_ordered:
            self._tidy(task)
        self._follow(task, slot)
        return slot

    def _tidy(self, task: Task) -> None:
        """Empty slots at rest that hold little, where a request then has few cells to attend to.

        From 512 cells on llama.cpp's attention on CPUs takes another way, and a small model is a
        fifth slower; cells at rest count. So short texts, which are soon read again, make room,
        all but the newest of them: a conversation may go on there.
        """
        resting = [slot for slot in self._slots if slot.task is None and slot.tokens]
        short = [slot for slot in resting if len(slot.tokens) <= _SHORT]
        short.sort(key=lambda slot: slot.used)
        cells = sum(len(slot.tokens) for slot in resting) + min(task.max_tokens, _SHORT)
        cells += sum(len(other.tokens) for other, _ in self.running())
        if cells - sum(len(slot.tokens) for slot in short[:-1]) > _FEW_CELLS:
            return
        for slot in short[:-1]:
            if cells > _FEW_CELLS:
                cells -= len(slot.tokens)
                self._keep(slot)
                self.empty(slot)

    def _usable(self, slot: Slot, task: Task) -> int:
        """How much of a slot serves a request, whose last token is always decoded."""
        usable = min(_shared(slot, task), len(task.tokens) - 1)
        return usable if usable >= slot.restored else 0

    def _copy(self, donor: Slot, slot: Slot, task: Task) -> None:
        shared = self._usable(donor, task)
        self.empty(slot)
        if shared:
            self._cells.copy_prefix(donor.id, slot.id, shared)
            slot.tokens, slot.shifted_at = task.tokens[:shared], donor.shifted_at
            slot.restored = donor.restored
            self._note_cut(slot)

    # ------------------------------------------------------------ reading together

    def _follow(self, task: Task, slot: Slot) -> None:
        """Let another request read what both begin with, if it is at it."""
        task.leader = None
        if not self._model.can_copy_prefix:
            return
        for other, place in self.running():
            if other is task or other.leader is not None or other.background > task.background:
                continue
            length = min(_shared(other, task), len(task.tokens) - 1)
            length = min(length, len(other.tokens) - 1)
            if length - max(len(slot.tokens), len(place.tokens)) >= _WORTH_WAITING:
                task.leader, task.leader_length = other, length
                return

    def catch_up(self, task: Task, slot: Slot) -> None:
        """Take what the request that read ahead has read, or what there is of it.

        If that is not all that others need too, the next one reads on for them.
        """
        donor = max(self._slots, key=lambda other: self._usable(other, task))
        if donor is not slot and self._usable(donor, task) > len(slot.tokens):
            task.cached += self._usable(donor, task) - len(slot.tokens)
            self._copy(donor, slot, task)
        self._follow(task, slot)

    # ------------------------------------------------------------ cells

    def cut(self, slot: Slot, length: int) -> None:
        """Keep the first ``length`` tokens of a slot, or none where that is not possible."""
        if length >= slot.restored and self._cells.forget(slot.id, length):
            del slot.tokens[length:]
            self._note_cut(slot)
        else:
            self.empty(slot)

    @staticmethod
    def _note_cut(slot: Slot) -> None:
        if slot.shifted_at is not None and len(slot.tokens) <= slot.shifted_at:
            slot.shifted_at = None

    def empty(self, slot: Slot) -> None:
        """Drop all cells of a slot."""
        self._cells.forget(slot.id, 0)
        slot.tokens, slot.prompt_length, slot.shifted_at, slot.restored = [], 0, None, 0

    def empty_resting(self) -> None:
        """Drop all cells of the slots at rest."""
        for slot in self._slots:
            if slot.task is None:
                self.empty(slot)

    def release(self, task: Task) -> None:
        """A request is done with its slot, which rests from now on with its cells."""
        if task.slot is not None:
            task.slot.task, task.slot.used = None, time.perf_counter()
            task.slot = None

    def _empty_coldest(self) -> bool:
        """Empty the slot at rest that was unused longest; False where none holds anything."""
        resting = [slot for slot in self._slots if slot.task is None and slot.tokens]
        if resting:
            coldest = min(resting, key=lambda slot: slot.used)
            self._keep(coldest)
            self.empty(coldest)
        return bool(resting)

    def shift(self, task: Task, slot: Slot) -> None:
        """Drop the older half of a full request's tokens, but for those that it keeps.

        It has all cells of the context by then. A slot at rest may hold some of the same, and gives
        them up: a cell moves for all that share it.
        """
        kept = min(task.keep, len(slot.tokens) // 2)
        for other in self._slots if self._cells.are_shared else ():
            if other.task is None and _shared(other, slot) > kept:
                self.cut(other, kept)
        dropped = max(1, (len(slot.tokens) - kept) // 2)
        self._cells.drop(slot.id, kept, kept + dropped)
        slot.shifted_at = kept
        del slot.tokens[kept : kept + dropped]
        del task.tokens[kept : kept + dropped]
        if task.lookup is not None:
            task.lookup.restart()

    def took(self, count: int) -> None:
        """Note that a batch has filled so many cells; now and then the cells are defragmented."""
        self._cells.took(count)
        if self._cells.should_defragment:
            self.defragment()

    def make_room(self) -> bool:
        """Free cells of resting slots, or what only defragmenting frees; False where none are."""
        if self._cells.can_defragment:
            self.defragment()
            return True
        return self._empty_coldest()

    def defragment(self) -> None:
        """Move the cells of all slots together, where they have to stay in order."""
        lengths = {slot.id: len(slot.tokens) for slot in self._slots if slot.tokens}
        for number in self._cells.defragment(lengths):
            self.empty(self._slots[number])

    # ------------------------------------------------------------ emptied slots

    def _keep(self, slot: Slot) -> None:
        """Save the state of a slot that is about to be emptied, where there is room for it."""
        self._save(slot, _LONG, waits=False)
        if not slot.tokens or not self._store.limit_bytes:
            return
        key = (slot.scales, *slot.tokens)
        if self._store.wants(key, self._cells.state_size(slot.id)):
            self._store.put(key, self._cells.save_state(slot.id))

    def _restore(self, task: Task, slot: Slot, shared: int) -> bool:
        """Bring back a saved state that shares more with a request than any slot does."""
        wanted = (task.scales, *task.tokens[:-1])
        found = self._store.find(wanted, whole=self._model.saves_whole, least=1 + shared)
        if found is not None:
            (_, *tokens), state = found
            return self._load(task, slot, tokens, state)
        if self._disk is None:
            return False
        saved = self._disk.find(task.scales, task.tokens[:-1], shared + _SHORT)
        if saved is None:
            return False
        is_loaded = self._load(task, slot, *saved)
        if not is_loaded and not any(True for _ in self.running()):
            self._disk.refuse(saved[0])
        return is_loaded

    def _load(self, task: Task, slot: Slot, tokens: list[int], state: bytearray) -> bool:
        self.empty(slot)
        while not self._cells.load_state(slot.id, state, len(tokens)):
            if not self.make_room():
                return False
        slot.tokens, slot.scales = tokens, task.scales
        slot.restored = len(tokens) if self._model.slides else 0
        return True

    def save_next(self) -> bool:
        """Save the longest slot at rest with a long prompt that is not on disk yet.

        False where there is none.
        """
        resting = [slot for slot in self._slots if slot.task is None]
        resting.sort(key=lambda slot: -len(slot.tokens))
        return any(self._save(slot, _LONG, waits=False) for slot in resting)

    def save_all(self) -> None:
        """Save what any slot holds, the last used first; returns when it is on disk."""
        for slot in sorted(self._slots, key=lambda slot: -slot.used):
            self._save(slot, _SHORT, waits=True)
        if self._disk is not None:
            self._disk.finish()

    def _save(self, slot: Slot, least: int, *, waits: bool) -> bool:
        """Save a slot to disk if ``least`` of its tokens or more are new there.

        What was computed with dropped tokens in sight serves only while the worker lives: read
        anew, the same tokens give other numbers. The prompts of a batch have no next turn.
        """
        if self._disk is None or len(slot.tokens) < least:
            return False
        if slot.shifted_at is not None or slot.background:
            return False
        spare = self._spare(slot)
        tokens = slot.tokens if spare is slot else slot.tokens[: slot.prompt_length]
        if self._disk.gain(slot.scales, tokens) < least:
            return False
        if not self._disk.fits(self._cells.state_size(slot.id), waits=waits):
            return False
        if spare is not slot:
            self._cells.copy_prefix(slot.id, spare.id, len(tokens))
        state = self._cells.save_state(spare.id)
        if spare is not slot:
            self._cells.forget(spare.id, 0)
        self._disk.put(slot.scales, tokens, state)
        return True

    def _spare(self, slot: Slot) -> Slot:
        """The slot to save what another holds from.

        It is another one for the prompt alone, where no part of the state can be used later: the
        next turn may write the answer with other tokens, but the prompt never.
        """
        if not self._model.slides or not slot.restored <= slot.prompt_length < len(slot.tokens):
            return slot
        empty = (other for other in self._slots if other.task is None and not other.tokens)
        return next(empty, slot)


def _shared(one: Slot | Task, other: Slot | Task) -> int:
    """How many cells of one serve the other: the common beginning, under the same adapters."""
    return shared_length(one.tokens, other.tokens) if one.scales == other.scales else 0
