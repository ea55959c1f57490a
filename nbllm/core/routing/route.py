"""``Route``: which of a router's members answered a request, and what was tried before."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.core.texts import brief_repr
from nbllm.core.words import duration_words

__all__ = ["Route", "RouteTry", "failure_words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTry:
    """One member that was asked.

    ``why`` it was chosen is a phrase. ``seconds`` are those to its first token, or to its failure:
    that of kind ``failure`` ("rate_limit"; None where it answered), told in full by ``problem``.
    """

    member: str
    why: str
    seconds: float = 0.0
    failure: str | None = None
    problem: str = ""

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a router answered: the last of the ``tries`` is that of ``member``, who answered.

    ``waited_seconds`` were spent because no member could be asked. ``restarted`` says that text of
    another member had come before, and was given up.
    """

    router: str
    strategy: str
    member: str
    tries: tuple[RouteTry, ...]
    waited_seconds: float = 0.0
    restarted: bool = False

    __repr__ = brief_repr

    @property
    def failures(self) -> tuple[RouteTry, ...]:
        """The tries that failed."""
        return tuple(each for each in self.tries if each.failure is not None)

    @property
    def reason(self) -> str:
        """Why the member was asked: what failed before, else why it was chosen."""
        if self.failures:
            last = self.failures[-1]
            return f"{last.member}: {failure_words(last.failure)}"
        return self.tries[-1].why if self.tries else ""

    def __str__(self) -> str:
        notes = [self.tries[-1].why] if self.tries and not self.failures else []
        notes += [f"{each.member}: {failure_words(each.failure)}" for each in self.failures]
        if self.waited_seconds >= 0.05:
            notes.append(f"waited {duration_words(self.waited_seconds)}")
        return f"via {self.router} ({', '.join(notes)})" if notes else f"via {self.router}"


def failure_words(kind: str | None) -> str:
    """A kind of failure as it is read."""
    return (kind or "").replace("_", " ")
