"""Lines that call ``%llm``, kept from what IPython and Python's tokenizer would make of them.

IPython takes any line that ends in a question mark for a request for help, and reads prompts as
Python to find where its lines begin: an apostrophe or a bracket in one prompt hides the next.
So these lines become calls before anything else looks at the cell::

    %llm What is recursion?        x = %llm What's up?        if True: %llm Why :-( ?

Lines inside a text, a comment, or brackets that are closed stay as they are.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import NamedTuple

__all__ = ["Call", "calls_in", "keep_questions"]

_HELP = {"?", "??"}
_OPEN, _CLOSE = "([{", ")]}"


class Call(NamedTuple):
    """A line that may call a magic, from ``first`` to before ``end``: ``before``, magic, text."""

    first: int
    end: int
    before: str
    magic: str
    text: str

    @property
    def code(self) -> str:
        """The line that calls the magic whatever its text holds."""
        return f"{self.before}get_ipython().run_line_magic({self.magic!r}, {self.text!r})\n"


def keep_questions(lines: list[str], magic: str = "llm") -> list[str]:
    """An input transformer: calls in place of the lines that call ``%llm``, ``%llm_explain``, ….

    ``magic`` is what ``llm`` is called in this shell.
    """
    kept, position = [], 0
    for call in calls_in(lines, magic):
        kept += [*lines[position : call.first], call.code]
        position = call.end
    return [*kept, *lines[position:]] if kept else lines


def calls_in(lines: list[str], magic: str = "llm") -> list[Call]:
    """The lines of a cell that call one of these magics, in their order."""
    is_cell_magic = bool(lines) and lines[0].startswith("%%")
    if is_cell_magic or not any(f"%{magic}" in line for line in lines):
        return []
    calls = list(_calls(lines, magic))
    return [] if not calls or _is_python("".join(lines)) else _outside_of_texts(lines, calls)


def _calls(lines: list[str], magic: str) -> Iterator[Call]:
    """All lines that look like calls, each with the lines that a backslash joins to it."""
    pattern, first = _pattern(magic), 0
    while first < len(lines):
        match = pattern.match(lines[first])
        if match is None or match["text"].strip() in _HELP:
            first += 1
            continue
        end, parts = first + 1, [match["text"].rstrip()]
        while parts[-1].endswith("\\") and end < len(lines):
            parts[-1] = parts[-1][:-1]
            parts.append(lines[end].rstrip())
            end += 1
        yield Call(first, end, match["before"], match["magic"], " ".join(parts))
        first = end


def _is_python(source: str) -> bool:
    """Whether it is Python as it stands: ``%llm`` in a text, or a remainder over two lines."""
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        ast.parse(source)
        return True
    return False


def _outside_of_texts(lines: list[str], calls: list[Call]) -> list[Call]:
    """Those that are code, which is found by reading the cell with a name in each one's place."""
    names = {f"_nbllm_{number}_": call for number, call in enumerate(calls)}
    pieces, position = [], 0
    for name, call in names.items():
        pieces += [*lines[position : call.first], f"{call.before}{name}\n"]
        position = call.end
    source = "".join([*pieces, *lines[position:]])
    found: list[Call] = []
    held: list[Call] = []
    depth = 0
    for token in _tokens(source):
        if token.type == tokenize.OP:
            depth += (token.string in _OPEN) - (token.string in _CLOSE)
            held = held if depth > 0 else []
        elif token.type == tokenize.NAME and token.string in names:
            (held if depth > 0 else found).append(names[token.string])
    # A bracket that is never closed is an error of its own, which Python tells.
    return sorted([*found, *held])


def _tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens of what may be no Python, up to what cannot be one."""
    lines = iter(source.splitlines(keepends=True))
    with suppress(tokenize.TokenError, SyntaxError):
        yield from tokenize.generate_tokens(lambda: next(lines, ""))


@cache
def _pattern(magic: str) -> re.Pattern[str]:
    return re.compile(
        r"(?P<before>\s*(?:(?:%(?:time|timeit|prun)\b|[^%!?\s]).*?(?:[=:;]|\breturn)[ \t]*"
        r"|return[ \t]+)?)"
        rf"%(?P<magic>{re.escape(magic)}(?:_explain|_fix)?)[ \t]+(?P<text>\S.*)",
        re.DOTALL,
    )
