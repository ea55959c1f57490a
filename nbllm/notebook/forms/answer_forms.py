"""Forms of answers: what asks for one, what reads the value, and how the value is shown.

Each parser takes the answer's text and returns the value, or raises ``AnswerFormError``, which
says what was expected and holds the text. Models wrap what was asked for in prose and fences;
both are taken away.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbllm.core.answer_json import Block, blocks_of, closed, json_of
from nbllm.core.errors import AnswerFormError
from nbllm.core.rendering.escaping import encodable, preformatted
from nbllm.core.rendering.portable_markdown import fenced
from nbllm.core.schemas.answer_schemas import AnswerSchema
from nbllm.core.schemas.python_types import plain_value
from nbllm.notebook.forms.diffs import diff_bundle
from nbllm.notebook.views.bundles import Bundle

__all__ = ["FORMS", "Form", "code_of", "diff_of", "math_of", "rows_message", "schema_form"]

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


_SHOWN_ROWS, _SHOWN_COLUMNS, _CELL_CHARACTERS = 200, 50, 2_000


@dataclass(frozen=True, slots=True)
class Form:
    """A form of answers: the instruction that asks for it, its parser, and how a value is shown.

    ``is_code`` says that the value goes into a new cell. ``schema`` binds local models, which then
    cannot miss the form, and are asked with ``bound_instruction`` if there is one. ``mend`` makes
    the best of an answer that was cut off. ``is_rows`` says that a value is a DataFrame.
    """

    instruction: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str | Bundle]
    is_code: bool = False
    schema: Mapping[str, Any] | None = None
    bound_instruction: str = ""
    mend: Callable[[str], str] = str
    is_rows: bool = False


# ---------------------------------------------------------------- bounds of tables

# Small models find no end of a table by themselves.
_MOST_ROWS, _MOST_COLUMNS, _MOST_CHARACTERS = 100, 20, 500
_SCALAR = {"type": ["string", "number", "boolean", "null"], "maxLength": _MOST_CHARACTERS}
ROWS: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": _MOST_ROWS,
    "items": {
        "type": "object",
        "additionalProperties": _SCALAR,
        "minProperties": 1,
        "maxProperties": _MOST_COLUMNS,
    },
}


def rows_message(rows: int, *, is_bound: bool) -> list[str]:
    """What the status line says of a table's rows; ``is_bound`` says that ``ROWS`` held."""
    if not rows:
        return ["no rows"]
    is_full = is_bound and rows == _MOST_ROWS
    return [f"stopped at {rows} rows, the limit; use --schema for more"] if is_full else []


# ---------------------------------------------------------------- how values are shown


def _show_json(value: Any) -> str:
    return fenced(json.dumps(value, indent=2, ensure_ascii=False), "json")


def _show_instances(value: Any) -> str:
    return _show_json(plain_value(value))


def _show_code(code: str) -> str:
    return fenced(code, "" if code.startswith("%%") else "python")


def _show_text(text: str) -> Bundle:
    # As plain text alone JupyterLab would make links of it, to addresses of any scheme.
    return Bundle({"text/html": preformatted(text), "text/plain": encodable(text)})


def _show_math(latex: str) -> str:
    return "\n\n".join(f"$$\n{formula}\n$$" for formula in latex.split("\n\n"))


def _show_diff(diff: str) -> Bundle:
    return diff_bundle(diff)


def _show_frame(frame: Any) -> Bundle:
    """The beginning of a DataFrame; pandas' own HTML would have its formulas typeset."""
    from nbllm.notebook.tables import Table

    table = Table(frame.iloc[:_SHOWN_ROWS, :_SHOWN_COLUMNS].map(_shown_cell))
    if table.shape != frame.shape:
        rows, columns = frame.shape
        table.attrs["notes"] = [
            f"The first {len(table):,} of {rows:,} rows and {table.shape[1]:,} of {columns:,} "
            "columns"
        ]
    return Bundle({"text/html": table._repr_html_(), "text/plain": encodable(repr(table))})


def _shown_cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 1]}…"


def _read_table(text: str) -> Any:
    from nbllm.notebook.forms.answer_tables import dataframe_of

    return dataframe_of(text)


def _checked_frame(schema: AnswerSchema, text: str) -> Any:
    schema.parse(text)
    try:
        rows = json_of(text)
    except ValueError:
        raise AnswerFormError("table", "its JSON holds no rows", text=text) from None
    from nbllm.notebook.forms.answer_tables import dataframe_from

    return dataframe_from(rows, schema.json_schema)


# ---------------------------------------------------------------- the forms


def schema_form(schema: AnswerSchema, *, is_rows: bool) -> Form:
    """The form of answers that follow ``schema``; ``is_rows`` has their value be a DataFrame."""
    written = json.dumps(schema.json_schema, ensure_ascii=False, default=str)
    instruction = f"Answer with JSON only, following this JSON schema:\n{written}"
    if is_rows:
        parse = partial(_checked_frame, schema)
        return Form(instruction, parse, _show_frame, mend=closed, is_rows=True)
    show = _show_json if schema.kind is None else _show_instances
    return Form(instruction, schema.parse, show, mend=closed)


_AS_ROWS = "Answer with a JSON array of objects only, one a row, all with the same keys."
_OBJECT_OR_ARRAY = {"anyOf": [{"type": "object"}, {"type": "array"}]}
FORMS: Mapping[str, Form] = {
    "text": Form("Answer in plain text, without Markdown.", str, _show_text),
    "code": Form("Answer with code only, in one fenced block.", code_of, _show_code, is_code=True),
    "json": Form(
        "Answer with JSON only.", json_of, _show_json, schema=_OBJECT_OR_ARRAY, mend=closed
    ),
    "dataframe": Form(
        _AS_ROWS,
        _read_table,
        _show_frame,
        schema=ROWS,
        mend=closed,
        is_rows=True,
    ),
    "table": Form(
        "Answer with a Markdown table only.",
        _read_table,
        _show_frame,
        schema=ROWS,
        bound_instruction=_AS_ROWS,
        mend=closed,
        is_rows=True,
    ),
    "math": Form("Answer with LaTeX only, between $$ and $$.", math_of, _show_math),
    "diff": Form("Answer with a unified diff only, in one fenced block.", diff_of, _show_diff),
}
