"""A call of a method, before it is known whether the method is listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbllm.notebook.prompts.limits import Budget, Refused
from nbllm.notebook.prompts.value_kinds import type_name

__all__ = ["Call"]


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
