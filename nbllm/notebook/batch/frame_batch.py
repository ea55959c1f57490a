"""The prompts of a frame's rows, and the columns that come of the answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbllm.batches.batch_rows import BatchRow
from nbllm.batches.template import Template
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.option_names import option_use
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
        columns, properties = _answer_columns(schema, into)
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
            return BatchRow(index=0, error=f"InvalidOptionError: {error}")

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
            joined[name] = _column([row.get(name) for row in values], kind)
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


def _free(name: str, taken: Collection[str], into: str = "") -> str:
    """``name`` as a column that is not there yet."""
    if name in taken and into:
        name = f"{into}_{name}"
    plain, number = name, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def _column(values: list[Any], kind: str) -> Any:
    """A column of a dtype; of plain objects where a value does not fit it."""
    import pandas as pd

    if kind != "object":
        try:
            return pd.array(values, dtype=kind)  # type: ignore[call-overload]
        except (TypeError, ValueError, OverflowError):  # such as an integer of more than 64 bits
            pass
    column = pd.Series([None] * len(values), dtype="object")
    column[:] = values
    return column.to_numpy()


def _fitting(value: Any, kind: str) -> Any:
    """The value as its column holds it; an enum's member is its value."""
    value = getattr(value, "value", value)
    if kind == "Int64" and isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value
