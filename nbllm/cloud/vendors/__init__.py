"""The vendors: each is a folder, whose ``ADAPTER`` keeps the contract of ``nbllm.cloud.adapter``.

What several of them share stands beside the folders.
"""

from __future__ import annotations

from importlib import import_module

from nbllm.cloud.adapter import Adapter
from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import SERVER_TYPES, VENDORS, protocol_of

__all__ = ["adapter_for", "every_adapter"]


def adapter_for(info: ModelInfo) -> Adapter:
    """The vendor whose protocol is spoken where the model is; the others are not imported.

    Raises ``InvalidOptionError`` for a ``model_type`` that is neither a vendor's nor a server's.
    """
    vendor = protocol_of(info.model_type)
    if vendor not in VENDORS:
        raise InvalidOptionError(
            "model_type",
            f"must be a vendor ({', '.join(VENDORS)}) or a kind of server "
            f"({', '.join(SERVER_TYPES)}; got {info.model_type!r})",
        )
    return _adapter(vendor)


def every_adapter() -> list[Adapter]:
    """All vendors, each of which is imported."""
    return list(map(_adapter, VENDORS))


def _adapter(vendor: str) -> Adapter:
    adapter: Adapter = import_module(f"{__name__}.{vendor}").ADAPTER
    return adapter
