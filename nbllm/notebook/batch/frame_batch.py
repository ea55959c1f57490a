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
from nbllm.notebook.batch.answer_columns import PROBABILITY, answer_columns, column, fitting

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrameBatch"]

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
