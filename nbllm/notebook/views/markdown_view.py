"""How an answer appears in a notebook while it is written: at linear cost, in place."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from nbllm.notebook.views import bundles
from nbllm.notebook.views.bundles import Bundle, Ending, size_of
from nbllm.notebook.views.growing_text import GrowingText

__all__ = ["BackgroundView", "MarkdownView"]

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
