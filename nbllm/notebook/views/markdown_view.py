"""How an answer appears in a notebook while it is written: in place, and at linear cost.

What is finished of the Markdown is sent once, the tail that grows again and again.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbllm.notebook.views import bundles
from nbllm.notebook.views.bundles import Bundle, Ending, rendered, size_of

__all__ = ["BackgroundView", "GrowingText", "MarkdownView", "Update", "cut_finished"]

TAIL_CHARACTERS = 1_500
"""A tail that is longer is cut where it can be."""
BYTES_PER_SECOND = 18_000
"""What the updates of one answer may send; a tail that cannot be cut is sent less often, and so is
one that takes long to render."""
_RULE = re.compile(r"\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*")
_BAR = re.compile(r"(?<!\\)\|")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(?=([^\n]*))")


@dataclass(frozen=True, slots=True)
class Update:
    """What to show in place of the tail: where there is a ``finished`` part, that one for good,
    and the ``growing`` tail below it.
    """

    finished: Bundle | None
    growing: Bundle


class GrowingText:
    """The text of one answer, for every view of it; ``tail`` is what is yet to be finished.

    Without ``is_cut`` the whole is the tail. Updates come ``least_seconds`` apart at least.
    """

    def __init__(
        self,
        *,
        is_cut: bool = True,
        least_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_cut, self._least_seconds, self._clock = is_cut, least_seconds, clock
        self.tail, self._unsent, self._next_update = "", False, 0.0

    def add(self, more: str) -> Update | None:
        """Take more of the text, which may be none; None where it is too early for an update."""
        self.tail += more
        self._unsent = self._unsent or bool(more)
        if not self._unsent or not self.is_due:
            return None
        began, self._unsent = self._clock(), False
        finished = self._finished()
        growing = rendered(self.tail, is_growing=True)
        self.pace(began, size_of(growing) + (size_of(finished) if finished else 0))
        return Update(finished, growing)

    @property
    def is_due(self) -> bool:
        """Whether the time for the next update has come."""
        return self._clock() >= self._next_update

    def pace(self, began: float, sent: int) -> None:
        """Wait the longer with the next update, the more bytes one sends and the longer it takes.

        ``began`` is when it began to be made, by the clock.
        """
        took = self._clock() - began
        seconds = max(self._least_seconds, sent / BYTES_PER_SECOND, 4 * took)
        self._next_update = began + seconds

    def _finished(self) -> Bundle | None:
        if not self._is_cut or len(self.tail) <= TAIL_CHARACTERS:
            return None
        finished, rest = cut_finished(self.tail)
        if not finished:
            return None
        self.tail = rest
        return rendered(finished)


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


_NOTHING = Bundle({"text/plain": ""})


class MarkdownView:
    """Markdown in displays that are updated in place.

    ``is_alone`` says that nothing else writes into the cell's output, so that it may be cleared
    for the final one. Where it is not, one display is updated from beginning to end. A control,
    such as a Stop button, stands below the text that grows; the status line takes its place.
    """

    def __init__(
        self, publisher: Any, *, is_alone: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publisher, self._is_alone, self._clock = publisher, is_alone, clock
        self._kept: list[Bundle] = []
        self._outputs: dict[str, Bundle] = {}
        self._panel: str | None = None
        self._control: Bundle | None = None
        self._control_place: str | None = None
        self._text = GrowingText(is_cut=is_alone, clock=clock)
        self._noted = ""
        self._drawn: object = None

    def note(self, words: str) -> None:  # noqa: D102 - see View
        if words != self._noted and not self._text.tail and self._drawn is None:
            self._noted = words
            self._show(bundles.note(words))

    def keep(self, words: str) -> None:  # noqa: D102
        self._show(bundles.note(words))
        self._kept.append(bundles.note(words))
        self._panel = None

    def drop_note(self, words: str) -> None:  # noqa: D102
        if self._panel is not None and self._is_alone:
            self._clear()
        elif self._panel is not None:
            self._show(bundles.note(words))
        self._panel = None
        self._drop_control()

    def control(self, control: Bundle) -> None:  # noqa: D102
        if self._panel is None:
            self._show(_NOTHING)
        self._control, self._control_place = control, self._put(control)

    def add(self, text: str) -> None:  # noqa: D102
        update = self._text.add(text)
        if update is None:
            return
        if update.finished is not None:
            self._show(update.finished)
            self._panel = None
        self._show(update.growing)

    def draw(self, key: object, make: Callable[[], Bundle]) -> None:  # noqa: D102
        if key == self._drawn or not self._text.is_due:
            return
        began = self._clock()
        self._drawn, bundle = key, make()
        self._text.pace(began, size_of(bundle))
        self._show(bundle)

    def finish(self, ending: Ending) -> None:  # noqa: D102
        if self._is_alone and (self._panel or self._control_place):
            self._clear()
        self._control = None
        for bundle in bundles.outputs(ending) if self._is_alone else bundles.two_outputs(ending):
            self._show(bundle)
            self._panel = None
        self._drop_control()

    def _clear(self) -> None:
        self._publisher.clear_output(wait=True)
        self._panel = self._control_place = None
        self._outputs.clear()
        for bundle in self._kept:
            self._put(bundle)

    def _show(self, bundle: Bundle) -> None:
        """Put ``bundle`` into the panel; a new one opens above the control."""
        if self._panel is not None:
            self._update(self._panel, bundle)
        elif self._control_place is None:
            self._panel = self._put(bundle)
        else:
            self._panel, self._control_place = self._control_place, None
            self._update(self._panel, bundle)
            if self._control is not None:
                self._control_place = self._put(self._control)

    def _drop_control(self) -> None:
        if self._control_place is not None:
            self._update(self._control_place, _NOTHING)
        self._control = self._control_place = None

    def _put(self, bundle: Bundle) -> str:
        place = uuid.uuid4().hex
        self._outputs[place] = bundle
        self._publish(bundle, place)
        return place

    def _update(self, place: str, bundle: Bundle) -> None:
        self._outputs[place] = bundle
        self._publish(bundle, place, update=True)

    def _publish(self, bundle: Bundle, place: str, *, update: bool = False) -> None:
        self._publisher.publish(
            data=dict(bundle.data),
            metadata=dict(bundle.metadata),
            transient={"display_id": place},
            update=update,
        )


class BackgroundView(MarkdownView):
    """For an answer that outlives its cell: all places are put at first, and then only updated."""

    def __init__(self, publisher: Any) -> None:
        super().__init__(publisher, is_alone=False)

    def keep(self, words: str) -> None:
        """The line gives way to the answer: another place could land in another cell."""
        self.note(words)

    def settle(self, bundle: Bundle) -> None:
        """Show what came of it at last, where that is no text, and nothing to press."""
        self._show(bundle)
        self._drop_control()

    def republish(self, *, update: bool = False) -> None:
        """Show the same outputs in the cell that runs now too; updates then reach both.

        With ``update`` they are there already, and are sent once more on this cell's behalf.
        """
        for place, bundle in self._outputs.items():
            self._publish(bundle, place, update=update)
