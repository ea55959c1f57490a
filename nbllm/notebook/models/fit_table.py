"""What ``%llm_fit`` shows: ways to load a model, with their memory on each device."""

from __future__ import annotations

from typing import Any

from nbllm.core.fitting.fit_options import Fit, FitOption
from nbllm.core.placement import MemoryParts
from nbllm.core.words import size_words
from nbllm.notebook.tables import Table, make_table, mib

__all__ = ["fit_table"]

_PARTS = ("overhead", "compute", "weights", "KV cache")


def fit_table(fit: Fit) -> Table:
    """A row for each way to load; below it, what a load would choose and what is free.

    Columns in MiB: the memory, its parts, and what each device has of it where there are several.
    """
    devices = list(dict.fromkeys(device for option in fit.options for device in option.memory))
    beside = devices if len(devices) > 1 else []
    columns = {
        "device": "string",
        "layers on GPUs": "Int64",
        "context (tokens)": "Int64",
        "KV cache type": "string",
        "fits": "boolean",
        "memory (MiB)": "Float64",
        "weights (MiB)": "Float64",
        "KV cache (MiB)": "Float64",
        "compute (MiB)": "Float64",
        "overhead (MiB)": "Float64",
        **{f"{device} (MiB)": "Float64" for device in beside},
    }
    rows = [_row(option) for option in fit.options]
    going = (*(f"{part} (MiB)" for part in _PARTS), "layers on GPUs")
    return make_table(rows, columns, notes=_notes(fit), first_to_go=going)


def _row(option: FitOption) -> dict[str, Any]:
    whole = MemoryParts.sum_of(option.memory.values())
    return {
        "device": option.device,
        "layers on GPUs": option.gpu_layers or None,
        "context (tokens)": option.context_length,
        "KV cache type": option.kv_type,
        "fits": option.fits,
        "memory (MiB)": mib(whole.total),
        "weights (MiB)": mib(whole.weights),
        "KV cache (MiB)": mib(whole.kv),
        "compute (MiB)": mib(whole.compute),
        "overhead (MiB)": mib(whole.overhead),
        **{f"{device} (MiB)": mib(part.total) for device, part in option.memory.items()},
    }


def _notes(fit: Fit) -> list[str]:
    free = {device: size for option in fit.options for device, size in option.free.items()}
    room = ", ".join(f"{size_words(size)} on {device}" for device, size in free.items())
    chosen = fit.chosen
    choice = "None of these fits; %llm_load says what would make the model fit."
    if chosen is not None:
        choice = f"%llm_load would take {chosen.device}: {chosen.reason}"
    return [
        choice,
        f"Free for a model now, with headroom for everything else: {room}.",
        "Memory = weights + KV cache + compute buffers + overhead (the worker process). Computed "
        "from the file's header; where it is close, llama.cpp itself decides at the load.",
    ]
