"""The vendors: each is a folder, whose ``ADAPTER`` keeps the contract of ``nbllm.cloud.adapter``.

What several of them share stands beside the folders.
"""

from __future__ import annotations

from importlib import import_module

from nbllm.cloud.adapter import Adapter
from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import VENDORS

__all__ = ["adapter_for"]


def adapter_for(info: ModelInfo) -> Adapter:
    """The vendor that ``info.model_type`` names; the others' folders are not imported."""
    if info.model_type not in VENDORS:
        *others, last = VENDORS
        known = f"{', '.join(others)} or {last}"
        raise InvalidOptionError("model_type", f"must be {known} (got {info.model_type!r})")
    adapter: Adapter = import_module(f"{__name__}.{info.model_type}").ADAPTER
    return adapter
