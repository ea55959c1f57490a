"""Whether a text matches a pattern, in time bounded by the lengths of both.

The places in a text are the bits of an integer. A node of the pattern takes the places where it
may begin to those where it may end, all at once, so that nothing is ever tried twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nbllm.core.grammars.charsets import CharSet
from nbllm.core.schemas.pattern_classes import PatternChars, class_of
from nbllm.core.schemas.patterns import (
    Alternatives,
    Assertion,
    Look,
    Node,
    Repeated,
    Series,
    read_pattern,
)

__all__ = ["found_in"]

_MOST_WORK = 50_000_000
"""Bits moved: half a second or so."""


def found_in(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text.

    Raises ``ValueError`` for a pattern that is none, and where the two together are too large.
    """
    matcher = _Matcher(text)
    return bool(matcher.moved(read_pattern(pattern), matcher.everywhere, ahead=True))


@dataclass(slots=True)
class _Matcher:
    text: str
    work: int = 0
    masks: dict[CharSet, int] = field(default_factory=dict)

    @property
    def everywhere(self) -> int:
        return (1 << len(self.text) + 1) - 1

    def moved(self, node: Node, places: int, *, ahead: bool) -> int:
        """Where ``node`` may end that begins at ``places``; or where it began, if not ``ahead``."""
        self.work += len(self.text) + 64
        if self.work > _MOST_WORK:
            raise ValueError("the pattern is too complex to check on a text of this length")
        match node:
            case PatternChars(_, loose):
                mask = self._mask(loose)
                return (places & mask) << 1 if ahead else places >> 1 & mask
            case Series(items):
                for item in items if ahead else reversed(items):
                    places = self.moved(item, places, ahead=ahead)
                return places
            case Alternatives(branches):
                ends = 0
                for branch in branches:
                    ends |= self.moved(branch, places, ahead=ahead)
                return ends
            case Repeated():
                return self._repeated(node, places, ahead=ahead)
            case Assertion() | Look():
                return places & self._places(node)

    def _repeated(self, node: Repeated, places: int, *, ahead: bool) -> int:
        count, ends = 0, 0 if node.least else places
        while places and (node.most is None or count < node.most):
            before, places = places, self.moved(node.item, places, ahead=ahead)
            count += 1
            if count < node.least and places != before:
                continue
            if places | ends == ends and count >= node.least:
                break
            ends |= places
            if places == before:  # as it will be each further time
                break
        return ends

    def _places(self, node: Assertion | Look) -> int:
        if isinstance(node, Look):
            found = self.moved(node.item, self.everywhere, ahead=not node.ahead)
            return self.everywhere & ~found if node.negated else found
        if node.kind in ("start", "end"):
            return 1 if node.kind == "start" else 1 << len(self.text)
        words = self._mask(class_of("w").loose)
        boundaries = words ^ words << 1
        return boundaries if node.kind == "boundary" else self.everywhere & ~boundaries

    def _mask(self, chars: CharSet) -> int:
        """The places before the characters of a set."""
        if chars not in self.masks:
            self.work += len(self.text)
            bits = "".join("1" if ord(c) in chars else "0" for c in reversed(self.text))
            self.masks[chars] = int(bits or "0", 2)
        return self.masks[chars]
