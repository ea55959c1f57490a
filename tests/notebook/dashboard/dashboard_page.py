"""A dashboard and who looks at it, for tests without a browser."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets

from nbllm.core.model_manager import ModelManager
from nbllm.core.types import ModelInfo
from nbllm.notebook.dashboard.board import Dashboard
from nbllm.testing import FakeOpener, fake_info


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Page:
    """A dashboard and who looks at it; what a page would send is done by hand."""

    def __init__(
        self, folder: Path | None = None, models: Sequence[ModelInfo] = (), **fake: Any
    ) -> None:
        self.opener = FakeOpener(**fake)
        some = models or [fake_info("tiny"), fake_info("<b>evil</b>")]
        self.manager = ModelManager(some, open_model=self.opener, folder=folder)
        self.board = Dashboard(self.manager, tick_seconds=0.2)

    def look(self) -> None:
        self.board._presence.shown()
        self.board.widget._view_count = 1
        until(lambda: self.input("model").value)

    @property
    def text(self) -> str:
        """All that is shown of the board."""
        return "\n".join(widget.value for widget in walk(self.board.widget, ipywidgets.HTML)[1:])

    def buttons(self, words: str) -> list[Any]:
        return [
            button
            for button in walk(self.board.widget, ipywidgets.Button)
            if button.description == words and "nbllm-hidden" not in button._dom_classes
        ]

    def press(self, words: str, index: int = 0) -> None:
        until(lambda: len(self.buttons(words)) > index)
        self.buttons(words)[index].click()

    def input(self, name: str) -> Any:
        return self.board._playground.inputs[name]

    @property
    def answer(self) -> str:
        outputs = walk(self.board._playground.answer.widget, ipywidgets.Output)
        return "".join(o.outputs[0]["data"]["text/plain"] for o in outputs if o.outputs)

    def close(self) -> None:
        self.board.close()
        asyncio.run(self.manager.aclose())


def walk(widget: Any, kind: type) -> list[Any]:
    found = [widget] if isinstance(widget, kind) else []
    for child in getattr(widget, "children", ()):
        found += walk(child, kind)
    return found


@contextmanager
def open_pages(folder: Path | None = None) -> Iterator[Callable[..., Page]]:
    """Call what it gives for a page; all are closed at the end. Models are found in ``folder``."""
    pages: list[Page] = []

    def open_one(**fake: Any) -> Page:
        pages.append(Page(folder, **fake))
        pages[-1].look()
        return pages[-1]

    try:
        yield open_one
    finally:
        for page in pages:
            page.close()
