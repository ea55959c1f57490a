"""What nbllm puts into a notebook, as MIME bundles.

A model's text is untrusted. It is sent as HTML that nbllm writes itself (``nbllm.core.rendering``)
and as the text that it is. It is never sent as ``text/markdown``: front ends take HTML in that for
live where the reader ran the cell, and those that export notebooks follow its links and diagrams.
Reasoning is not rendered, but escaped to the last character and set in ``<pre>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbllm.core.rendering.escaping import encodable, preformatted, text_html
from nbllm.core.rendering.markdown_html import answer_html

__all__ = [
    "Bundle",
    "Ending",
    "folded_html",
    "note",
    "note_html",
    "outputs",
    "rendered",
    "size_of",
    "two_outputs",
    "widget_view",
]

_GREY = "color: var(--jp-ui-font-color2, GrayText); font-size: 0.85em"
_NOTE = '<div style="{grey}">{words}</div>'
_FOLDED = (
    '<details style="{grey}"><summary style="cursor: pointer">{title}</summary>'
    '<div style="margin: 0.5em 0 0.5em 1.2em">{text}</div></details>'
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One output: its forms by MIME type, and what a saved notebook holds beside them.

    ``paint`` colours its plain text where a terminal shows colours.
    """

    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    paint: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer is left in the cell.

    ``text`` is Markdown, ``status`` the line under it or "", ``reasoning`` what the model thought
    where that is to be shown, and ``recipe`` what the answer was made of. ``form`` is shown in
    the place of the text where the answer was asked for in another form. ``written`` is what the
    model wrote where the text is not that; a view that cannot take it back leaves it.
    """

    text: str
    status: str = ""
    reasoning: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    form: Bundle | None = None
    written: str | None = None

    @property
    def answer(self) -> list[Bundle]:
        """The output of the answer itself; none where there is no text."""
        if self.form is not None:
            return [Bundle(self.form.data, _metadata(self.recipe))]
        return [rendered(self.text, self.recipe)] if self.text else []


def rendered(
    text: str, recipe: Mapping[str, Any] | None = None, *, is_growing: bool = False
) -> Bundle:
    """A model's Markdown; ``recipe`` is saved with it under the key "nbllm".

    What ``is_growing`` is sent again and again, so it has no colours, which are most of its bytes.
    """
    html = answer_html(text, coloured=not is_growing)
    return Bundle({"text/html": html, "text/plain": encodable(text)}, _metadata(recipe))


def size_of(bundle: Bundle) -> int:
    """The bytes of a bundle's texts."""
    return sum(len(str(content).encode()) for content in bundle.data.values())


def _metadata(recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"nbllm": dict(recipe)} if recipe else {}


def note(words: str) -> Bundle:
    """A line of nbllm's own."""
    return Bundle({"text/html": note_html(words), "text/plain": words})


def widget_view(widget: Any, words: str = "") -> Bundle:
    """The output that shows a widget of any version of ipywidgets; ``words`` stand for it in text.

    Each version has a way of its own to show a widget; what it sends to the page is this.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return Bundle({"application/vnd.jupyter.widget-view+json": view, "text/plain": words})


def outputs(ending: Ending) -> list[Bundle]:
    """An answer from top to bottom: the folded reasoning, the text, the status line."""
    thought, title = ending.reasoning, _title(ending.reasoning)
    folded = Bundle(
        {"text/html": folded_html(thought), "text/plain": encodable(f"{title}\n{thought}")}
    )
    return [
        *([folded] if thought else []),
        *ending.answer,
        *([note(ending.status)] if ending.status else []),
    ]


def two_outputs(ending: Ending) -> list[Bundle]:
    """The same in two places: the text, then the status line with the reasoning."""
    foot = note_html(ending.status) if ending.status else ""
    foot += folded_html(ending.reasoning) if ending.reasoning else ""
    return [
        *ending.answer,
        *([Bundle({"text/html": foot, "text/plain": ending.status})] if foot else []),
    ]


def note_html(words: str) -> str:
    """``words`` of nbllm as a small grey line."""
    return _NOTE.format(grey=_GREY, words=text_html(words))


def folded_html(text: str) -> str:
    """Reasoning, folded up; escaped to the last character."""
    return _FOLDED.format(grey=_GREY, title=_title(text), text=preformatted(text))


def _title(text: str) -> str:
    return f"Reasoning ({len(text):,} characters)"
