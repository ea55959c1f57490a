"""What ``%llm_fit`` and ``%llm_pull`` show: how models and their variants do on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.core.downloads import PullPlan
from nbllm.core.errors import DoesNotFitError
from nbllm.core.fitting.fit_options import Fit, FitOption
from nbllm.core.hardware.resources import Resources
from nbllm.core.openers import quantized_plan
from nbllm.core.placement import MemoryParts
from nbllm.core.quantization import NEEDS_IMATRIX, Quantization
from nbllm.core.types import ModelInfo
from nbllm.core.words import size_words
from nbllm.notebook.tables import Table, make_table, mib

__all__ = ["fit_table", "quantizations_table", "variants_table"]

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
        "layers with experts on the CPU": "Int64",
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
    if not any(option.cpu_experts for option in fit.options):
        del columns["layers with experts on the CPU"]
    rows = [_row(option) for option in fit.options]
    going = (*(f"{part} (MiB)" for part in _PARTS), "layers on GPUs")
    return make_table(rows, columns, notes=_notes(fit), first_to_go=going)


def quantizations_table(
    info: ModelInfo, plans: Sequence[Quantization], resources: Resources
) -> Table:
    """A row for each type that a model can be quantized to, the largest first."""
    columns = {
        "type": "string",
        "file size (MiB)": "Float64",
        "bits per weight": "Float64",
        "fits": "boolean",
        "device": "string",
        "memory (MiB)": "Float64",
        "context (tokens)": "Int64",
        "fallbacks": "Int64",
    }
    rows = [
        {
            "type": plan.label,
            "file size (MiB)": mib(plan.size_bytes),
            "bits per weight": plan.bits_per_weight,
            "fallbacks": sum(plan.fallbacks.values()),
            **_place(info, plan, resources),
        }
        for plan in sorted(plans, key=lambda plan: -plan.size_bytes)
    ]
    notes = [
        f"What quantizing {info.name} ({(info.quantization or 'as it is').upper()}) would make; "
        "nothing was written. Sizes are llama.cpp's own; memory is for the context length given.",
        "Fallbacks: tensors whose rows do not divide into the type's blocks and get a larger one.",
        f"Types that need an importance matrix are left out: {', '.join(sorted(NEEDS_IMATRIX))}.",
    ]
    return make_table(rows, columns, notes, first_to_go=("fallbacks", "bits per weight"))


def _place(info: ModelInfo, plan: Quantization, resources: Resources) -> dict[str, Any]:
    try:
        placement = quantized_plan(info, plan, resources)
    except DoesNotFitError:
        return {"fits": False}
    return {
        "fits": True,
        "device": placement.device,
        "memory (MiB)": mib(placement.total_bytes),
        "context (tokens)": placement.context_length,
    }


def _row(option: FitOption) -> dict[str, Any]:
    whole = MemoryParts.sum_of(option.memory.values())
    return {
        "device": option.device,
        "layers on GPUs": option.gpu_layers or None,
        "layers with experts on the CPU": option.cpu_experts or None,
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
        choice = f"%llm_load would use {chosen.device}: {chosen.reason}"
    return [
        choice,
        f"Free for a model now, with headroom for everything else: {room}.",
        "Memory = weights + KV cache + compute buffers + overhead (the worker process). Computed "
        "from the file's header; where it is close, llama.cpp itself decides at the load.",
    ]


_COLUMNS = {
    "variant": "string",
    "file size (MiB)": "Float64",
    "memory (MiB)": "Float64",
    "fits": "boolean",
    "device": "string",
    "expected decode (tokens/s)": "Float64",
    "chosen": "boolean",
    "file": "string",
}


def variants_table(plan: PullPlan) -> Table:
    """One row for each variant, the smallest first; below it, why one of them is chosen.

    Memory and speed are estimates from the file's size; %llm_fit is exact once it is here.
    """
    rows = [
        {
            "variant": each.label,
            "file size (MiB)": mib(each.size_bytes),
            "memory (MiB)": mib(each.memory_bytes),
            "fits": each.fits,
            "device": each.device,
            "expected decode (tokens/s)": each.tokens_per_second,
            "chosen": each is plan.chosen,
            "file": each.files[0].path,
        }
        for each in plan.variants
    ]
    return make_table(rows, _COLUMNS, plan.notes, first_to_go=("file", "device", "memory (MiB)"))
