"""The dashboard's models: filtered, loaded by name with a context, chosen for cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from dashboard_page import Page, open_pages, until, walk
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.notebook.dashboard.board import Dashboard
from nbllm.notebook.dashboard.page_code import SUBMIT_MARK
from nbllm.notebook.extension import load
from nbllm.testing import FakeOpener, fake_info

FIFTY = [fake_info(f"model-{number:02}") for number in range(48)]


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    with open_pages(tmp_path) as open_one:
        yield open_one


def names(page: Page) -> list[str]:
    return list(page.board._models._rows)


def test_the_filter_takes_words_in_any_order(open_page: Any) -> None:
    page = open_page(models=[*FIFTY, fake_info("Qwen3-8B-Q4_K_M", model_type="qwen3")])
    until(lambda: len(names(page)) == 12 and " more: filter" in page.text)
    form = page.board._models.form
    for words, found in (
        ("q4 QWEN", ["Qwen3-8B-Q4_K_M"]),
        ("model 7", ["model-07", "model-17", "model-27", "model-37", "model-47"]),
        ("  ", [info.name for info in FIFTY[:12]]),
    ):
        form.filter.value = words
        until(lambda found=found: names(page) == found)
    form.filter.value = "no <b>such"
    until(lambda: "No model matches “no &lt;b&gt;such”" in page.text)


def test_what_is_named_is_loaded_as_chosen(open_page: Any) -> None:
    page = open_page()
    form = page.board._models.form
    form.context.value, form.device.value = "4,096", "CPU"
    form.name.value = " 'tiny' " + SUBMIT_MARK
    until(lambda: page.manager.list_loaded_models())
    (asked,) = page.opener.opened
    assert (asked.info.load.context_length, asked.info.load.device) == (4096, "CPU")
    until(lambda: form.name.value == "")
    assert page.input("model").value == "tiny"


@pytest.mark.parametrize("name", ["/no/such.gguf", "tinny", "<b>x</b>", ""])
def test_what_cannot_be_loaded_is_said_below_its_name(open_page: Any, name: str) -> None:
    page = open_page()
    form = page.board._models.form
    form.name.value = name + SUBMIT_MARK
    until(lambda: "nbllm-problem" in form._problem.value)
    assert "<b>" not in form._problem.value
    assert form.name.value == name


@pytest.mark.parametrize("context", ["many", "-1", "0", "1e9", "9" * 5000])
def test_a_context_that_cannot_be_is_said_at_once_and_loads_nothing(
    open_page: Any, context: str
) -> None:
    page = open_page()
    form = page.board._models.form
    form.context.value = context
    assert "context_length" in form._context_problem.value
    assert "nbllm-wrong" in form.context._dom_classes
    page.press("Load")
    until(lambda: "context_length" in page.board._models._rows["tiny"]._head.value)
    assert not page.opener.opened
    form.context.value = ""
    assert form._context_problem.value == ""


def test_a_failed_load_is_said_in_its_row_until_the_next(open_page: Any) -> None:
    page = open_page(load_error=OSError("no <memory>"))
    head = page.board._models._rows["tiny"]._head
    page.press("Load")
    until(lambda: "nbllm-problem" in head.value)
    assert "<memory>" not in head.value


def test_buttons_say_what_they_do(open_page: Any) -> None:
    page = open_page(load_seconds=0.3)
    row = page.board._models._rows["tiny"]
    assert row._load.tooltip.startswith("Load tiny")
    page.press("Load")
    until(lambda: row._load.description == "Cancel")
    assert row._load.tooltip == "Stop loading tiny"
    until(lambda: row._load.description == "Unload")
    assert row._load.tooltip == "Unload tiny and free its memory"
    assert row._pin.tooltip.startswith("Keep tiny loaded")
    page.press("Pin")
    until(lambda: row._pin.description == "Unpin")
    assert row._pin.tooltip.startswith("Let tiny be evicted")


def test_a_load_that_the_reader_cancels_is_no_failure(open_page: Any) -> None:
    page = open_page(load_seconds=5)
    page.press("Load")
    page.press("Cancel")
    until(lambda: not page.manager.list_statuses())
    until(lambda: page.board._models._rows["tiny"]._load.description == "Load")
    assert "nbllm-problem" not in page.board._models._rows["tiny"]._head.value


@pytest.mark.parametrize("setting", ["", "elsewhere"])
def test_the_model_that_is_chosen_answers_cells(
    shell: InteractiveShell, open_page: Any, setting: str
) -> None:
    page = open_page(models=[fake_info("tiny"), fake_info("other")])
    load(shell, lambda: page.manager)
    shell.run_line_magic("llm_config", f"model={setting}")
    settings = next(c for c in shell.configurables if type(c).__name__ == "NbLLM")
    for name in ("tiny", "other"):
        page.board._models._rows[name]._load.click()
        until(lambda name=name: "default" in page.board._models._rows[name]._head.value)
        assert settings.model == (name if setting else "")
    assert page.manager.get_model().name == "other"
    page.press("Use in cells")
    until(lambda: "default" in page.board._models._rows["tiny"]._head.value)
    assert "default" not in page.board._models._rows["other"]._head.value
    shell.run_cell("%llm Hi")
    assert shell.user_ns["_llm"].model == "tiny"


def test_the_settings_of_cells_hold_for_loads_from_here(
    shell: InteractiveShell, open_page: Any
) -> None:
    page = open_page()
    load(shell, lambda: page.manager)
    shell.run_line_magic("llm_config", "context=2048")
    page.press("Load")
    until(lambda: page.opener.opened)
    assert page.opener.opened[0].info.load.context_length == 2048


def test_long_names_have_a_row_and_their_whole_text(open_page: Any) -> None:
    name = "a-very-long-name-" * 20
    page = open_page(models=[fake_info(name)])
    (head,) = [w.value for w in walk(page.board._models._list, ipywidgets.HTML) if name in w.value]
    assert f'title="{name}"' in head


def test_a_manager_without_the_extension_has_a_default_too() -> None:
    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener())
    board = Dashboard(manager)
    assert board._cells.model(manager.list_statuses()) is None
    assert board._cells.load_options().set_values() == {}
    board.close()
