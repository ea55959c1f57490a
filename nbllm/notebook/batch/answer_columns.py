"""The columns that come of answers: their names, and their dtypes, which missing values share."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.schemas.answer_schemas import AnswerSchema
from nbllm.core.schemas.schema_alternatives import Alternative, alternatives
from nbllm.core.schemas.schema_documents import Document
from nbllm.core.texts import capped

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PROBABILITY", "answer_columns", "column", "fitting"]

PROBABILITY = "_probability"
"""What the name of a column of probabilities ends with."""

_OBJECT = "object"
_DTYPES = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
_MOMENTS = {"date": "datetime64[us]", "date-time": "datetime64[us, UTC]"}
"""Microseconds, in which the year 9999 of many tables exists as well."""
_DTYPES |= _MOMENTS
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2})?)?")
_KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def answer_columns(
    schema: AnswerSchema | None, into: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The columns with their dtypes, and the columns of the properties.

    Raises ``InvalidOptionError`` for a schema that gives none, and for two of one name.
    """
    if schema is None:
        return {into or "answer": "string"}, {}
    properties = schema.json_schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        raise InvalidOptionError(
            "schema", "must describe an object with properties, which become the columns"
        )
    names = {str(name): f"{into}_{name}" if into else str(name) for name in properties}
    if schema.questions:
        return _of_questions(schema, names), names
    document = Document(schema.json_schema)
    root: Any = document.root
    return {
        names[str(name)]: _dtype(_kinds(alternatives(document, [each])))
        for name, each in root["properties"].items()
    }, names


def _of_questions(schema: AnswerSchema, names: Mapping[str, str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for question in schema.questions:
        name = names[question.name]
        for each, dtype in (
            (name, _dtype(_kinds_of(question.values))),
            (name + PROBABILITY, "Float64"),
        ):
            if each in columns:
                raise InvalidOptionError(
                    "decide", f"two columns would be called {each!r}; rename a question"
                )
            columns[each] = dtype
    return columns


def _kinds(ways: Iterable[Alternative]) -> set[str]:
    """The kinds of JSON that a property's values may be."""
    found: set[str] = set()
    for way in ways:
        values = way.values()
        found |= _types(way) if values is None else _kinds_of(values)
    return found


def _types(way: Alternative) -> set[str]:
    """The types of a value, with the format of a text that is a date in place of "string"."""
    types = way.types()
    moment = next((each for each in way.having("format") if each in _MOMENTS), None)
    return (types - {"string"}) | {moment} if moment and "string" in types else types


def _kinds_of(values: Iterable[Any]) -> set[str]:
    plain = (value.value if isinstance(value, Enum) else value for value in values)
    return {_KINDS.get(type(value), _OBJECT) for value in plain}


def _dtype(kinds: set[str]) -> str:
    """That of values of these kinds, missing ones among them."""
    kinds = kinds - {"null"}
    if kinds == {"integer", "number"}:
        return "Float64"
    return _DTYPES.get(kinds.pop(), _OBJECT) if len(kinds) == 1 else _OBJECT


def column(values: list[Any], dtype: str, index: pd.Index[Any]) -> pd.Series[Any]:
    """A column of a dtype; of plain objects where a value does not fit it."""
    import pandas as pd

    if dtype != _OBJECT:
        try:
            return pd.Series(pd.array(values, dtype=dtype), index=index)  # type: ignore[call-overload]
        except (TypeError, ValueError, OverflowError):  # such as an integer of more than 64 bits
            pass
    return pd.Series(values, index=index, dtype=_OBJECT)


def fitting(value: Any, dtype: str) -> Any:
    """The value as a column of the dtype holds it; an enum's member is its value.

    Raises ``ValueError`` for a text that should be a date and is none.
    """
    value = value.value if isinstance(value, Enum) else value
    if dtype in _MOMENTS.values() and value is not None:
        return _moment(value, is_day=dtype == _MOMENTS["date"])
    if dtype == "Int64" and isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value


def _moment(value: Any, *, is_day: bool) -> pd.Timestamp:
    """A day, or a moment in UTC, which is meant where no offset is given; by ISO 8601."""
    import pandas as pd

    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    what = "date" if is_day else "date with a time"
    try:
        if not _ISO.fullmatch(text):
            raise ValueError(text)
        found = pd.Timestamp(text[:10] if is_day else text).as_unit("us")
        if is_day:
            return found
        return found.tz_localize("UTC") if found.tzinfo is None else found.tz_convert("UTC")
    except (ValueError, OverflowError):
        raise ValueError(f"{capped(text, 80)!r} is not a {what}") from None
