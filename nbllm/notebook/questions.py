"""Lines that begin with ``%llm``, kept from what IPython would make of them.

IPython takes any line that ends in a question mark for a request for help, so that
``%llm What is recursion?`` would never reach the magic.
"""

from __future__ import annotations

import re
from functools import cache

from IPython.core.inputtransformer2 import make_tokens_by_line

__all__ = ["keep_questions"]

_HELP = {"?", "??"}


def keep_questions(lines: list[str], magic: str = "llm") -> list[str]:
    """An input transformer: calls in place of ``%llm …?`` and of ``x = %llm …``.

    The magic itself returns nothing, since its answer is on the screen already; where it is
    assigned the target gets the result. ``magic`` is what it is called in this shell.
    """
    is_cell_magic = bool(lines) and lines[0].startswith("%%")
    if is_cell_magic or not any(f"%{magic}" in line for line in lines):
        return lines
    starts = {tokens[0].start[0] - 1 for tokens in make_tokens_by_line(lines) if tokens}
    return [_as_call(line, magic) if n in starts else line for n, line in enumerate(lines)]


def _as_call(line: str, magic: str) -> str:
    match = _pattern(magic).match(line)
    if match is None or match["text"] in _HELP:
        return line
    indent, target, text = match["indent"], match["target"], match["text"]
    if target is None and not text.endswith("?"):
        return line
    call = f"get_ipython().run_line_magic({match['magic']!r}, {text!r})"
    return f"{indent}{target}{call} or _llm\n" if target else f"{indent}{call}\n"


@cache
def _pattern(magic: str) -> re.Pattern[str]:
    return re.compile(
        r"(?P<indent>\s*)(?P<target>[A-Za-z_][^=%#'\"]*=\s*)?"
        rf"%(?P<magic>{magic}(?:_explain|_fix)?)[ \t]+(?P<text>\S.*?)\s*$",
        re.DOTALL,
    )
