"""What ``%llm_pull`` shows of a repository: its variants, and how each does on this machine."""

from __future__ import annotations

from nbllm.core.downloads import PullPlan
from nbllm.notebook.tables import Table, make_table, mib

__all__ = ["variants_table"]

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
