"""The columns that come of answers: their names, and their dtypes, which missing values share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.schemas.answer_schemas import AnswerSchema
from nbllm.core.schemas.schema_alternatives import Alternative, alternatives
from nbllm.core.schemas.schema_documents import Document

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PROBABILITY", "answer_columns", "column", "fitting"]

PROBABILITY = "_probability"
"""What the name of a column of probabilities ends with."""

_OBJECT = "object"
_DTYPES = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
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
        found |= way.types() if values is None else _kinds_of(values)
    return found


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
    """The value as a column of the dtype holds it; an enum's member is its value."""
    value = value.value if isinstance(value, Enum) else value
    if dtype == "Int64" and isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value
