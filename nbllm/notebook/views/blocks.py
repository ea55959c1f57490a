"""Where a growing Markdown text can be cut, so that what is finished need not be sent again."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["cut_finished"]

_RULE = re.compile(r"\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*")
_BAR = re.compile(r"(?<!\\)\|")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(?=([^\n]*))")


@dataclass(slots=True)
class _Scan:
    """What is known after each line: the open fence, and the last place to cut at."""

    fence: str = ""
    opening_line: str = ""
    opened_at: int = 0
    cut: int = 0


def cut_finished(text: str) -> tuple[str, str]:
    """``text`` as a finished part and a rest, each of them Markdown that stands for itself.

    The cut is made after the last blank line outside code; in a code block that fills the text
    it is made between two lines, and both parts get a fence; in a table that fills it between two
    rows, and both parts get its head. Where there is no such place the finished part is empty.
    """
    scan = _scan(text)
    if scan.cut:
        return text[: scan.cut], text[scan.cut :]
    if not scan.fence and (head := _table_head(text)):
        last_row = text.rfind("\n", 0, text.rfind("\n")) + 1
        return (text[:last_row], head + text[last_row:]) if last_row > len(head) else ("", text)
    last_line = text.rfind("\n") + 1
    if not scan.fence or last_line <= len(scan.opening_line):
        return "", text
    return text[:last_line] + scan.fence + "\n", scan.opening_line + text[last_line:]


def _table_head(text: str) -> str:
    """The two lines of a table's head, where all of the text is rows of it; else nothing."""
    head, rule, *rows = text.split("\n") if "\n" in text else (text, "")
    rows = rows[:-1] if rows and not rows[-1].strip() else rows
    is_table = _RULE.fullmatch(rule) is not None and _columns(head) == _columns(rule)
    if not is_table or not all(row.startswith("|") for row in (head, *rows)):
        return ""
    return f"{head}\n{rule}\n"


def _columns(line: str) -> int:
    return len(_BAR.split(line.strip().removeprefix("|").removesuffix("|")))


def _scan(text: str) -> _Scan:
    scan, position, after_blank = _Scan(), 0, False
    for line in text.splitlines(keepends=True):
        # An indented line after a blank one belongs to the list item above it.
        if after_blank and not scan.fence and not line[0].isspace():
            scan.cut = position
        _pass_fence(scan, line, position)
        position += len(line)
        after_blank = not line.strip()
    if scan.opened_at > 0:
        # The open code block begins within a list or a paragraph; fences do not split that.
        scan.fence = ""
    return scan


def _pass_fence(scan: _Scan, line: str, position: int) -> None:
    match = _FENCE.match(line)
    if match is None:
        return
    marker, info = match.group(1), match.group(2)
    if not scan.fence:
        if "`" not in info or marker[0] == "~":
            scan.fence, scan.opening_line, scan.opened_at = marker, line, position
    elif marker.startswith(scan.fence) and not info.strip():
        scan.fence = scan.opening_line = ""
