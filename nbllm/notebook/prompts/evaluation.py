"""What all that evaluates braces shares: the budget of a prompt, the refusal, and a call."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from nbllm.notebook.prompts.value_kinds import type_name

__all__ = ["INT_BITS", "TEXT_CHARACTERS", "VALUE_STEPS", "Budget", "Call", "Refused"]

STEPS = 3_000_000
"""For all braces of a prompt: about as many elements of lists, looked at in Python's own loop."""
VALUE_STEPS = 200_000
"""For one value that is computed with: the elements of a list, a fiftieth of a table's cells."""
SECONDS = 5.0
"""Of this thread's own time, after which no more braces are begun, whatever made steps slow."""
TEXT_CHARACTERS = 1 << 20
"""The longest text that is computed with or put in; as long as the largest file."""
PROMPT_CHARACTERS = 4 << 20
"""What all values of a prompt may hold together."""
INT_BITS = 13_000
"""Of the largest whole number; a little below the 4,300 digits that Python makes a text of."""


class Refused(Exception):  # noqa: N818 - no failure: the braces stay as they are
    """The expression does what expressions in prompts may not do."""


@dataclass(slots=True)
class Budget:
    """What is left for the braces of one prompt.

    ``weights`` are those of the values looked at, and ``keyed`` the dicts whose keys are plain;
    each is kept with its value, so that no other value gets its ``id`` meanwhile.
    """

    steps: int = STEPS
    characters: int = PROMPT_CHARACTERS
    deadline: float = field(default_factory=lambda: time.thread_time() + SECONDS)
    weights: dict[int, tuple[object, int]] = field(default_factory=dict)
    keyed: dict[int, object] = field(default_factory=dict)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is computed for this prompt."""
        return self.steps <= 0

    def spend(self, steps: int = 1) -> None:
        """Count ``steps``. Raises ``Refused`` where there are not as many left.

        What no prompt could afford costs nothing; it is refused before it is begun.
        """
        if steps > STEPS:
            raise Refused("it takes too long to compute; compute it in a variable first")
        self.steps -= steps
        if self.steps < 0 or time.thread_time() > self.deadline:
            self.steps = 0
            raise Refused("the values of this prompt take too long to compute together")

    def take(self, characters: int) -> None:
        """Count what is put into the prompt. Raises ``Refused`` where there is no room for it."""
        if characters > self.characters:
            raise Refused(
                f"the values of this prompt exceed {PROMPT_CHARACTERS >> 20} MiB together"
            )
        self.characters -= characters


@dataclass(frozen=True, slots=True)
class Call:
    """``name`` with its arguments, by position and by name, and what it may cost."""

    name: str
    given: list[Any]
    named: dict[str, Any]
    budget: Budget

    def bound(self, listed: str) -> dict[str, Any]:
        """The arguments by the listed names. Raises ``Refused`` for any other."""
        names = listed.split()
        others = self.named.keys() - set(names[len(self.given) :])
        if len(self.given) > len(names) or others:
            raise Refused(f"{self.name} takes {', '.join(names) or 'no argument'} in a prompt")
        return {**dict(zip(names, self.given, strict=False)), **self.named}

    def not_listed(self, owner: object) -> Refused:
        """The refusal of this call."""
        return Refused(
            f"{type_name(owner)}.{self.name} is not called in a prompt; "
            "assign its result to a variable first"
        )
