"""One request on its way through the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nbllm.local.llama.sampling import Sampler
from nbllm.local.scheduling.label_decisions import Decision
from nbllm.local.scheduling.prompt_lookup import PromptLookupDrafter
from nbllm.local.scheduling.repetition import Repetition
from nbllm.local.token_text import TextAssembler

__all__ = ["Slot", "Task"]

_AGEING_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence of the context, and the tokens whose cells it holds, the last prompt's first.

    ``scales`` are those of the adapters that the cells were computed with. From ``shifted_at`` on
    they were computed with tokens in sight that have been dropped since. The first ``restored``
    were saved without what the last of them did not see (sliding windows), and serve together only.
    ``background`` was the last request.
    """

    id: int
    tokens: list[int] = field(default_factory=list)
    scales: tuple[float, ...] = ()
    prompt_length: int = 0
    shifted_at: int | None = None
    restored: int = 0
    background: bool = False
    task: Task | None = None
    used: float = 0.0


@dataclass(slots=True, eq=False)
class Task:
    """One request. ``tokens`` are the prompt's and, behind them, those that were written.

    ``background`` requests let the others go first. Where the context is full, ``shifts`` drops
    the older half of all behind the first ``keep`` tokens; without it the answer ends.
    ``scales`` are those of the model's adapters: it is computed with them, and its cells serve no
    request with others.
    ``leader`` is a request that reads the same beginning just now, ``leader_length`` tokens of it;
    they are copied when it is done with them.
    ``repetition`` watches for an answer that goes round in circles; None where it may.
    ``decision`` chooses among labels in place of writing an answer: its path stands behind the
    prompt.
    """

    id: int
    tokens: list[int]
    max_tokens: int
    sampler: Sampler
    text: TextAssembler
    scales: tuple[float, ...] = ()
    background: bool = False
    shifts: bool = False
    keep: int = 0
    lookup: PromptLookupDrafter | None = None
    repetition: Repetition | None = None
    decision: Decision | None = None
    arrived: float = field(default_factory=time.perf_counter)
    prompt_length: int = field(init=False)
    written: int = 0
    accepted_drafts: int = 0
    cached: int = 0
    started: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    told_progress: float = 0.0
    unsent: str = ""
    told_tokens: int = 0
    slot: Slot | None = None
    leader: Task | None = None
    leader_length: int = 0
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    def pending(self, slot: Slot) -> int:
        """Tokens that have no cells yet; at 1 the next step continues the answer."""
        return len(self.tokens) - len(slot.tokens)

    def rank(self, now: float) -> tuple[bool, float]:
        """The order in which requests are served: who waited long is background no more."""
        yields = self.background and now - self.arrived < _AGEING_SECONDS
        return yields, self.arrived

    @property
    def waits_for_leader(self) -> bool:
        """Whether another request still reads what this one begins with."""
        leader = self.leader
        return (
            leader is not None
            and leader.slot is not None
            and not leader.cancelled
            and len(leader.slot.tokens) < self.leader_length
        )

    def take_unsent(self) -> tuple[int, str, int]:
        """The id, the text that was not passed on yet, and the tokens that it took."""
        text, self.unsent = self.unsent, ""
        tokens, self.told_tokens = self.written - self.told_tokens, self.written
        return self.id, text, tokens
