"""The closest known words to one that is not known, and the models' names that resemble one."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "closest",
    "did_you_mean",
    "nearest",
]


def closest(word: str, known: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Up to ``count`` of the ``known`` words that resemble ``word``, best first."""
    from difflib import get_close_matches  # on the way of %load_ext, which needs none of it

    by_folded = {name.casefold(): name for name in known}
    folded = word.casefold()
    inside = [name for key, name in by_folded.items() if len(folded) > 1 and folded in key]
    alike = [by_folded[key] for key in get_close_matches(folded, by_folded, n=count)]
    return tuple(dict.fromkeys([*alike, *inside]))[:count]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with a leading blank that names the closest known word, or nothing.

    >>> did_you_mean("temprature", ["temperature", "top_k"])
    " Did you mean 'temperature'?"
    >>> did_you_mean("colour", ["temperature", "top_k"])
    ''
    """
    found = closest(word, known, count=1)
    return f" Did you mean {found[0]!r}?" if found else ""


_ENOUGH = 0.72
_PART = re.compile(r"\d+|[^\W\d_]+")
_LONGEST = 200


def nearest(word: str, names: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Up to ``count`` of the ``names`` that ``word`` may mean, best first.

    "gpt4o" is near "gpt-4o", "claude 4" near "claude-opus-4", "smolm2" near
    "SmolLM2-135M-Instruct": separators and case do not count, and the end of a name may be missing.
    """
    typed = _Typed(word[:_LONGEST])
    scored = [(typed.likeness(name), name) for name in dict.fromkeys(names)]
    scored = [(score, name) for score, name in scored if score >= _ENOUGH]
    return tuple(name for _, name in sorted(scored, key=lambda each: -each[0])[:count])


class _Typed:
    """A word that was typed, taken apart once for all comparisons."""

    def __init__(self, word: str) -> None:
        self._letters, self._parts = _bare(word), set(_PART.findall(word.casefold()))
        from difflib import SequenceMatcher

        self._matcher = SequenceMatcher(autojunk=False, b=self._letters)

    def likeness(self, name: str) -> float:
        """From 0 for nothing in common to 1 for the same letters and digits."""
        letters = _bare(name[:_LONGEST])
        if not self._letters or not letters:
            return 0.0
        if letters == self._letters:
            return 1.0
        longer = min(0.09, 0.001 * abs(len(letters) - len(self._letters)))  # the shorter are nearer
        if letters.startswith(self._letters):
            return 0.99 - longer
        if self._parts <= set(_PART.findall(name.casefold())):
            return 0.94 - longer
        if len(self._letters) > 2 and self._letters in letters:
            return 0.9 - longer
        beginning = letters[: len(self._letters) + 1]
        return max(self._ratio(letters), 0.97 * self._ratio(beginning))

    def _ratio(self, letters: str) -> float:
        self._matcher.set_seq1(letters)
        if self._matcher.quick_ratio() < _ENOUGH:
            return 0.0
        return self._matcher.ratio()


def _bare(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold())
