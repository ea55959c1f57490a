"""JSON that was cut off at a limit, closed where it has come to."""

from __future__ import annotations

import re

__all__ = ["closed"]

_TOKEN = re.compile(
    r"""\s+ | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [\[\]{}:,"'] | [^\s\[\]{}:,"']+""",
    re.DOTALL | re.VERBOSE,
)
_CLOSERS = {"[": "]", "{": "}"}


def closed(text: str) -> str:
    """What is complete of JSON that was cut off, with its brackets closed.

    Of an array those elements stay that are complete; if there's none, as much of the first one as
    there is. Text without a bracket, and JSON that is complete or broken, stays as it is.

    >>> closed('[{"name": "Ann", "age": 34}, {"name": "Bo')
    '[{"name": "Ann", "age": 34}]'
    """
    start, end, elements_end = _start(text), None, 0
    is_array, is_key = text[start : start + 1] == "[", False
    open_ends, closers = list[str](), ""
    for match in _TOKEN.finditer(text, start):
        part = match.group()
        if part.isspace():
            continue
        if part in _CLOSERS:
            open_ends.append(_CLOSERS[part])
        elif part in ("]", "}"):
            if open_ends.pop() != part or not open_ends:
                return text
        elif part in (",", ":"):
            is_key = part == "," and open_ends[-1] == "}"
            continue
        elif part in ('"', "'"):
            break
        elif is_key or match.end() == len(text):
            continue
        is_key = part == "{"
        end, closers = match.end(), "".join(reversed(open_ends))
        if is_array and len(open_ends) == 1 and part != "[":
            elements_end = end
    if elements_end:
        return text[start:elements_end] + "]"
    return text if end is None else text[start:end] + closers


def _start(text: str) -> int:
    found = re.search(r"[\[{]", text)
    return found.start() if found else len(text)
