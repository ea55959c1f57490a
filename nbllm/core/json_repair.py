"""JSON that is nearly so: as Python writes it, with commas too many, or cut off at a limit.

Only what has one meaning is repaired. What isn't JSON for any other reason stays what it is.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

__all__ = ["closed", "loads_tolerantly"]

_TOKEN = re.compile(
    r"""\s+ | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [\[\]{}:,"'] | [^\s\[\]{}:,"']+""",
    re.DOTALL | re.VERBOSE,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_CLOSERS = {"[": "]", "{": "}"}


def loads_tolerantly(text: str) -> Any:
    """The object or array from the first bracket of ``text`` to the last.

    Python's quotes and constants count as JSON's, and a comma before a closing bracket as none.
    Raises ``ValueError`` and ``RecursionError``, as ``json.loads`` does.
    """
    start = _start(text)
    end = max(text.rfind("]"), text.rfind("}")) + 1
    return json.loads("".join(_strict(text[start:end])))


def _start(text: str) -> int:
    found = re.search(r"[\[{]", text)
    return found.start() if found else len(text)


def _strict(text: str) -> Iterator[str]:
    before, comma = "", ""
    for part in _TOKEN.findall(text):
        if part.isspace():
            continue
        if part == "," and before not in ("[", "{", ","):
            comma = part
        else:
            yield "" if part in ("]", "}") else comma
            yield _requoted(part) if part[0] in "'\"" else _WORDS.get(part, part)
            comma = ""
        before = part


def _requoted(part: str) -> str:
    with suppress(ValueError):
        return json.dumps(json.loads(part))
    try:
        return json.dumps(ast.literal_eval(part))
    except SyntaxError:
        raise ValueError(f"{part[:20]} is not a string") from None


def closed(text: str) -> str:
    """What is complete of JSON that was cut off, with its brackets closed.

    Of an array those elements stay that are complete; if there's none, as much of the first one as
    there is. Text without a bracket, and JSON that is complete or broken, stays as it is.
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
