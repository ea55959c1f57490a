"""What a person sees and presses in Notebook 7: one notebook, of which each test has its cells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from typing import Any, Literal

import pytest
import pytest_asyncio

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(120)]
Open = Callable[[str], Awaitable[Any]]

SETUP = r"""
%load_ext nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

text = "A short line with a **bold** word.\n\n" * 400
opener = FakeOpener(text=text, token_seconds=0.05)
manager = ModelManager(
    [fake_info("tiny"), fake_info("other", size_bytes=2**30)],
    open_model=opener,
    plan_model=opener.plan_model,
    resources=opener.resources,
)
magics.load(get_ipython(), lambda: manager)
%llm_load tiny
"""
STREAM, STOP, REASON, BUTTON, JOB, SUM, COMPLETE, DASHBOARD, LAST = range(1, 10)
CELLS = [
    SETUP,
    "%%llm --max-tokens 40 --seed 7\nDescribe a line.",
    "%%llm\nDescribe many lines.",
    "print(_llm.finish_reason, len(_llm.text))",
    "%%llm\nDescribe them again.",
    "%%llm --bg\nDescribe them in the background.",
    "2 + 3",
    "%%llm ti",
    "%llm_dashboard",
    "%llm_last",
]
VERSION = tuple(map(int, version("notebook").split(".")[:2]))
STOP_BUTTON = "button.jupyter-button:visible"


@pytest.fixture(scope="module")
def application() -> Literal["lab", "notebook"]:
    return "notebook"


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def notebook(server: Any, open_shared_notebook: Open) -> AsyncIterator[Any]:
    server.add_notebook("seven.ipynb", CELLS)
    notebook = await open_shared_notebook("seven.ipynb")
    await notebook.run(0)
    yield notebook


async def pictures(notebook: Any, name: str, index: int) -> None:
    """A cell in both themes, which ends with the light one."""
    for theme in reversed(notebook.themes):
        await notebook.use_theme(theme)
        await notebook.scroll_to(index)
        await notebook.picture(f"notebook7-{name}-{theme.split()[-1].lower()}")


async def test_an_answer_streams_and_is_saved_once_with_its_recipe(notebook: Any) -> None:
    await notebook.watch_lengths(STREAM)
    await notebook.run(STREAM)
    lengths = await notebook.lengths()
    assert len(set(lengths)) > 3
    shown = notebook.output(STREAM)
    assert await shown.locator(".jp-RenderedHTML strong").count() > 3
    assert "tiny · CPU" in await shown.inner_text()
    await pictures(notebook, "answer", STREAM)
    outputs = (await notebook.saved()).cells[STREAM].outputs
    answer, status = outputs
    assert answer.data["text/html"].count("<strong>") == 5
    assert answer.metadata["nbllm"]["model"] == "tiny"
    assert answer.metadata["nbllm"]["options"]["seed"] == 7
    assert "cut off at the token limit" in status.data["text/plain"]
    assert "widget" not in str(outputs)


async def test_the_toolbar_stops_an_answer_and_keeps_it(notebook: Any) -> None:
    await notebook.watch_lengths(STOP)
    running = await notebook.start(STOP)
    await notebook.page.wait_for_function("new Set(window.seenLengths).size > 3")
    await notebook.press_stop()
    await asyncio.wait_for(running, timeout=10)
    text = await notebook.output(STOP).inner_text()
    assert "A short line" in text
    assert "stopped" in text
    assert "Traceback" not in text
    await notebook.run(REASON)
    reason, length = (await notebook.output(REASON).inner_text()).split()
    assert reason == "cancelled"
    assert int(length) > 0


@pytest.mark.skipif(VERSION < (7, 6), reason="no press reaches a busy kernel before Notebook 7.6")
async def test_the_button_stops_a_cell_that_runs(notebook: Any) -> None:
    running = await notebook.start(BUTTON)
    button = notebook.output(BUTTON).locator(STOP_BUTTON)
    await button.wait_for(timeout=15_000)
    await pictures(notebook, "running", BUTTON)
    await button.click()
    await asyncio.wait_for(running, timeout=10)
    text = await notebook.output(BUTTON).inner_text()
    assert "stopped" in text
    assert "Traceback" not in text
    assert await button.count() == 0
    await pictures(notebook, "stopped", BUTTON)


async def test_a_job_goes_on_while_another_cell_runs(notebook: Any) -> None:
    await notebook.watch_lengths(JOB)
    await notebook.run(JOB)
    await notebook.run(SUM)
    assert "5" in await notebook.output(SUM).inner_text()
    seen = len(await notebook.lengths())
    await notebook.page.wait_for_function(f"window.seenLengths.length > {seen + 3}")
    await notebook.output(JOB).locator(STOP_BUTTON).click()
    await notebook.output(JOB).get_by_text("stopped").wait_for(timeout=10_000)
    assert await notebook.output(JOB).locator(STOP_BUTTON).count() == 0
    await pictures(notebook, "job", JOB)


async def test_tab_completes_a_model(notebook: Any) -> None:
    cell = notebook.page.locator(".jp-Notebook .jp-Cell").nth(COMPLETE)
    await cell.locator(".cm-content").click()
    await notebook.page.keyboard.press("Control+End")
    await notebook.page.keyboard.press("Tab")
    await notebook.page.locator('.jp-Completer-item:has-text("tiny")').wait_for()
    await notebook.picture("notebook7-completion")
    await notebook.page.keyboard.press("Enter")
    await cell.locator('.cm-content:has-text("%%llm tiny")').wait_for()


async def test_the_dashboard_loads_and_unloads(notebook: Any) -> None:
    await notebook.run(DASHBOARD)
    board = notebook.output(DASHBOARD).locator(".nbllm-board")
    row = board.locator(".nbllm-row", has_text="other")
    await board.get_by_text("as of").first.wait_for()
    await row.locator('button:text-is("Load")').click()
    await row.locator('button:text-is("Unload")').wait_for()
    await board.get_by_label("Prompt", exact=True).fill("Hi")
    await board.locator('button:text-is("To a cell")').click()
    await board.get_by_text("Added as a cell below.").wait_for()
    await notebook.command("notebook:delete-cell")
    await pictures(notebook, "dashboard", DASHBOARD)
    await row.locator('button:text-is("Unload")').click()
    await row.locator('button:text-is("Load")').wait_for()


async def test_a_reloaded_page_shows_the_last_answer_again(notebook: Any) -> None:
    await notebook.run(STREAM)
    await notebook.command("docmanager:save")
    await notebook.page.reload()
    await notebook.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    await notebook.wait_for_kernel("idle")
    await notebook.run(LAST)
    shown = notebook.output(LAST)
    assert await shown.locator(".jp-RenderedHTML strong").count() == 5
    await pictures(notebook, "last", LAST)
