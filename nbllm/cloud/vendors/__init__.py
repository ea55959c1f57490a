"""The vendors: each is a folder, whose ``ADAPTER`` keeps the contract of ``nbllm.cloud.adapter``.

What several of them share stands beside the folders.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nbllm.cloud.adapter import Adapter
from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import SERVER_TYPES, VENDORS, protocol_of

if TYPE_CHECKING:
    from nbllm.cloud.cloud_batches import BatchProtocol

__all__ = ["adapter_for", "batches_for", "every_adapter"]


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


def batches_for(info: ModelInfo) -> BatchProtocol | None:
    """The batch API of the model's vendor, whose folder then has a module ``batches``.

    None where there is none: servers that speak a vendor's protocol answer one by one.
    """
    name = f"{__name__}.{info.model_type}.batches"
    if info.model_type not in VENDORS or find_spec(name) is None:
        return None
    protocol: BatchProtocol = import_module(name).BATCHES
    return protocol


def every_adapter() -> list[Adapter]:
    """All vendors, each of which is imported."""
    return list(map(_adapter, VENDORS))


def _adapter(vendor: str) -> Adapter:
    adapter: Adapter = import_module(f"{__name__}.{vendor}").ADAPTER
    return adapter
