"""What a person presses and sees while an answer is written: Stop, jobs, completion.

All in one notebook, of which each test has its cells.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

SETUP = r"""
%load_ext nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

text = "A short line with a **bold** word.\n\n" * 400
opener = FakeOpener(text=text, token_seconds=0.1, reasoning="First I think.\nThen I <i>write</i>.")
manager = ModelManager([fake_info("tiny"), fake_info("other")], open_model=opener)
magics.load(get_ipython(), lambda: manager)
%llm_load tiny
"""
BUTTON, REASON, JOB, SUM, JOBS, WAIT, MODEL, FLAG, TABLE, RUN = range(1, 11)
CELLS = [
    SETUP,
    "%%llm\nHi",
    "print(_llm.finish_reason)",
    "%%llm --bg\nHi",
    "2 + 3",
    "%llm_jobs",
    "%llm_jobs wait 1",
    "%%llm ti",
    "%%llm --max-t",
    "import pandas as pd\ndf = pd.DataFrame({'text': [f'row <b>{n}</b>' for n in range(400)]})",
    "%%llm --map df --bg --max-tokens 4\nWhat is {text}?",
]
STOP = "button.jupyter-button:visible"

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def notebook(server: Any, open_shared_notebook: Open) -> AsyncIterator[Any]:
    server.add_notebook("stop-and-background.ipynb", CELLS)
    notebook = await open_shared_notebook("stop-and-background.ipynb")
    await notebook.run(0)
    yield notebook


async def test_the_button_stops_a_cell_that_runs(notebook: Any) -> None:
    running = await notebook.start(BUTTON)
    button = notebook.output(BUTTON).locator(STOP)
    await button.wait_for(timeout=15_000)
    for theme in notebook.themes:
        await notebook.use_theme(theme)
        await notebook.picture(f"button-running-{theme.split()[-1].lower()}")
    await button.click()
    await asyncio.wait_for(running, timeout=10)
    text = await notebook.output(BUTTON).inner_text()
    assert "stopped" in text
    assert "Traceback" not in text
    assert await button.count() == 0
    await notebook.run(REASON)
    assert "cancelled" in await notebook.output(REASON).inner_text()
    await notebook.output(BUTTON).locator("summary").click()
    await notebook.output(BUTTON).get_by_text("Then I <i>write</i>.").wait_for(timeout=5_000)
    for theme in reversed(notebook.themes):
        await notebook.use_theme(theme)
        await notebook.picture(f"button-stopped-{theme.split()[-1].lower()}")
    outputs = (await notebook.saved()).cells[BUTTON].outputs
    assert "widget" not in str(outputs)
    assert any(output.metadata.get("nbllm") for output in outputs if "metadata" in output)


async def test_a_job_writes_on_while_other_cells_run(notebook: Any) -> None:
    await notebook.watch_lengths(JOB)
    await notebook.run(JOB)
    await notebook.run(SUM)
    assert "5" in await notebook.output(SUM).inner_text()
    seen = len(await notebook.lengths())
    await notebook.page.wait_for_function(f"window.seenLengths.length > {seen + 3}")
    await notebook.run(JOBS)
    assert "writing" in await notebook.output(JOBS).inner_text()
    waiting = await notebook.start(WAIT)
    await notebook.output(WAIT).get_by_text("bold").first.wait_for(timeout=10_000)
    await notebook.picture("job-running")
    await notebook.output(JOB).locator(STOP).click()
    await asyncio.wait_for(waiting, timeout=10)
    for index in (JOB, WAIT):
        assert "stopped" in await notebook.output(index).inner_text()
        assert await notebook.output(index).locator(STOP).count() == 0
    await notebook.picture("job-stopped")
    assert "widget" not in str([cell.outputs for cell in (await notebook.saved()).cells])


async def test_models_and_flags_complete(notebook: Any) -> None:
    for index, word in ((MODEL, "tiny"), (FLAG, "--max-tokens")):
        cell = notebook.page.locator(".jp-Notebook .jp-Cell").nth(index)
        await cell.locator(".cm-content").click()
        await notebook.page.keyboard.press("Control+End")
        await notebook.page.keyboard.press("Tab")
        await notebook.page.locator(f'.jp-Completer-item:has-text("{word}")').wait_for()
        await notebook.picture(f"completion-{word.strip('-')}")
        await notebook.page.keyboard.press("Enter")
        await notebook.page.wait_for_function(
            """([index, text]) => {
                const cell = window.jupyterapp.shell.currentWidget.content.widgets[index];
                return cell.model.sharedModel.source === text;
            }""",
            arg=[index, f"%%llm {word}"],
            timeout=15_000,
        )


async def test_a_table_is_asked_about_in_the_background_and_stopped(notebook: Any) -> None:
    await notebook.run(TABLE)
    await notebook.scroll_to(RUN)
    await notebook.run(RUN)
    output = notebook.output(RUN)
    await output.get_by_text("of 400 rows").wait_for(timeout=20_000)
    await output.locator("td", has_text="row <b>").first.wait_for(timeout=10_000)
    await notebook.picture("table-running")
    await output.locator(STOP).click()
    await output.locator(STOP).wait_for(state="detached", timeout=10_000)
    await output.locator("td", has_text="row <b>399</b>").wait_for(timeout=10_000)
    await output.get_by_text("■ stopped").wait_for(timeout=10_000)
    await notebook.picture("table-stopped")
