"""Tables and arrays as texts of bounded length: their shape, types and beginning."""

from __future__ import annotations

import sys
from typing import Any

from nbllm.notebook.prompts.bounded_texts import Written, cut, written
from nbllm.notebook.prompts.scalars import SCALARS
from nbllm.notebook.prompts.value_kinds import is_a, kind_of

__all__ = ["TABLE_BYTES", "array_text", "index_text", "table_text"]

TABLE_BYTES = 4_000
"""What a table may take in a prompt: about a thousand tokens."""
_HEADS = (10, 5, 3, 1)
_CELL_CHARACTERS = 60
_SHOWN_COLUMNS = 1_000
_ARRAY_NUMBERS = 1_000
_ARRAY_EDGE = 3


def table_text(table: Any) -> Written:
    """A DataFrame's or Series' shape, types and as many first rows as there is room for."""
    kind = "DataFrame" if is_a(table, "pandas", "DataFrame") else "Series"
    frame = _bare(table)
    rows, columns = frame.shape
    shown_columns = frame.iloc[: _HEADS[0], :_SHOWN_COLUMNS]
    types = ", ".join(
        f"{_cell(name)}: {dtype}"
        for name, dtype in zip(
            shown_columns.columns.tolist(), shown_columns.dtypes.tolist(), strict=True
        )
    )
    head = f"{kind}: {_counted(rows, 'row')}, {_counted(columns, 'column')}\nTypes: {types}"
    for count in _HEADS:
        shown = min(count, rows)
        what = "All rows" if shown == rows else f"First {_counted(shown, 'row')}"
        text = "\n".join([head, f"{what}, separated by |:", *_lines(shown_columns.head(shown))])
        if columns <= _SHOWN_COLUMNS and len(text.encode()) <= TABLE_BYTES:
            return Written(
                text, "" if shown == rows else f"{_counted(rows - shown, 'row')} left out"
            )
    text = head.encode()[: TABLE_BYTES - 3].decode(errors="ignore")
    return Written(f"{text}…", "all rows left out")


def _bare(table: Any) -> Any:
    """The table as a DataFrame of pandas' own, without attributes that it would copy."""
    pandas = sys.modules["pandas"]
    if is_a(table, "pandas", "DataFrame"):
        return pandas.DataFrame(table, copy=False)
    return pandas.Series(table, copy=False).to_frame()


def _lines(frame: Any) -> list[str]:
    """The header and rows, as a CSV has them."""
    says_index = not is_a(frame.index, "pandas", "RangeIndex")  # which only counts
    cells = frame.copy(deep=False)
    for number, dtype in enumerate(frame.dtypes.tolist()):
        if getattr(dtype, "kind", "O") == "O":
            cells.isetitem(number, [_cell(each) for each in frame.iloc[:, number].tolist()])
    text = cells.to_csv(sep="|", float_format="%.6g", index=says_index, lineterminator="\n")
    return ["|".join(cut_cell(each) for each in line.split("|")) for line in text.splitlines()]


def _cell(value: Any) -> Any:
    """A cell that is written quickly, whatever it holds."""
    kind = kind_of(value)
    if kind == "text":
        return value[: _CELL_CHARACTERS + 1]
    if is_a(value, "numpy", "dtype") or is_a(value, "pandas.api.extensions", "ExtensionDtype"):
        return str(value)
    return value if kind in SCALARS else written(value).text[: _CELL_CHARACTERS + 1]


def cut_cell(text: str) -> str:
    """A cell of at most ``_CELL_CHARACTERS``, which ends in … where there is more."""
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 1]}…"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'s' * (count != 1)}"


def array_text(array: Any) -> Written:
    """An array as numpy writes it; of a large one the edges, with its shape and type."""
    if array.dtype.hasobject:
        return _beginning(array.flat[:_ARRAY_NUMBERS].tolist(), array.size)
    numpy = sys.modules["numpy"]
    # The notebook's own print options may have no limit, and functions of their own.
    with numpy.printoptions(threshold=_ARRAY_NUMBERS, edgeitems=_ARRAY_EDGE, formatter=None):
        text = cut(numpy.array2string(array), _ARRAY_NUMBERS * 10)
    if array.size <= _ARRAY_NUMBERS:
        return text
    shape = " x ".join(f"{length:,}" for length in array.shape)
    shown = f"array of {shape} ({array.dtype}), its edges alone:\n{text.text}"
    return Written(shown, f"most of {array.size:,} numbers left out")


def index_text(index: Any) -> Written:
    """The labels of an index, as a list."""
    return _beginning(index[:_ARRAY_NUMBERS].tolist(), len(index))


def _beginning(first: list[Any], count: int) -> Written:
    """The ``first`` of ``count`` elements."""
    text, rest = written(first), count - len(first)
    if not rest:
        return text
    left_out = f"{rest:,} more elements left out"
    return Written(f"{text.text}… [{left_out}]", f"{text.left_out}, {left_out}".strip(", "))
