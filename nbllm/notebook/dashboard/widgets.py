"""Widgets with the dashboard's classes, and how they are taken out of the kernel again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from nbllm.notebook.subshells import answer_where_asked

__all__ = ["box", "button", "card", "close_tree", "field", "set_children", "text"]


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


def field(made: Any) -> Any:
    """An input with its label above it."""
    return answer_where_asked(_with_classes(made, ("nbllm-field",)))


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
