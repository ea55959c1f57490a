"""Answers in a form: code, tables, formulas and diffs, found in what a model wrote.

Each parser takes the answer's text and returns the value, or raises ``AnswerFormError``, which
says what was expected and holds the text. Models wrap what was asked for in prose and fences;
both are taken away.
"""

from __future__ import annotations

import ast
import re
import warnings

from nbllm.core.answer_json import Block, blocks_of
from nbllm.core.errors import AnswerFormError

__all__ = ["code_of", "diff_of", "math_of"]

# A formula has so many characters at most: a search for each opening's end stays linear.
_DISPLAY_MATH = re.compile(r"\$\$(.{1,3000}?)\$\$|\\\[(.{1,3000}?)\\\]", re.DOTALL)
_INLINE_MATH = re.compile(
    r"(?<![\\$])\$(?!\s)([^$\n]{1,3000}?)(?<![\\\s])\$(?!\$)|\\\((.{1,3000}?)\\\)"
)
_ENVIRONMENT = re.compile(r"\\begin\{(\w{1,30}\*?)\}.{0,3000}?\\end\{\1\}", re.DOTALL)
_HUNK = re.compile(r"^@@ .*@@", re.MULTILINE)
_DIFF_LINE = re.compile(r"(diff |index |--- |\+\+\+ |@@|[-+ ]|\\|$)")


# ---------------------------------------------------------------- code

_MAGICS = {
    "bash": "%%bash",
    "sh": "%%bash",
    "shell": "%%bash",
    "html": "%%html",
    "javascript": "%%javascript",
    "js": "%%javascript",
    "latex": "%%latex",
    "markdown": "%%markdown",
    "perl": "%%perl",
    "ruby": "%%ruby",
    "svg": "%%svg",
}
_PYTHON = {"python", "py", "python3", "ipython", ""}


def code_of(text: str) -> str:
    """The code of an answer as one cell: its fenced blocks, or all of it if that is Python.

    Where there are several blocks those of the first one's language are joined. Languages that
    IPython has a cell magic for get it as their first line.
    """
    blocks = list(blocks_of(text))
    if not blocks:
        return _bare_python(text)
    language = _kind(blocks[0])
    code = "\n\n".join(block.text for block in blocks if _kind(block) == language)
    magic = _MAGICS.get(language)
    return f"{magic}\n{code}" if magic and not code.startswith("%%") else code


def _kind(block: Block) -> str:
    return "python" if block.language in _PYTHON else block.language


def _bare_python(text: str) -> str:
    try:
        with warnings.catch_warnings():  # about the model's escapes, which are not the reader's
            warnings.simplefilter("ignore")
            is_empty = not ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise AnswerFormError("code", "it has no fenced block (```)", text=text) from None
    if is_empty:
        raise AnswerFormError("code", "it is empty", text=text)
    return text.strip("\n")


# ---------------------------------------------------------------- formulas and diffs


def math_of(text: str) -> str:
    """The LaTeX of an answer's formulas, without their delimiters, with blank lines between."""
    for block in blocks_of(text):
        if block.language in {"latex", "tex", "math"}:
            return _undelimited(block.text.strip())
    for pattern in (_DISPLAY_MATH, _INLINE_MATH):
        formulas = ["".join(filter(None, match.groups())) for match in pattern.finditer(text)]
        if formulas:
            return "\n\n".join(re.sub(r"\n\s*\n", "\n", formula.strip()) for formula in formulas)
    environment = _ENVIRONMENT.search(text)
    if environment:
        return environment.group()
    if "\\" in text and len(text.strip().splitlines()) == 1:
        return text.strip()
    raise AnswerFormError("formula", r"it has neither $…$, $$…$$, \(…\) nor \[…\]", text=text)


def _undelimited(latex: str) -> str:
    match = _DISPLAY_MATH.fullmatch(latex) or _INLINE_MATH.fullmatch(latex)
    return "".join(filter(None, match.groups())).strip() if match else latex


def diff_of(text: str) -> str:
    """The unified diff of an answer."""
    for block in blocks_of(text):
        if block.language in {"diff", "patch"} or _HUNK.search(block.text):
            return block.text
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith(("diff ", "--- ", "@@ "))]
    if not starts or not _HUNK.search(text):
        raise AnswerFormError("diff", "it has no hunk (@@ … @@)", text=text)
    body = lines[starts[0] :]
    end = next((n for n, line in enumerate(body) if not _DIFF_LINE.match(line)), len(body))
    return "\n".join(body[:end]).rstrip()
