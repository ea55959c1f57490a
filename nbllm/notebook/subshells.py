"""Presses that reach the kernel while a cell runs, where the front end sends them by subshells."""

from __future__ import annotations

from typing import Any

__all__ = ["answer_where_asked"]


def answer_where_asked(widget: Any) -> Any:
    """``widget``, whose messages are handled in the subshell that the front end sent them to.

    ipykernel 7.4 hands a comm's messages to the thread that used the comm last, which may be the
    busy one; there is no public way to say otherwise.
    """
    comm = widget.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default  # noqa: SLF001
    return widget
