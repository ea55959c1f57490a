"""The dashboard without a browser: what it shows, what its buttons do, what it leaves behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets
import pytest
from dashboard_page import Page, open_pages, until, walk
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbllm.core.errors import EngineError
from nbllm.core.hardware.resource_sample import GpuSample, ResourceSample
from nbllm.core.model_manager import ModelManager
from nbllm.notebook.dashboard.board import Dashboard
from nbllm.notebook.dashboard.device_panel import DevicePanel
from nbllm.notebook.dashboard.playground_parts import AnswerArea
from nbllm.notebook.dashboard.widgets import close_tree
from nbllm.notebook.extension import load, unload
from nbllm.testing import FakeOpener, fake_info

WIDGETS = ipywidgets.widgets.widget
INSTANCES = WIDGETS._instances if hasattr(WIDGETS, "_instances") else ipywidgets.Widget.widgets


@pytest.fixture
def open_page() -> Iterator[Callable[..., Page]]:
    with open_pages() as open_one:
        yield open_one


def test_models_are_loaded_pinned_and_unloaded_by_their_buttons(open_page) -> None:
    page = open_page(load_seconds=0.2)
    page.press("Load")
    until(lambda: page.manager.list_loaded_models())
    page.press("Pin")
    until(lambda: page.manager.list_statuses()[0].pinned)
    page.press("Unpin")
    until(lambda: not page.manager.list_statuses()[0].pinned)
    page.press("Unload")
    until(lambda: not page.manager.list_loaded_models())
    assert "Loaded" in page.text


def test_names_are_escaped_everywhere(open_page) -> None:
    page = open_page(text="Hello.")
    assert "&lt;b&gt;evil&lt;/b&gt;" in page.text
    page.input("model").value = "<b>evil</b>"
    page.input("prompt").value = "Hi"
    page.press("Send")
    until(lambda: "generated" in page.text)
    assert "<b>evil" not in page.text


def test_the_playground_streams_and_says_how_it_was(open_page) -> None:
    page = open_page(text="one two three")
    page.input("model").value = "tiny"
    page.input("prompt").value = "Count."
    page.input("system").value = "Be brief."
    page.input("max_tokens").value = "2"
    page.press("Send")
    until(lambda: "2 tokens" in page.text)
    assert page.answer == "one two"
    (request,) = page.opener.opened[0].requests
    assert [message.text for message in request.messages] == ["Be brief.", "Count."]
    assert not page.board._playground._send.disabled


@pytest.mark.parametrize("button", [0, 1], ids=["request", "playground"])
def test_both_stop_buttons_keep_what_has_come(open_page, button: int) -> None:
    page = open_page(text="word " * 5000, token_seconds=0.005)
    page.input("model").value = "tiny"
    page.input("prompt").value = "Go on."
    page.input("max_tokens").value = ""
    page.press("Send")
    until(lambda: page.answer and len(page.buttons("Stop")) == 2)
    page.press("Stop", button)
    until(lambda: "stopped" in page.text)
    assert page.answer.startswith("word")
    assert [record.stopped for record in page.manager.history] == [True]
    until(lambda: "No request is running" in page.text)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("max_tokens", "many", "max_tokens"),
        ("temperature", "-1", "at least 0"),
        ("prompt", " ", "write"),
    ],
)
def test_what_cannot_be_sent_is_told(open_page, field: str, value: str, told: str) -> None:
    page = open_page()
    page.input("prompt").value = "Hi"
    page.input(field).value = value
    page.press("Send")
    until(lambda: told in page.text)


def test_failures_are_told_and_the_partial_answer_stays(open_page) -> None:
    page = open_page(text="one two three", error=EngineError("tiny", "it <broke>"), fail_after=2)
    page.input("model").value = "tiny"
    page.input("prompt").value = "Hi"
    page.press("Send")
    until(lambda: "it &lt;broke&gt;" in page.text)
    assert page.answer == "one two"


def test_it_rests_while_nobody_looks_and_wakes_again(open_page) -> None:
    page = open_page()
    page.board.widget._view_count = 0
    until(lambda: not page.board.ticking)
    page.board.widget._view_count = 1
    assert page.board.ticking


def test_a_failure_of_its_own_is_told_and_refresh_starts_it_again(open_page, monkeypatch) -> None:
    page = open_page()
    monkeypatch.setattr(page.manager, "list_statuses", lambda: 1 / 0)
    until(lambda: "ZeroDivisionError" in page.text)
    assert not page.board.ticking
    monkeypatch.undo()
    page.press("Refresh")
    until(lambda: page.board.ticking and "ZeroDivision" not in page.text)


def test_gpus_have_meters_and_what_drivers_do_not_report_is_said() -> None:
    known = GpuSample(
        index=0,
        label="GPU 0",
        name="RTX <4090>",
        utilization=0.5,
        vram_used_bytes=6 * 2**30,
        vram_total_bytes=24 * 2**30,
        temperature_celsius=61.0,
        power_watts=250.4,
    )
    panel, memory = DevicePanel(), {"memory_used_bytes": 2**30, "memory_total_bytes": 2**33}
    panel.update(
        ResourceSample(
            time=0.0,
            cpu_fraction=None,
            gpus=(known, GpuSample(index=1, label="GPU 1", name="other")),
            **memory,
        ),
        "cpu",
    )
    shown = "".join(widget.value for widget in walk(panel.widget, ipywidgets.HTML))
    for words in ("RTX &lt;4090&gt;", "50% · 61 °C · 250 W", "6.0 of 24.0 GiB"):
        assert words in shown
    assert shown.count("unknown") == 2, "of GPU 1; that of the CPU is not known yet"
    assert "\N{EN DASH}" in shown
    close_tree(panel.widget)


def test_a_view_that_does_not_change_sends_nothing(open_page) -> None:
    page = open_page()
    until(lambda: "2 min ago" in page.text)
    changes: list[Any] = []
    for widget in walk(page.board._models.widget, ipywidgets.HTML):
        widget.observe(changes.append, "value")
    time.sleep(1)
    assert changes == []


def test_thirty_dashboards_leave_nothing_behind() -> None:
    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener())
    Dashboard(manager).close()
    gc.collect()
    widgets, threads = len(INSTANCES), threading.active_count()
    boards = []
    for _ in range(30):
        board = Dashboard(manager)
        board._presence.shown()
        board._wake()
        assert len(INSTANCES) > widgets + 50
        board.close()
        boards.append(weakref.ref(board))
    del board
    gc.collect()
    assert len(INSTANCES) == widgets
    assert threading.active_count() == threads
    assert not any(each() for each in boards)


def test_the_magic_shows_one_dashboard_until_it_is_closed(shell: InteractiveShell) -> None:
    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener())
    load(shell, lambda: manager)
    board = shell.run_line_magic("llm_dashboard", "")
    assert shell.run_line_magic("llm_dashboard", "") is board
    with capture_output() as shown:
        shell.display_formatter.format(board)
    live, saved = shown.outputs
    assert "application/vnd.jupyter.widget-view+json" in live.data
    assert "No model is loaded" in saved.data["text/html"]
    board.close()
    board.close()
    with capture_output() as shown:
        shell.display_formatter.format(board)
    assert shown.stdout == "<Dashboard, closed>\n"
    again = shell.run_line_magic("llm_dashboard", "")
    unload(shell)
    assert again.closed


def test_long_answers_are_sent_at_linear_cost() -> None:
    now = [0.0]
    area = AnswerArea(clock=lambda: now[0])
    sent: list[int] = []
    paragraph = "A paragraph of some words.\n\n"
    whole = ""
    seen: set[str] = set()
    for _ in range(2_000):
        now[0] += 0.1
        area.add(paragraph)
        whole += paragraph
        last = area.widget.children[-1]
        if last.model_id not in seen:
            seen.add(last.model_id)
            last.observe(lambda change: sent.append(len(str(change["new"]))), "outputs")
    area.finish(whole)
    shown = [child.outputs[0]["data"]["text/plain"] for child in area.widget.children]
    assert shown == [whole]
    assert sum(sent) < 60 * len(whole)
    close_tree(area.widget)


def test_markup_of_models_is_made_safe() -> None:
    area = AnswerArea()
    area.finish("<script>alert(1)</script>")
    (child,) = area.widget.children
    assert "<script>" not in child.outputs[0]["data"]["text/html"]
    close_tree(area.widget)
