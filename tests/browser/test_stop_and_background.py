"""What a person presses and sees while an answer is written: Stop, jobs, completion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

SETUP = r"""
%load_ext nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import magics
from nbllm.testing import FakeOpener, fake_info

text = "A short line with a **bold** word.\n\n" * 400
opener = FakeOpener(text=text, token_seconds=0.1, reasoning="First I think.\nThen I <i>write</i>.")
manager = ModelManager([fake_info("tiny"), fake_info("other")], open_model=opener)
magics.load(get_ipython(), lambda: manager)
%llm_load tiny
"""
STOP = "button.jupyter-button:visible"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]


async def test_the_button_stops_a_cell_that_runs(server: Any, open_notebook: Open) -> None:
    sources = [SETUP, "%%llm\nHi", "print(_llm.finish_reason)"]
    server.add_notebook("button.ipynb", sources)
    notebook = await open_notebook("button.ipynb")
    await notebook.run(0)
    running = await notebook.start(1)
    button = notebook.output(1).locator(STOP)
    await button.wait_for(timeout=15_000)
    for theme in notebook.themes:
        await notebook.use_theme(theme)
        await notebook.picture(f"button-running-{theme.split()[-1].lower()}")
    await button.click()
    await asyncio.wait_for(running, timeout=10)
    text = await notebook.output(1).inner_text()
    assert "stopped" in text
    assert "Traceback" not in text
    assert await button.count() == 0
    await notebook.run(2)
    assert "cancelled" in await notebook.output(2).inner_text()
    await notebook.output(1).locator("summary").click()
    await notebook.output(1).get_by_text("Then I <i>write</i>.").wait_for(timeout=5_000)
    for theme in reversed(notebook.themes):
        await notebook.use_theme(theme)
        await notebook.picture(f"button-stopped-{theme.split()[-1].lower()}")
    outputs = (await notebook.saved()).cells[1].outputs
    assert "widget" not in str(outputs)
    assert any(output.metadata.get("nbllm") for output in outputs if "metadata" in output)


async def test_a_job_writes_on_while_other_cells_run(server: Any, open_notebook: Open) -> None:
    sources = [SETUP, "%%llm --bg\nHi", "2 + 3", "%llm_jobs", "%llm_jobs wait 1"]
    server.add_notebook("job.ipynb", sources)
    notebook = await open_notebook("job.ipynb")
    await notebook.run(0)
    await notebook.watch_lengths(1)
    await notebook.run(1)
    await notebook.run(2)
    assert "5" in await notebook.output(2).inner_text()
    seen = len(await notebook.lengths())
    await notebook.page.wait_for_function(f"window.seenLengths.length > {seen + 3}")
    await notebook.run(3)
    assert "writing" in await notebook.output(3).inner_text()
    waiting = await notebook.start(4)
    await notebook.output(4).get_by_text("bold").first.wait_for(timeout=10_000)
    await notebook.picture("job-running")
    await notebook.output(1).locator(STOP).click()
    await asyncio.wait_for(waiting, timeout=10)
    for index in (1, 4):
        assert "stopped" in await notebook.output(index).inner_text()
        assert await notebook.output(index).locator(STOP).count() == 0
    await notebook.picture("job-stopped")
    assert "widget" not in str([cell.outputs for cell in (await notebook.saved()).cells])


async def test_models_and_flags_complete(server: Any, open_notebook: Open) -> None:
    server.add_notebook("complete.ipynb", [SETUP, "%%llm ti", "%%llm --max-t"])
    notebook = await open_notebook("complete.ipynb")
    await notebook.run(0)
    for index, word in ((1, "tiny"), (2, "--max-tokens")):
        await notebook.select(index)
        await notebook.command("notebook:enter-edit-mode")
        await notebook.page.keyboard.press("Control+End")
        await notebook.page.keyboard.press("Tab")
        await notebook.page.locator(f'.jp-Completer-item:has-text("{word}")').wait_for()
        await notebook.picture(f"completion-{index}")
        await notebook.page.keyboard.press("Enter")
        await notebook.page.wait_for_function(
            """([index, text]) => {
                const cell = window.jupyterapp.shell.currentWidget.content.widgets[index];
                return cell.model.sharedModel.source === text;
            }""",
            arg=[index, f"%%llm {word}"],
            timeout=15_000,
        )
