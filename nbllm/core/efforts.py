"""The levels of ``reasoning_effort``; a module of its own, for ``%load_ext`` completes them."""

from __future__ import annotations

__all__ = ["EFFORTS"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
