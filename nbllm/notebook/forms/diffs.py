"""Differences between texts, in colour: HTML of nbllm's own, in which every text is escaped.

In a terminal that shows colours they are those that ``git diff`` has.
"""

from __future__ import annotations

import difflib

from nbllm.core.rendering.escaping import code_html
from nbllm.notebook.colours import BOLD, CYAN, GREEN, RED, coloured
from nbllm.notebook.views.bundles import Bundle

__all__ = ["diff_bundle", "unified"]

# Half transparent, so that the theme's own colours of text stay legible in light and dark.
_BACKGROUNDS = {"+": "rgba(46, 160, 67, 0.25)", "-": "rgba(248, 81, 73, 0.25)"}
_BLOCK_STYLE = (
    "margin: 0.3em 0 0.6em 0; padding: 0; overflow-x: auto; background: transparent; "
    "font-size: var(--jp-code-font-size, 0.9em); line-height: 1.4"
)
_HUNK_STYLE = "color: var(--jp-ui-font-color2, GrayText)"
_HEADS = ("--- ", "+++ ")
_COLOURS = {"+": GREEN, "-": RED, "@": CYAN}


def unified(before: str, after: str, *, name: str = "cell") -> str:
    """The unified diff from ``before`` to ``after``; "" where they are the same."""
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"{name}, as it is",
        f"{name}, proposed",
        lineterm="",
    )
    return "\n".join(lines)


def diff_bundle(diff: str) -> Bundle:
    """``diff`` for a notebook, and as plain text."""
    rows = "".join(map(_row, diff.splitlines()))
    block = f'<pre class="nbllm-diff" style="{_BLOCK_STYLE}">{rows}</pre>'
    return Bundle({"text/html": block, "text/plain": diff}, paint=_painted)


def _painted(diff: str) -> str:
    return "\n".join(map(_painted_line, diff.splitlines()))


def _painted_line(line: str) -> str:
    colour = BOLD if line.startswith(_HEADS) else _COLOURS.get(line[:1])
    return coloured(line, colour) if colour else line


def _row(line: str) -> str:
    text = code_html(line) or " "
    style = _HUNK_STYLE
    if not line.startswith(("@", *_HEADS)):
        background = _BACKGROUNDS.get(line[:1])
        style = f"background: {background}" if background else ""
    attribute = f' style="{style}"' if style else ""
    # A line of its own for each, so that the colour reaches from edge to edge.
    return f"<div{attribute}>{text}</div>"
