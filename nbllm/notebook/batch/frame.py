"""``nbllm.map_frame``: a prompt for each row of a DataFrame, the answers as columns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.batches.run import BatchProgress, BatchRow
from nbllm.batches.template import Template
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.schemas.answers import AnswerSchema, schema_or_decision
from nbllm.core.schemas.kinds import plain_value
from nbllm.core.types import GenerationOptions
from nbllm.core.words import duration_words
from nbllm.notebook.sync import run

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.batches.batch import Batch
    from nbllm.core.model_manager import ModelManager
    from nbllm.notebook.loaded_model import LoadedModel

__all__ = ["FrameBatch", "map_frame"]

_SAMPLE_ROWS = 5
_DTYPES = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
_DTYPES_OF_TYPES = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
_PROBABILITY = "_probability"
_DETAILS = {
    "finish_reason": "string",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "cost_usd": "Float64",
}

BatchTick = Callable[[BatchProgress, BatchRow | None], None]


def map_frame(
    df: pd.DataFrame,
    template: str,
    *,
    model: str | ModelInterface | LoadedModel | None = None,
    schema: Any = None,
    decide: Mapping[str, Any] | None = None,
    into: str | None = None,
    system: str | None = None,
    details: bool = False,
    dry_run: bool = False,
    concurrency: int | None = None,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = True,
    max_failures: float = 0.5,
    max_cost: float | None = None,
    batch_api: bool = False,
    cancel_batch: bool = False,
    manager: ModelManager | None = None,
    progress: BatchTick | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Ask a model about every row of ``df``, and return it with the answers as new columns.

    ``template`` is the prompt, with ``{column}`` where a row's value belongs; nothing in it is
    evaluated. Without a ``schema`` the answers are a column of texts called ``into`` ("answer");
    with one, a column for each property of the JSON schema, type or dataclass, with the dtype that
    it says, named ``into`` and the property where ``into`` is given. Index, order and columns of
    ``df`` stay. ``decide={"team": ["red", "blue"], "urgent": bool}`` has a column for each
    question with the most probable label, and one with its probability, which is missing where
    the model tells none; see ``ModelInterface.decide``. A row that fails has missing values, and
    its reason in a column ``error``;
    ``details`` adds finish reasons, tokens and costs.

    ``dry_run`` asks the first 5 rows only and tells what all of them would take. ``model`` is a
    name, or a loaded model; without it the last one used, or the bundled one. The other parameters
    are those of ``ModelInterface.map``; ``options`` are generation options such as ``max_tokens``.

    ``batch_api`` sends the rows to the batch API of OpenAI, Anthropic or Gemini, which answers
    within a day for half the price. An interrupt, or a restart of the kernel, leaves the vendor
    working: the same call takes its batch up again, and with ``cancel_batch`` cancels it and
    returns what was done by then.

    An interrupt ends the run and keeps what is finished where a ``journal`` is given. Works where
    nothing can be awaited. Raises ``InvalidOptionError``, ``BatchError``, and what loading raises.
    """
    wanted = schema_or_decision(schema, decide)
    batch = FrameBatch.of(df, template, schema=wanted, into=into, details=details)
    loaded = _loaded(model, manager)
    rows = batch.rows[:_SAMPLE_ROWS] if dry_run else batch.rows
    frame = df.iloc[:_SAMPLE_ROWS] if dry_run else df
    began = time.monotonic()
    asked = loaded.map(
        batch.prompts(rows),
        system=system,
        schema=wanted,
        options=GenerationOptions.of(options),
        concurrency=concurrency,
        journal=None if dry_run and batch_api else journal,
        retry_failed=retry_failed,
        max_failures=max_failures,
        max_cost=max_cost,
        batch_api=(batch_api or cancel_batch) and not dry_run,
    )
    with _bar(len(rows), progress) as tick, _told_of_the_vendor(asked):
        found = run(_cancelled(asked, tick) if cancel_batch else _asked(asked, tick))
    result = batch.joined(frame, found)
    if dry_run:
        seconds = None if batch_api else time.monotonic() - began
        print(_estimate(asked.progress, len(df), seconds))  # noqa: T201 - it is asked for
    return result


async def _asked(batch: Batch, tick: BatchTick) -> list[BatchRow]:
    batch.on_state = lambda: tick(batch.progress, None)
    rows = []
    async for row in batch:
        rows.append(row)
        tick(batch.progress, row)
    return rows


async def _cancelled(batch: Batch, tick: BatchTick) -> list[BatchRow]:
    batch.on_state = lambda: tick(batch.progress, None)
    return await batch.cancel()


@contextmanager
def _told_of_the_vendor(batch: Batch) -> Iterator[None]:
    """An interrupt says what goes on at the vendor in spite of it."""
    try:
        yield
    except KeyboardInterrupt:
        state = batch.progress.vendor_state
        words = (
            f"{state}. It goes on there, and is paid. Run the same cell again to take it up, or "
            "with --cancel-batch (cancel_batch=True) to cancel it."
        )
        raise KeyboardInterrupt(*([words] if state else [])) from None


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


def _loaded(
    model: str | ModelInterface | LoadedModel | None, manager: ModelManager | None
) -> ModelInterface:
    from nbllm.core.errors import ModelNotFoundError
    from nbllm.core.model_manager import default_manager

    if isinstance(model, ModelInterface):
        return model
    if model is not None and not isinstance(model, str | Path):
        return model.model
    used = manager or default_manager()
    if model is None:
        try:
            return used.get_model()
        except ModelNotFoundError:
            model = used.bundled_model().name
    loaded, _ = run(used.load_model(model))
    return loaded


class _bar:  # noqa: N801 - used as a function
    """A progress bar of tqdm's, or the caller's own."""

    def __init__(self, total: int, tick: BatchTick | None) -> None:
        self._total, self._tick = total, tick
        self._bar: Any = None

    def __enter__(self) -> BatchTick:
        if self._tick is not None:
            return self._tick
        from tqdm.auto import tqdm

        self._bar = bar = tqdm(total=self._total, unit="row")
        began = time.monotonic()

        def tick(progress: BatchProgress, row: BatchRow | None) -> None:
            if row is None:
                bar.set_postfix_str(progress.vendor_state)
                return
            bar.update(1)
            bar.set_postfix_str(_figures(progress, time.monotonic() - began), refresh=False)

        return tick

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _figures(progress: BatchProgress, seconds: float) -> str:
    parts = [f"{progress.completion_tokens / max(seconds, 1e-3):,.0f} tokens/s"]
    if progress.cost_usd:
        parts.append(f"{progress.cost_usd:.4f} USD")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.resumed:
        parts.append(f"{progress.resumed:,} from the journal")
    return ", ".join(parts)


def _estimate(progress: BatchProgress, rows: int, seconds: float | None) -> str:
    """What all rows would take, by those that were asked; by a batch API without ``seconds``."""
    asked = max(1, progress.asked)
    factor = rows / asked
    words = [
        f"Dry run: {progress.done:,} of {rows:,} rows asked, {progress.failed:,} failed.",
        f"All of them would take about {progress.prompt_tokens * factor:,.0f} tokens of prompt "
        f"and {progress.completion_tokens * factor:,.0f} of answer, "
        f"{'up to a day' if seconds is None else duration_words(seconds * factor)}",
    ]
    if progress.cost_usd:
        cost = progress.cost_usd * factor * (0.5 if seconds is None else 1)
        words[-1] += f" and {cost:.2f} US dollars"
    return " ".join(words) + "."
