"""Answers as DataFrames: JSON records, Markdown tables and CSV."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nbllm.core.answer_json import blocks_of, json_of
from nbllm.core.errors import AnswerFormError
from nbllm.core.schemas.schema_documents import Document

__all__ = ["dataframe_from", "dataframe_of"]

_RULE = re.compile(r":?-+:?")
_SPLIT = re.compile(r"(?<!\\)\|")
_SEPARATORS = {"csv": ",", "tsv": "\t"}


def dataframe_of(text: str) -> pd.DataFrame:
    """The table of an answer. Raises ``AnswerFormError``."""
    rows = _markdown_rows(text)
    if rows is not None:
        return _typed(rows)
    for block in blocks_of(text):
        if block.language in _SEPARATORS:
            return _from_csv(block.text, _SEPARATORS[block.language], text)
    try:
        return dataframe_from(json_of(text))
    except ValueError:
        pass
    bodies = [block.text for block in blocks_of(text)] or [text]
    for body in bodies:
        if _looks_like_csv(body):
            return _from_csv(body, ",", text)
    raise AnswerFormError(
        "table", "it has neither JSON records, a Markdown table nor CSV", text=text
    )


def dataframe_from(value: Any, schema: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """A DataFrame of JSON: records, columns, rows, or an object that holds one of these.

    One without a row has the columns of its ``schema``. Raises ``ValueError`` for anything else.
    """
    frame = _frame_of(value)
    if schema is None or len(frame):
        return frame
    return frame.reindex(columns=_columns(schema))


def _columns(schema: Mapping[str, Any]) -> list[str]:
    """The fields of a schema's records, which stand in an array, or in an object around one."""
    document = Document(schema)
    todo, seen = [document.root], set[int]()
    while todo:
        part = todo.pop(0)
        if not isinstance(part, dict) or id(part) in seen:
            continue
        seen.add(id(part))
        fields = part.get("properties") or {}
        if len(fields) > 1 or (fields and "items" not in next(iter(fields.values()))):
            return list(fields)
        more = [*part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())]
        todo += [*document.targets(part), part.get("items", {}), *fields.values(), *more]
    return []


def _frame_of(value: Any) -> pd.DataFrame:
    if isinstance(value, Mapping) and len(value) == 1:
        (inner,) = value.values()
        if isinstance(inner, list):
            value = inner
    if isinstance(value, Mapping):
        columns = [isinstance(each, list | Mapping) for each in value.values()]
        return pd.DataFrame(value) if columns and all(columns) else pd.DataFrame([value])
    if isinstance(value, list):
        return pd.DataFrame(value)
    raise ValueError(f"{value!r} is not a table")


def _markdown_rows(text: str) -> list[list[str]] | None:
    """The cells of the first Markdown table, its head first."""
    lines = text.splitlines()
    for number in range(1, len(lines)):
        head, rule = lines[number - 1], lines[number]
        if "|" in head and all(map(_RULE.fullmatch, _cells(rule))):
            columns = _cells(head)
            if len(_cells(rule)) == len(columns):
                return [columns, *_body(lines[number + 1 :], len(columns))]
    return None


def _body(lines: list[str], width: int) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in lines:
        if "|" not in line:
            break
        cells = _cells(line)[:width]
        rows.append(cells + [""] * (width - len(cells)))
    return rows


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _SPLIT.split(inner)]


def _typed(rows: list[list[str]]) -> pd.DataFrame:
    """Texts as numbers where a whole column is numbers; an empty cell is a missing value."""
    head, *body = rows
    frame = pd.DataFrame(body, columns=pd.Index(head), dtype=object)
    return frame.apply(_typed_column)


def _typed_column(column: pd.Series[Any]) -> pd.Series[Any]:
    present = column.where(column != "", None)
    try:
        return pd.to_numeric(present)
    except (ValueError, TypeError):
        return present


def _looks_like_csv(text: str) -> bool:
    lines = text.strip().splitlines()
    counts = {line.count(",") for line in lines}
    return len(lines) > 1 and len(counts) == 1 and counts != {0}


def _from_csv(body: str, separator: str, text: str) -> pd.DataFrame:
    try:
        return pd.read_csv(io.StringIO(body.strip()), sep=separator, skipinitialspace=True)
    except ValueError as error:  # pandas' ParserError and EmptyDataError are among them
        raise AnswerFormError("table", f"its CSV cannot be read: {error}", text=text) from None
