"""The prompts of a frame's rows, and the columns that come of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.batches.batch_rows import BatchRow
from nbllm.batches.template import Template
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.schemas.answer_schemas import AnswerSchema
from nbllm.core.schemas.python_types import plain_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrameBatch"]

_DTYPES = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
_DTYPES_OF_TYPES = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
_PROBABILITY = "_probability"
_DETAILS = {
    "finish_reason": "string",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "cost_usd": "Float64",
}


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """A template over a frame's rows, and the columns that come of it."""

    template: Template
    rows: list[dict[str, Any]]
    columns: Mapping[str, str]
    properties: Mapping[str, str]
    error: str
    details: bool

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
        names = [str(name) for name in df.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidOptionError(
                "df", f"has several columns called {twice[0]!r}; rename them first"
            )
        filled = Template.of(template, names)
        columns, properties = _answer_columns(schema, into)
        error = f"{into}_error" if into and "error" in names else "error"
        new = [*columns, error, *(_DETAILS if details else ())]
        taken = [name for name in new if name in names and name != error]
        if taken:
            raise InvalidOptionError(
                "into", f"the column {taken[0]!r} exists already; choose another name with into=…"
            )
        frame = df.set_axis(names, axis=1)
        rows = [{str(name): each for name, each in row.items()} for row in _records(frame)]
        return cls(filled, rows, columns, properties, error, details)

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
            return BatchRow(index=0, error=f"InvalidOptionError: {error}")

    def joined(self, df: pd.DataFrame, found: list[BatchRow]) -> pd.DataFrame:
        """The frame with the answers beside its columns; rows that were not asked are missing."""
        import pandas as pd

        values: list[dict[str, Any]] = [self._values(row) for row in found]
        values += [{} for _ in range(len(df) - len(found))]
        kinds = {**self.columns, self.error: "string", **(_DETAILS if self.details else {})}
        if not any(row.get(self.error) for row in values):
            del kinds[self.error]
        new = {
            name: pd.array([row.get(name) for row in values], dtype=kind)  # type: ignore[call-overload]
            if kind != "object"
            else pd.Series([row.get(name) for row in values], dtype="object").to_numpy()
            for name, kind in kinds.items()
        }
        return df.assign(**new)

    def _values(self, row: BatchRow) -> dict[str, Any]:
        values: dict[str, Any] = {self.error: row.error or None}
        if row.result is None:
            return values
        if self.details:
            usage = row.result.usage
            values |= {
                "finish_reason": str(row.result.finish_reason),
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cost_usd": usage.cost_usd,
            }
        if not self.properties:
            return {**values, next(iter(self.columns)): row.text}
        try:
            answer = plain_value(row.result.value)
        except AnswerFormError as error:
            return {**values, self.error: f"AnswerFormError: {error}"}
        if not isinstance(answer, Mapping):
            return {**values, self.error: "AnswerFormError: the answer is not a JSON object"}
        for name, column in self.properties.items():
            values[column] = _fitting(answer.get(name), self.columns[column])
        for name, each in row.result.probabilities.items():
            values[f"{self.properties[name]}{_PROBABILITY}"] = max(each.values())
        return values


def _answer_columns(
    schema: AnswerSchema | None, into: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The columns with their dtypes, and the columns of the properties."""
    if schema is None:
        return {into or "answer": "string"}, {}
    properties = schema.json_schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        raise InvalidOptionError(
            "schema", "must describe an object with properties, which become the columns"
        )
    names = {str(name): f"{into}_{name}" if into else str(name) for name in properties}
    if schema.questions:
        kinds = {}
        for question in schema.questions:
            kinds[names[question.name]] = _dtype_of_values(question.values)
            kinds[f"{names[question.name]}{_PROBABILITY}"] = "Float64"
        return kinds, names
    return {names[str(name)]: _dtype(each) for name, each in properties.items()}, names


def _dtype_of_values(values: Sequence[Any]) -> str:
    kinds = {type(getattr(value, "value", value)) for value in values if value is not None}
    if kinds == {int, float}:
        return "Float64"
    return _DTYPES_OF_TYPES.get(kinds.pop(), "object") if len(kinds) == 1 else "object"


def _dtype(schema: Any) -> str:
    """That of a property's values, missing ones among them."""
    if not isinstance(schema, Mapping):
        return "object"
    if isinstance(schema.get("enum"), list) and all(isinstance(v, str) for v in schema["enum"]):
        return "string"
    kinds = schema.get("type")
    if kinds is None and isinstance(schema.get("anyOf"), list):
        kinds = [each.get("type") for each in schema["anyOf"] if isinstance(each, Mapping)]
    given = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "null"]
    return _DTYPES.get(str(given[0]), "object") if len(given) == 1 else "object"


def _records(df: pd.DataFrame) -> list[dict[Any, Any]]:
    return df.to_dict("records")


def _fitting(value: Any, kind: str) -> Any:
    """The value as its column holds it; an enum's member is its value."""
    value = getattr(value, "value", value)
    if kind == "Int64" and isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value
