"""Cells as they were typed: IPython's calls become magics and commands of the shell again."""

from __future__ import annotations

import ast
import re

__all__ = ["as_typed"]

_CALL = re.compile(
    r"get_ipython\(\)\.(?P<call>run_line_magic|run_cell_magic|system|getoutput)"
    r"\((?P<arguments>(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|, )*)\)"
)


def as_typed(source: str) -> str:
    """``source`` with every call that IPython wrote in place of a magic as the magic."""
    return _CALL.sub(_typed, source)


def _typed(match: re.Match[str]) -> str:
    try:
        arguments = ast.literal_eval(f"({match['arguments']},)")
    except (ValueError, SyntaxError):
        return match.group()
    call = match["call"]
    if call in ("system", "getoutput") and len(arguments) == 1:
        return f"!{arguments[0]}"
    if call == "run_line_magic" and len(arguments) == 2:
        return _magic("%", *arguments)
    if call == "run_cell_magic" and len(arguments) == 3:
        return f"{_magic('%%', *arguments[:2])}\n{arguments[2]}"
    return match.group()


def _magic(mark: str, name: str, line: str) -> str:
    if mark == "%" and name in ("pinfo", "pinfo2"):
        return f"{line}{'?' * (1 + name.endswith('2'))}"
    return f"{mark}{name} {line}".rstrip()
