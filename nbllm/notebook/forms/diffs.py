"""Differences between texts, in colour: HTML of nbllm's own, in which every text is escaped.

In a terminal that shows colours they are those that ``git diff`` has.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from nbllm.core.rendering.escaping import code_html, text_html
from nbllm.notebook.running_cell import BOLD, CYAN, GREEN, RED, coloured
from nbllm.notebook.views.bundles import Bundle

__all__ = ["diff_bundle", "unified", "word_diffs"]

# Half transparent, so that the theme's own colours of text stay legible in light and dark.
_BACKGROUNDS = {"+": "rgba(46, 160, 67, 0.25)", "-": "rgba(248, 81, 73, 0.25)"}
_BLOCK_STYLE = (
    "margin: 0.3em 0 0.6em 0; padding: 0; overflow-x: auto; background: transparent; "
    "font-size: var(--jp-code-font-size, 0.9em); line-height: 1.4"
)
_HUNK_STYLE = "color: var(--jp-ui-font-color2, GrayText)"
_WORDS_STYLE = (
    "margin: 0.2em 0 0.6em 0; padding: 0; background: transparent; white-space: pre-wrap; "
    "overflow-wrap: anywhere; word-break: normal; line-height: 1.5"
)
_TITLE_STYLE = "font-weight: 600; margin-top: 0.7em; overflow-wrap: anywhere"
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_FEWEST_CHARACTERS = 3
"""Two texts that differ have words such as "a" in common, which would tear every change apart."""
_MOST_WORDS = 3_000
"""Comparing takes up to the product of both texts' words."""
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


def word_diffs(texts: Sequence[tuple[str, str]]) -> Bundle:
    """How each further text differs from the first one, word by word; each with its name.

    What only the first has is struck through, what only the other one has is underlined.
    """
    (first, before), *others = texts
    blocks, plain = [], []
    for name, after in others:
        pieces = _pieces(before, after)
        title = f"From {first} to {name}" if before != after else f"{first} and {name} are equal"
        body = "".join(map(_piece_html, pieces)) if before != after else ""
        block = f'<pre class="nbllm-diff" style="{_WORDS_STYLE}">{body}</pre>' if body else ""
        blocks.append(f'<div style="{_TITLE_STYLE}">{text_html(title)}</div>{block}')
        plain.append(
            "\n".join([f"── {title} ──", "".join(map(_piece_text, pieces)) if body else ""])
        )
    return Bundle({"text/html": "".join(blocks), "text/plain": "\n\n".join(plain)})


def _pieces(before: str, after: str) -> list[tuple[str, str]]:
    """Texts with what became of them: " ", "-" or "+". By lines where the texts are long."""
    parts = [_WORDS.findall(before), _WORDS.findall(after)]
    is_long = max(map(len, parts)) > _MOST_WORDS
    if is_long:
        parts = [text.splitlines(keepends=True) for text in (before, after)]
    matcher = difflib.SequenceMatcher(None, parts[0], parts[1], autojunk=is_long)
    changes: list[tuple[str, str]] = []
    for _, begin, end, new_begin, new_end in matcher.get_opcodes():
        change = "".join(parts[0][begin:end]), "".join(parts[1][new_begin:new_end])
        is_known = change[0] == change[1]
        if changes and changes[-1][0] != changes[-1][1] and not (is_known and _tells(change[0])):
            change = (changes[-1][0] + change[0], changes[-1][1] + change[1])
            changes.pop()
        changes.append(change)
    return [piece for change in changes for piece in _signed(*change)]


def _tells(text: str) -> bool:
    """Whether a text that both have is worth an end of the change before it."""
    return len(text.strip()) >= _FEWEST_CHARACTERS


def _signed(old: str, new: str) -> list[tuple[str, str]]:
    if old == new:
        return [(" ", old)]
    return [(sign, text) for sign, text in (("-", old), ("+", new)) if text]


def _piece_html(piece: tuple[str, str]) -> str:
    sign, text = piece
    tag = {"-": "del", "+": "ins"}.get(sign)
    shown = code_html(text)
    return f'<{tag} style="background: {_BACKGROUNDS[sign]}">{shown}</{tag}>' if tag else shown


def _piece_text(piece: tuple[str, str]) -> str:
    sign, text = piece
    return {"-": f"[-{text}-]", "+": f"{{+{text}+}}"}.get(sign, text)


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
