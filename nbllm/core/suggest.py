"""The closest known words to one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "did_you_mean"]


def closest(word: str, known: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Up to ``count`` of the ``known`` words that resemble ``word``, best first."""
    by_folded = {name.casefold(): name for name in known}
    folded = word.casefold()
    inside = [name for key, name in by_folded.items() if len(folded) > 1 and folded in key]
    alike = [by_folded[key] for key in difflib.get_close_matches(folded, by_folded, n=count)]
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
