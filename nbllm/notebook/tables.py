"""Tables for reading and for working on: pandas DataFrames with the units in their columns."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nbllm.core.kinds import kind_of, place_of
from nbllm.core.loading.model_loads import ModelStatus
from nbllm.core.rendering.cards import Column, table_html
from nbllm.core.types import ModelInfo
from nbllm.notebook.views.bundles import note_html

__all__ = ["Table", "make_table", "mib", "models_table", "unloaded_table"]

_MIB = 2**20
_ABSENT = "\N{EN DASH}"
_NOTES = "notes"
_LAST_ROWS = "last_rows"
_MORE = "more"
_FIRST_TO_GO = "first_to_go"
_WHERE_ANY = "where_any"


class Table(pd.DataFrame):
    """A DataFrame whose notebook view groups digits and leaves what is not known out.

    ``attrs["notes"]`` holds sentences that are shown below it, ``attrs["last_rows"]`` how many of
    its rows are shown. The columns in ``attrs["more"]`` are named below the view alone, those in
    ``attrs["where_any"]`` are in it where they have more to tell than 0 or no, and those in
    ``attrs["first_to_go"]`` are hidden in this order where the page is too narrow for all. What is
    computed from it is an ordinary DataFrame.
    """

    def _repr_html_(self) -> str:
        notes = "".join(map(note_html, self._sentences()))
        if self._is_told_in_words:
            return notes
        view, going = self._view(), self.attrs.get(_FIRST_TO_GO, ())
        columns = [
            Column(
                str(column),
                view[column].tolist(),
                is_number=_is_number(self.dtypes[column]),
                goes=going.index(column) if column in going else None,
            )
            for column in view.columns
        ]
        return f"{table_html(columns)}{notes}"

    def __repr__(self) -> str:
        if self._is_told_in_words:
            return "\n".join(self._sentences())
        return "\n".join([_plain(self._view(), self.dtypes), *self._sentences()])

    @property
    def _is_told_in_words(self) -> bool:
        """Whether there is no row, and a note that says so."""
        return self.empty and bool(self.attrs.get(_NOTES))

    def _view(self) -> pd.DataFrame:
        """The texts to show; columns in which nothing is known are left out."""
        columns = [column for column in self._known() if column not in self.attrs.get(_MORE, ())]
        shown = self.tail(self.attrs.get(_LAST_ROWS, len(self)))
        texts = {column: [_view(column, value) for value in shown[column]] for column in columns}
        return pd.DataFrame(texts, columns=columns)

    def _known(self) -> list[str]:
        """The columns that tell something, and all where there are no rows."""
        known = [column for column in self.columns if self.empty or self[column].notna().any()]
        dull = [] if self.empty else self.attrs.get(_WHERE_ANY, ())
        # Of texts pandas' own any() fails where one is missing.
        return [name for name in known if name not in dull or any(self[name].dropna())]

    def _sentences(self) -> list[str]:
        known = self._known()
        more = ", ".join(column for column in self.attrs.get(_MORE, ()) if column in known)
        told = [f"The DataFrame also has: {more}."] if more and not self.empty else []
        return [*self.attrs.get(_NOTES, ()), *told]


def models_table(
    statuses: Iterable[ModelStatus],
    available: Iterable[ModelInfo],
    passed_over: Iterable[str] = (),
    *,
    fits: Mapping[str, bool] | None = None,
) -> Table:
    """The loaded models and those on their way, as they are called there, then what can be loaded.

    Below it, why each is where it is, and the sentences on what was ``passed_over``. ``fits`` says
    by names which can be loaded now.
    """
    running = list(statuses)
    names = {status.info.name for status in running}
    rows = [
        *({**_model_row(status.info), **_status_row(status)} for status in running),
        *(_model_row(info) for info in available if info.name not in names),
    ]
    reasons = [(s.info.name, s.info.placement.reason) for s in running if s.info.placement]
    notes = [*(f"{name}: {reason}" for name, reason in reasons if reason), *passed_over]
    more = ("type", "parameters (billions)") if running else ()
    if fits is not None:
        rows = [{**row, "fits now": fits.get(row["name"])} for row in rows]
    return make_table(
        rows,
        _MODEL_COLUMNS,
        notes,
        more=more,
        where_any=("requests", "pinned", "fits now", "companions"),
        first_to_go=_MODELS_FIRST_TO_GO,
    )


def unloaded_table(infos: Iterable[ModelInfo]) -> Table:
    """Models that have just been unloaded, and the memory that they gave back."""
    rows = [
        {"name": info.name, "device": info.device, "memory freed (MiB)": mib(info.memory_bytes)}
        for info in infos
    ]
    columns = {"name": "str", "device": "str", "memory freed (MiB)": "Float64"}
    return make_table(rows, columns, [] if rows else ["No model was loaded."])


_MODEL_COLUMNS = {
    "name": "string",
    "state": "string",
    "type": "string",
    "loaded on": "string",
    "quantization": "string",
    "parameters (billions)": "Float64",
    "context (tokens)": "Int64",
    "file size (MiB)": "Float64",
    "memory (MiB)": "Float64",
    "requests": "Int64",
    "last used (s ago)": "Float64",
    "keep-alive (s)": "Float64",
    "pinned": "boolean",
    "fits now": "boolean",
    "companions": "string",
    "source": "string",
}

_MODELS_FIRST_TO_GO = (
    "parameters (billions)",
    "keep-alive (s)",
    "last used (s ago)",
    "companions",
    "type",
    "context (tokens)",
    "source",
    "quantization",
    "file size (MiB)",
    "loaded on",
)


def _model_row(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "type": info.model_type,
        "quantization": info.quantization,
        "parameters (billions)": info.parameters,
        "context (tokens)": info.context_length,
        "file size (MiB)": mib(info.size_bytes),
        "companions": ", ".join(path.name for path in info.companions) or None,
        "source": info.source,
    }


def _status_row(status: ModelStatus) -> dict[str, Any]:
    info, is_loaded = status.info, status.state == "loaded"
    placement = info.placement
    local = info.device or (placement.device if placement else None)
    return {
        "state": status.state,
        "loaded on": local if kind_of(info).takes_memory else place_of(info),
        "memory (MiB)": mib(placement.total_bytes if placement else info.memory_bytes),
        "requests": status.requests if is_loaded else None,
        "last used (s ago)": status.idle_seconds if is_loaded and not status.requests else None,
        "keep-alive (s)": status.keep_alive,
        "pinned": status.pinned,
    }


def make_table(
    rows: list[dict[str, Any]],
    columns: Mapping[str, str],
    notes: Iterable[str] = (),
    *,
    last_rows: int | None = None,
    more: Iterable[str] = (),
    where_any: Iterable[str] = (),
    first_to_go: Iterable[str] = (),
) -> Table:
    """A table with these columns, each of the pandas type named with it, and sentences below.

    Where there are many rows, only the ``last_rows`` are shown. Of the columns ``more`` the view
    has the names alone, and ``where_any`` only where one of their values is not 0 or no: so it
    fits a page. On a narrow one the columns ``first_to_go`` are hidden, the first one first.
    """
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    table = Table(frame.astype(dict(columns)))
    if sentences := tuple(notes):
        table.attrs[_NOTES] = sentences
    if last_rows is not None:
        table.attrs[_LAST_ROWS] = last_rows
    table.attrs.update(
        {_MORE: tuple(more), _WHERE_ANY: tuple(where_any), _FIRST_TO_GO: tuple(first_to_go)}
    )
    return table


def mib(size_bytes: int | None) -> float | None:
    """A size for a column in MiB."""
    return None if size_bytes is None else size_bytes / _MIB


def _view(column: str, value: Any) -> str:
    if pd.isna(value):
        return _ABSENT
    if isinstance(value, str):
        return value
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%d %b %H:%M:%S")
    if "(s" in column:  # nobody notices less than a millisecond
        value = round(value, 3)
    is_whole = "MiB" in column or value == int(value) or abs(value) >= 1000
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


def _plain(view: pd.DataFrame, dtypes: pd.Series[Any]) -> str:
    """``view`` as text, as wide as a terminal is; words stand at the left, numbers at the right."""
    if view.empty:
        return "  ".join(map(str, view.columns))
    padded = {}
    for column in view.columns:
        cells = [str(column), *view[column]]
        width = max(map(len, cells))
        is_number = _is_number(dtypes[column])
        head, *rest = (cell.rjust(width) if is_number else cell.ljust(width) for cell in cells)
        padded[head] = rest
    width = pd.get_option("display.width")
    if sys.stdout.isatty():
        width = max(width, shutil.get_terminal_size().columns)
    lines = pd.DataFrame(padded).to_string(index=False, line_width=width).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
