"""Tables for reading and for working on: pandas DataFrames with the units in their columns."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nbllm.core.resources import GpuInfo, Resources
from nbllm.core.types import ModelInfo
from nbllm.notebook.bundles import note_html

__all__ = ["Table", "devices_table", "models_table", "unloaded_table"]

_MIB = 2**20
_ABSENT = "\N{EN DASH}"
_NOTES = "notes"


class Table(pd.DataFrame):
    """A DataFrame whose notebook view groups digits and leaves what is not known out.

    ``attrs["notes"]`` holds sentences that are shown below it. What is computed from it is an
    ordinary DataFrame.
    """

    def _repr_html_(self) -> str:
        # Front ends align all cells to the right, which suits numbers alone.
        styles = [
            "" if pd.api.types.is_numeric_dtype(kind) else ' style="text-align: left"'
            for kind in self.dtypes
        ]
        rows = [self._views(row) for row in self.itertuples(index=False, name=None)]
        head = _html_row("th", styles, map(str, self.columns))
        body = "".join(_html_row("td", styles, row) for row in rows)
        notes = "".join(map(note_html, self.attrs.get(_NOTES, ())))
        table = f"<thead>{head}</thead><tbody>{body}</tbody>"
        return f'<table class="dataframe">{table}</table>{notes}'

    def __repr__(self) -> str:
        rows = [self._views(row) for row in self.itertuples(index=False, name=None)]
        view = pd.DataFrame(rows, columns=self.columns)
        width = pd.get_option("display.width")
        table = view.to_string(index=False, line_width=width)
        return "\n".join([table, *self.attrs.get(_NOTES, ())])

    def _views(self, row: tuple[Any, ...]) -> list[str]:
        return [_view(column, value) for column, value in zip(self.columns, row, strict=True)]


def models_table(loaded: Iterable[ModelInfo], available: Iterable[ModelInfo]) -> Table:
    """The loaded models first, under the names they were loaded by, then what can be loaded."""
    running = list(loaded)
    names = {info.name for info in running}
    rows = [
        *(_model_row(info, loaded_on=info.device or "cloud") for info in running),
        *(_model_row(info, loaded_on=None) for info in available if info.name not in names),
    ]
    return _table(rows, _MODEL_COLUMNS)


def unloaded_table(infos: Iterable[ModelInfo]) -> Table:
    """Models that have just been unloaded, and the memory that they gave back."""
    rows = [
        {"name": info.name, "was on": info.device, "freed (MiB)": _mib(info.memory_bytes)}
        for info in infos
    ]
    return _table(rows, {"name": "str", "was on": "str", "freed (MiB)": "Float64"})


def devices_table(resources: Resources) -> Table:
    """The processors with the main memory, then the GPUs; below it, what is absent and why."""
    cpu, memory = resources.cpu, resources.memory
    limits = [limit for limit in (cpu.limit, memory.limit) if limit]
    row = {
        "device": "CPU",
        "name": cpu.model or cpu.architecture,
        "usable cores": cpu.usable_cores,
        "memory (MiB)": _mib(memory.total_bytes),
        "free (MiB)": _mib(memory.available_bytes),
        "details": "; ".join([f"{cpu.logical_cores} logical cores", *limits]),
    }
    table = _table([row, *map(_gpu_row, resources.gpus)], _DEVICE_COLUMNS)
    table.attrs[_NOTES] = resources.absences
    return table


_MODEL_COLUMNS = {
    "name": "string",
    "type": "string",
    "loaded on": "string",
    "quantization": "string",
    "parameters (billions)": "Float64",
    "context (tokens)": "Int64",
    "size (MiB)": "Float64",
    "memory (MiB)": "Float64",
    "source": "string",
}
_DEVICE_COLUMNS = {
    "device": "string",
    "name": "string",
    "usable cores": "Float64",
    "memory (MiB)": "Float64",
    "free (MiB)": "Float64",
    "details": "string",
}


def _model_row(info: ModelInfo, *, loaded_on: str | None) -> dict[str, Any]:
    return {
        "name": info.name,
        "type": info.model_type,
        "loaded on": loaded_on,
        "quantization": info.quantization,
        "parameters (billions)": info.parameters,
        "context (tokens)": info.context_length,
        "size (MiB)": _mib(info.size_bytes),
        "memory (MiB)": _mib(info.memory_bytes),
        "source": info.source,
    }


def _gpu_row(gpu: GpuInfo) -> dict[str, Any]:
    capability, driver = gpu.compute_capability, gpu.driver_version
    return {
        "device": f"GPU {gpu.index}",
        "name": gpu.name,
        "usable cores": None,
        "memory (MiB)": _mib(gpu.vram_total_bytes),
        "free (MiB)": _mib(gpu.vram_free_bytes),
        "details": "; ".join(
            [
                *(["shares the main memory"] if gpu.unified_memory else []),
                *([f"compute capability {capability[0]}.{capability[1]}"] if capability else []),
                *([f"driver {driver}"] if driver else []),
            ]
        ),
    }


def _table(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> Table:
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    return Table(frame.astype(dict(columns)))


def _mib(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / _MIB


def _view(column: str, value: Any) -> str:
    if pd.isna(value):
        return _ABSENT
    if isinstance(value, str):
        return value
    is_whole = "MiB" in column or value == int(value)
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


def _html_row(tag: str, styles: Iterable[str], texts: Iterable[str]) -> str:
    cells = zip(styles, texts, strict=True)
    return f"<tr>{''.join(f'<{tag}{s}>{html.escape(text)}</{tag}>' for s, text in cells)}</tr>"
