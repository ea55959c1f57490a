"""Answers in a form: code, JSON, tables, formulas and diffs, found in what a model wrote.

Each parser takes the answer's text and returns the value, or raises ``AnswerFormError``, which
says what was expected and holds the text. Models wrap what was asked for in prose and fences;
both are taken away.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import AnswerFormError
from nbllm.notebook.forms.json_repair import loads_tolerantly

__all__ = ["Block", "blocks_of", "code_of", "diff_of", "json_of", "math_of"]

_FENCE = re.compile(
    r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^\n`]*\n"
    r"(?P<body>.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_DISPLAY_MATH = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]", re.DOTALL)
_INLINE_MATH = re.compile(r"(?<![\\$])\$(?!\s)([^$\n]+?)(?<![\\\s])\$(?!\$)|\\\((.+?)\\\)")
_ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
_HUNK = re.compile(r"^@@ .*@@", re.MULTILINE)
_DIFF_LINE = re.compile(r"(diff |index |--- |\+\+\+ |@@|[-+ ]|\\|$)")
_JSON_START = re.compile(r"[\[{]")
_JSON_INSIDE = re.compile(r"[\[{\"]")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its ``language`` in small letters, "" where none is told, and its text."""

    language: str
    text: str


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks in order; one that is not closed goes to the end."""
    for match in _FENCE.finditer(text):
        body = match["body"]
        if match["indent"]:
            body = re.sub(rf"^ {{0,{len(match['indent'])}}}", "", body, flags=re.MULTILINE)
        yield Block(match["language"].lower(), body.rstrip("\n"))


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


# ---------------------------------------------------------------- JSON


def json_of(text: str) -> Any:
    """The JSON value of an answer: all of it, a fenced block, or what stands in its prose.

    Python's way to write one counts too.
    """
    candidates = [text, *(block.text for block in blocks_of(text))]
    for load in (json.loads, loads_tolerantly):
        for candidate in candidates:
            with suppress(ValueError, RecursionError):
                return load(candidate)
    return _json_in_prose(text)


def _json_in_prose(text: str) -> Any:
    """The longest object or array of the text; none is taken out of one that is broken."""
    found: list[tuple[int, Any]] = []
    position = 0
    while (match := _JSON_START.search(text, position)) is not None:
        value, position, problem = _decoded(text, match.start())
        if problem is None:
            found.append((position - match.start(), value))
        elif _JSON_INSIDE.search(text, match.end(), position):
            raise AnswerFormError("JSON", problem, text=text)
    if not found:
        raise AnswerFormError("JSON", "it has no object or array", text=text)
    return max(found, key=lambda sized: sized[0])[1]


def _decoded(text: str, start: int) -> tuple[Any, int, str | None]:
    """The value that begins here, where it ends or breaks off, and why it does."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        return None, max(error.pos, start + 1), f"broken JSON at {where}: {error.msg}"
    except RecursionError:
        return None, len(text), "it is nested too deeply"
    return value, end, None


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
