"""Widgets with the dashboard's classes, and how they are taken out of the kernel again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from nbllm.core.errors import NbllmError
from nbllm.core.paths import printable
from nbllm.core.rendering.escaping import text_html
from nbllm.notebook.dashboard.page_code import SUBMIT_MARK
from nbllm.notebook.versions import answer_where_asked, explain

__all__ = [
    "Choice",
    "box",
    "button",
    "card",
    "close_tree",
    "failure_words",
    "field",
    "mark",
    "on_submit",
    "problem_html",
    "set_children",
    "text",
]


class Choice(ipywidgets.Dropdown):  # type: ignore[misc]  # ipywidgets has no types
    """A dropdown whose options one thread renews while another one's choice arrives.

    The last choice stands, however the two meet.
    """

    options: Any
    value: Any

    _SHARED = frozenset({"options", "index", "label", "value"})

    def __init__(self, description: str, **traits: Any) -> None:
        self._changing = threading.RLock()
        super().__init__(description=description, **traits)

    def offer(self, options: Sequence[Any]) -> None:
        """Have these to choose from; the choice is kept if it can be, else it is the first."""
        with self._changing:
            if tuple(options) == tuple(self.options):
                return
            chosen: Any = self.value
            self.options = tuple(options)
            values = [each[1] if isinstance(each, tuple) else each for each in options]
            self.value = chosen if chosen in values else (values[0] if values else None)

    def set_state(self, sync_data: Any) -> None:
        """Take a page's choice."""
        with self._changing:
            super().set_state(sync_data)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._SHARED:
            super().__setattr__(name, value)
            return
        with self._changing:
            super().__setattr__(name, value)


def text(value: str = "", *classes: str) -> Any:
    """HTML of nbllm's own; whatever is not ours must be escaped in it."""
    return _with_classes(ipywidgets.HTML(value), classes)


def box(children: Sequence[Any], *classes: str) -> Any:
    """Children one below the other, unless the classes say otherwise."""
    return _with_classes(ipywidgets.VBox(list(children)), classes)


def card(title: str, *children: Any) -> Any:
    """A panel with a title."""
    return box([text(f'<div class="nbllm-title">{title}</div>'), *children], "nbllm-card")


def button(words: str, tooltip: str, on_click: Callable[[], None], style: str = "") -> Any:
    """A button; ``on_click`` is called in whatever thread the press arrives in."""
    made = ipywidgets.Button(description=words, tooltip=tooltip, button_style=style)
    made.on_click(lambda _: on_click())
    return answer_where_asked(made)


def field(made: Any, tooltip: str = "", *classes: str) -> Any:
    """An input with its label above it; ``tooltip`` is plain text."""
    if tooltip:
        explain(made, tooltip)
    return answer_where_asked(_with_classes(made, ("nbllm-field", *classes)))


def mark(widget: Any, name: str, *, on: bool) -> None:
    """Give ``widget`` the class ``name``, or take it away."""
    (widget.add_class if on else widget.remove_class)(name)


def on_submit(entry: Any, call: Callable[[], None]) -> None:
    """Call ``call`` when the page submits the text of ``entry``, which is whole by then.

    Where no script runs in the page, Enter in a line does it too.
    """

    def look(change: Any) -> None:
        if change["new"].endswith(SUBMIT_MARK):
            entry.value = change["new"].rstrip(SUBMIT_MARK)
            call()

    def take(_: Any, content: Any, __: Any) -> None:
        if content.get("event") == "submit":
            call()

    entry.observe(look, "value")
    entry.on_msg(take)


def failure_words(error: Exception) -> str:
    """What is shown of a failure; its kind too where the message is not nbllm's."""
    message = printable(str(error))
    return message if isinstance(error, NbllmError) else f"{type(error).__name__}: {message}"


def problem_html(words: str) -> str:
    """What went wrong, below what it went wrong with; "" where nothing did."""
    return f'<div class="nbllm-problem" role="alert">{text_html(words)}</div>' if words else ""


def set_children(parent: Any, children: Sequence[Any]) -> None:
    """Give ``parent`` these children, if it has others, and close those that it loses."""
    before, after = tuple(parent.children), tuple(children)
    if before == after:
        return
    parent.children = after
    for child in before:
        if child not in after:
            close_tree(child)


def close_tree(widget: Any) -> None:
    """Close a widget with all that belongs to it; ipywidgets would keep each for ever."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    for part in (widget, getattr(widget, "layout", None), getattr(widget, "style", None)):
        if part is not None:
            part.close()


def _with_classes(made: Any, classes: Sequence[str]) -> Any:
    for name in classes:
        made.add_class(name)
    return made
