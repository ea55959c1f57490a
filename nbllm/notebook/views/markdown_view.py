"""How an answer appears in a notebook while it is written: at linear cost, in place."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from nbllm.notebook.views import bundles
from nbllm.notebook.views.blocks import cut_finished
from nbllm.notebook.views.bundles import Bundle, Ending, size_of

__all__ = ["BackgroundView", "MarkdownView"]

TAIL_CHARACTERS = 1_500
BYTES_PER_SECOND = 18_000
"""What the updates of one answer may send; a tail that cannot be cut is sent less often, and so is
one that takes long to render."""

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
        self._noted, self._tail, self._unsent = "", "", False
        self._drawn: object = None
        self._next_update = 0.0

    def note(self, words: str) -> None:  # noqa: D102 - see View
        if words != self._noted and not self._tail and self._drawn is None:
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
        self._tail += text
        self._unsent = self._unsent or bool(text)
        now = self._clock()
        if not self._unsent or now < self._next_update:
            return
        is_long = self._is_alone and len(self._tail) > TAIL_CHARACTERS
        sent = self._freeze() if is_long else 0
        self._unsent = False
        growing = bundles.rendered(self._tail, is_growing=True)
        sent += size_of(growing)
        self._pace(now, sent)
        self._show(growing)

    def draw(self, key: object, make: Callable[[], Bundle]) -> None:  # noqa: D102
        now = self._clock()
        if key == self._drawn or now < self._next_update:
            return
        self._drawn, bundle = key, make()
        self._pace(now, size_of(bundle))
        self._show(bundle)

    def _pace(self, began: float, sent: int) -> None:
        """Wait the longer with the next update, the more this one sends and the longer it takes."""
        seconds = max(sent / BYTES_PER_SECOND, 4 * (self._clock() - began))
        self._next_update = began + seconds

    def finish(self, ending: Ending) -> None:  # noqa: D102
        if self._is_alone and (self._panel or self._control_place):
            self._clear()
        self._control = None
        for bundle in bundles.outputs(ending) if self._is_alone else bundles.two_outputs(ending):
            self._show(bundle)
            self._panel = None
        self._drop_control()

    def _freeze(self) -> int:
        """Show what is finished for the last time; the bytes that it takes."""
        finished, rest = cut_finished(self._tail)
        if not finished:
            return 0
        shown = bundles.rendered(finished)
        self._show(shown)
        self._panel, self._tail = None, rest
        return size_of(shown)

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

    def republish(self, *, update: bool = False) -> None:
        """Show the same outputs in the cell that runs now too; updates then reach both.

        With ``update`` they are there already, and are sent once more on this cell's behalf.
        """
        for place, bundle in self._outputs.items():
            self._publish(bundle, place, update=update)
