"""Whether what nbllm writes may have colours of a terminal, and the colours themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["BOLD", "CYAN", "GREEN", "RED", "coloured", "shows_colours", "wants_colours"]

BOLD, RED, GREEN, CYAN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m"
_PLAIN = "\x1b[0m"


def coloured(text: str, colour: str) -> str:
    """``text`` in one of the colours above."""
    return f"{colour}{text}{_PLAIN}"


def wants_colours(shell: InteractiveShell | None) -> bool:
    """Whether IPython's setting ``colors`` allows them; it is written NoColor or nocolor."""
    return str(getattr(shell, "colors", "")).lower() != "nocolor"


def shows_colours(shell: InteractiveShell, out: TextIO) -> bool:
    """Whether ``out`` is a terminal that can show them, and the reader has not refused them."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return wants_colours(shell) and out.isatty() and not refused
