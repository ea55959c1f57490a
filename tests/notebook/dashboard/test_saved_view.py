"""What a notebook keeps of a dashboard: a state without widgets, safe and dated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest
from dashboard_page import Page, open_pages, until
from IPython.core.displaypub import DisplayPublisher
from nbconvert import HTMLExporter, MarkdownExporter

from nbllm.notebook.dashboard.page_code import SUBMIT_MARK
from nbllm.notebook.dashboard.saved_view import SavedView, Section, sections_html

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class Publisher(DisplayPublisher):
    """Keeps each output by its display id, as notebooks do."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, dict[str, Any]] = {}
        self.updates = 0

    def publish(
        self, data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False
    ) -> None:
        place = (transient or {}).get("display_id") or f"output {len(self.outputs)}"
        assert update == (place in self.outputs)
        self.updates += update
        self.outputs[place] = data


@pytest.fixture
def open_page() -> Iterator[Callable[..., Page]]:
    with open_pages() as open_one:
        yield open_one


def shown(page: Page) -> Publisher:
    publisher = Publisher()
    page.board._saved.show(publisher, page.board.widget, lambda: None)
    return publisher


def test_the_state_follows_what_happens_and_nothing_else(open_page: Any) -> None:
    page = open_page(text="**Yes**, <b>it</b> is.")
    publisher = shown(page)
    live, saved = publisher.outputs.values()
    assert WIDGET_VIEW in live
    assert "No model is loaded" in saved["text/html"]
    page.input("model").value = "<b>evil</b>"
    page.input("prompt").value = "Is <i>it</i>?" + SUBMIT_MARK
    until(lambda: "first token" in list(publisher.outputs.values())[1]["text/html"])
    html = list(publisher.outputs.values())[1]["text/html"]
    assert "<strong>Yes</strong>" in html
    assert "Is &lt;i&gt;it&lt;/i&gt;?" in html
    assert not re.search(r"<(b>evil|i>it|b>it|script|img|button|input)", html)
    assert not re.search(r"\blive\b(?! dashboard)", html)
    before = publisher.updates
    assert before <= 4
    page.board._saved._next_update = 0.0
    page.board._nudge()
    until(lambda: page.board.ticking)
    assert publisher.updates == before, "the time alone is no reason to change the notebook"
    page.board.close()
    assert list(publisher.outputs.values())[1] == {"text/plain": ""}


def test_what_is_exported_has_the_state_and_no_trace_of_a_widget(open_page: Any) -> None:
    page = open_page(text="Yes.")
    page.input("prompt").value = "One\n\ntwo?" + SUBMIT_MARK
    until(lambda: page.board._playground.version)
    cell = nbformat.v4.new_code_cell("%llm_dashboard")
    cell.outputs = [
        nbformat.v4.new_output("display_data", data) for data in shown(page).outputs.values()
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    for exporter in (HTMLExporter(), MarkdownExporter()):
        text, _ = exporter.from_notebook_node(notebook)
        assert "nbllm dashboard, as of 20" in text
        assert "VBox" not in text
        assert page.board.widget.model_id not in text


def test_updates_keep_their_distance_and_the_last_one_always_comes() -> None:
    now = [0.0]
    view = SavedView(lambda: [Section("Log", (("a", "b"),))], clock=lambda: now[0])
    assert not view.update()
    publisher = Publisher()
    view._publisher = publisher
    view._publish(update=False)
    assert not view.update()
    assert view.update(is_last=True)
    now[0] += 3
    assert view.update()


def test_sections_without_content_are_left_out() -> None:
    assert sections_html([Section("Empty"), Section("Full", (("x",),))]).count("font-weight") == 1
