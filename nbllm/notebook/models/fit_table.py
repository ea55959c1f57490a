"""What ``%llm_fit`` shows: ways to load a model, with their memory on each device."""

from __future__ import annotations

from typing import Any

from nbllm.core.fitting.fit_options import Fit, FitOption
from nbllm.core.words import size_words
from nbllm.notebook.tables import Table, make_table, mib

__all__ = ["fit_table"]


def fit_table(fit: Fit) -> Table:
    """A row for each way to load; below it, what a load would choose and what is free.

    Columns in MiB: the parts (weights, keys and values, computation), and each device's total.
    """
    devices = list(dict.fromkeys(device for option in fit.options for device in option.memory))
    columns = {
        "device": "string",
        "layers on GPUs": "Int64",
        "context (tokens)": "Int64",
        "keys and values": "string",
        "fits": "boolean",
        "weights (MiB)": "Float64",
        "KV cache (MiB)": "Float64",
        "computation (MiB)": "Float64",
        **{f"{device} (MiB)": "Float64" for device in devices},
    }
    return make_table([_row(option) for option in fit.options], columns, notes=_notes(fit))


def _row(option: FitOption) -> dict[str, Any]:
    parts = option.memory.values()
    return {
        "device": option.device,
        "layers on GPUs": option.gpu_layers or None,
        "context (tokens)": option.context_length,
        "keys and values": option.kv_type,
        "fits": option.fits,
        "weights (MiB)": mib(sum(part.weights for part in parts)),
        "KV cache (MiB)": mib(sum(part.kv for part in parts)),
        "computation (MiB)": mib(sum(part.compute + part.overhead for part in parts)),
        **{f"{device} (MiB)": mib(part.total) for device, part in option.memory.items()},
    }


def _notes(fit: Fit) -> list[str]:
    free = {device: size for option in fit.options for device, size in option.free.items()}
    room = ", ".join(f"{size_words(size)} on {device}" for device, size in free.items())
    chosen = fit.chosen
    choice = "Nothing of this fits without a wish; %llm_load says what would."
    if chosen is not None:
        choice = f"%llm_load would take {chosen.device}: {chosen.reason}"
    return [
        choice,
        f"Free for a model now, some left for everything else: {room}.",
        "Computed from the file's header; where it is close, llama.cpp itself decides at the load.",
    ]
