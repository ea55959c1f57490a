"""The prompts of a frame's rows, and the columns that come of the answers."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from nbllm.batches.batch_rows import BatchRow
from nbllm.batches.template import Template
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.option_names import option_use
from nbllm.core.schemas.answer_schemas import AnswerSchema
from nbllm.core.schemas.python_types import plain_value
from nbllm.core.schemas.schema_alternatives import Alternative, alternatives
from nbllm.core.schemas.schema_documents import Document
from nbllm.core.texts import capped

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrameBatch"]

_DETAILS = {
    "finish_reason": "string",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "cost_usd": "Float64",
}

PROBABILITY = "_probability"
"""What the name of a column of probabilities ends with."""

_OBJECT = "object"
_DTYPES = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
_MOMENTS = {"date": "datetime64[us]", "date-time": "datetime64[us, UTC]"}
"""Microseconds, in which the year 9999 of many tables exists as well."""
_DTYPES |= _MOMENTS
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2})?)?")
_KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """A template over a frame's rows, and the columns that come of it, with their dtypes.

    ``rows`` have what the template names. ``properties`` are the columns of an answer's
    properties, ``error`` and ``details`` those that say how a row went.
    """

    template: Template
    rows: list[dict[str, Any]]
    columns: Mapping[str, str]
    properties: Mapping[str, str]
    error: str
    details: Mapping[str, str]

    @classmethod
    def of(
        cls,
        df: pd.DataFrame,
        template: str,
        *,
        schema: AnswerSchema | None,
        into: str | None,
        details: bool,
    ) -> FrameBatch:
        """Raises ``InvalidOptionError`` for a template or columns that cannot be."""
        if df.columns.nlevels > 1:
            raise InvalidOptionError(
                "df",
                f"has columns of {df.columns.nlevels} levels; give them one first, as in "
                'df.columns = ["_".join(map(str, name)) for name in df.columns]',
            )
        names = [str(name) for name in df.columns]
        filled = Template.of(template, names)
        columns, properties = answer_columns(schema, into)
        if taken := [name for name in columns if name in names]:
            other = f"give the new one another name with {option_use('into')}"
            raise InvalidOptionError("df", f"has a column {taken[0]!r} already; {other}")
        used = {*names, *columns}
        error, *more = (
            _free(name, used, into or next(iter(columns))) for name in ("error", *_DETAILS)
        )
        told = dict(zip(more, _DETAILS, strict=True)) if details else {}
        return cls(filled, [], columns, properties, error, told).over(df)

    def over(self, df: pd.DataFrame) -> FrameBatch:
        """The same over the rows of ``df``, which has the columns that the template names."""
        used = {
            name: df.iloc[:, place].tolist()
            for place, name in enumerate(map(str, df.columns))
            if name in self.template.columns
        }
        rows = [dict(zip(used, row, strict=True)) for row in zip(*used.values(), strict=True)]
        return replace(self, rows=rows)

    def shown(self, columns: pd.Index[Any]) -> list[bool]:
        """Which columns of the frame the template names."""
        return [str(name) in self.template.columns for name in columns]

    def longer(self, sample: Sequence[BatchRow]) -> float:
        """How many times as long as the sample's the prompts of the other rows are on average."""
        lengths = [len(prompt) for prompt in self.prompts(self.rows) if isinstance(prompt, str)]
        mine = lengths[: len(sample)]
        others = lengths[len(sample) :]
        if not mine or not others or not sum(mine):
            return 1.0
        return (sum(others) / len(others)) / (sum(mine) / len(mine))

    def prompts(self, rows: list[dict[str, Any]]) -> list[Any]:
        """A prompt for each row; a row that gives none is a failed one already."""
        return [self._prompt(row) for row in rows]

    def _prompt(self, row: dict[str, Any]) -> Any:
        try:
            return self.template.fill(row)
        except InvalidOptionError as error:
            return BatchRow(index=0, error=f"{type(error).__name__}: {error.problem}")

    def joined(self, df: pd.DataFrame, found: list[BatchRow]) -> pd.DataFrame:
        """The frame with the answers beside its columns; rows that were not asked are missing."""
        values: list[dict[str, Any]] = [self._values(row) for row in found]
        values += [{} for _ in range(len(df) - len(found))]
        kinds = {**self.columns, self.error: "string"}
        kinds |= {name: _DETAILS[detail] for name, detail in self.details.items()}
        if not any(row.get(self.error) for row in values):
            del kinds[self.error]
        joined = df.copy()
        if joined.columns.dtype not in ("object", "str"):  # categories and dates take no new names
            joined.columns = joined.columns.astype("object")
        for name, kind in kinds.items():
            joined[name] = column([row.get(name) for row in values], kind, joined.index)
        return joined

    def _values(self, row: BatchRow) -> dict[str, Any]:
        values: dict[str, Any] = {self.error: row.error or None}
        if row.result is None:
            return values
        if self.details:
            usage = row.result.usage
            known = {
                "finish_reason": str(row.result.finish_reason),
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cost_usd": usage.cost_usd,
            }
            values |= {name: known[detail] for name, detail in self.details.items()}
        if not self.properties:
            return {**values, next(iter(self.columns)): row.text}
        try:
            answer = plain_value(row.result.value)
        except AnswerFormError as error:
            return {**values, self.error: f"AnswerFormError: {error}"}
        if not isinstance(answer, Mapping):
            return {**values, self.error: "AnswerFormError: the answer is not a JSON object"}
        for name, answered in self.properties.items():
            try:
                values[answered] = fitting(answer.get(name), self.columns[answered])
            except ValueError as error:  # noqa: PERF203 - each property fails alone
                values[self.error] = f"AnswerFormError: {name}: {error}"
        for name, each in row.result.probabilities.items():
            values[f"{self.properties[name]}{PROBABILITY}"] = max(each.values())
        return values


def _free(name: str, taken: Collection[str], into: str = "") -> str:
    """``name`` as a column that is not there yet."""
    if name in taken and into:
        name = f"{into}_{name}"
    plain, number = name, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


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
