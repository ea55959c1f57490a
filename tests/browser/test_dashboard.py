"""The dashboard in a real JupyterLab: every control, in both widths and themes."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import nbformat
import pytest
from playwright.async_api import TimeoutError as PlaywrightTimeout

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]

LOAD = "%load_ext nbllm\nimport time"
SHOW = "board = %llm_dashboard\nboard"
LONG = "%%llm --bg --max-tokens 4000 --temperature 0 --repeat-penalty 1.2\nTell a very long story."
SPEED = re.compile(r"\d tokens · [\d,]+ tokens/s")  # of an answer that is being written
WAIT = "time.sleep(30)"
NOW = "print(board.ticking)"
LATER = "for _ in range(50):\n    time.sleep(0.1 * board.ticking)\nprint(board.ticking)"


async def press(notebook: Any, words: str, index: int = 0) -> None:
    await notebook.page.locator(f'.nbllm-board button:text-is("{words}")').nth(index).click()


async def see(notebook: Any, text: str | re.Pattern[str], *, seconds: float = 40) -> None:
    board = notebook.page.locator(".nbllm-board").first
    try:
        await board.get_by_text(text).first.wait_for(timeout=seconds * 1000)
    except PlaywrightTimeout:
        await notebook.picture("dashboard-failed")
        raise


async def test_every_control_works(server: Any, open_notebook: Open) -> None:
    server.add_notebook("dashboard.ipynb", [LOAD, SHOW, LONG, WAIT])
    notebook = await open_notebook("dashboard.ipynb")
    page = notebook.page
    await notebook.hide_left_area()
    await notebook.run(0)
    await notebook.run(1)
    await see(notebook, "fits CPU")
    await press(notebook, "Load")
    await see(notebook, "on CPU")
    await press(notebook, "Pin")
    await page.locator('.nbllm-board button:text-is("Unpin")').wait_for()
    await page.get_by_label("Prompt", exact=True).fill("Give three tips for learning a language.")
    await page.get_by_label("Max tokens").fill("90")
    await page.get_by_label("Temperature").fill("0")
    await page.get_by_label("Prompt", exact=True).press("Control+Enter")
    await see(notebook, "first token", seconds=60)
    assert await page.locator(".nbllm-answer .jp-RenderedHTML li").count() >= 1
    await notebook.run(2)
    await see(notebook, "decode")
    await see(notebook, "Tell a very long story.")
    await see(notebook, SPEED)
    await pictures(notebook)
    await press(notebook, "Stop")
    await see(notebook, "No request is running")
    await see(notebook, re.compile("generated .* cancelled"))
    await notebook.run(2)
    await see(notebook, "decode")
    waiting = await notebook.start(3)
    await notebook.wait_for_kernel("busy")
    await press(notebook, "Stop")
    await see(notebook, "No request is running", seconds=15)
    assert not waiting.done(), "the Stop button works while a cell runs"
    await notebook.press_stop()
    await asyncio.wait([waiting])
    await press(notebook, "Unpin")
    await press(notebook, "Unload")
    await see(notebook, "fits CPU")


async def test_model_files_are_made_and_a_job_outlives_the_page(
    server: Any, open_notebook: Open
) -> None:
    server.add_notebook("files.ipynb", [LOAD, SHOW])
    notebook = await open_notebook("files.ipynb")
    page = notebook.page
    await notebook.hide_left_area()
    await notebook.run(0)
    await notebook.run(1)
    await press(notebook, "Model files")
    await page.locator(".nbllm-group:text-is('Python packages')").wait_for()
    await page.get_by_label("Save to").fill("made.gguf")
    await page.get_by_label("Save to").press("Tab")
    await press(notebook, "Quantize")
    await see(notebook, "Quantizing SmolLM2")
    await notebook.saved()
    await page.reload()
    await page.locator(".nbllm-board").wait_for()
    await page.locator(".nbllm-wrap:has-text('Q4_K_M (101 MiB')").wait_for(timeout=60_000)
    await page.locator(".nbllm-group:text-is('Current folder')").wait_for()


async def test_it_rests_when_its_views_are_gone(server: Any, open_notebook: Open) -> None:
    server.add_notebook("views.ipynb", [LOAD, SHOW, SHOW, NOW, LATER])
    notebook = await open_notebook("views.ipynb")
    for index in (0, 1, 2):
        await notebook.run(index)
    boards = notebook.page.locator(".nbllm-board")
    await boards.get_by_text("fits CPU").nth(1).wait_for()
    assert await ticks(notebook) == "True"
    await notebook.select(1)
    await notebook.command("notebook:clear-cell-output")
    await notebook.page.wait_for_timeout(1_500)  # longer than a tick
    assert await ticks(notebook) == "True", "the other view is still there"
    await notebook.select(2)
    await notebook.command("notebook:clear-cell-output")
    assert await ticks(notebook, index=4) == "False"
    await notebook.run(1)
    await boards.get_by_text("as of").first.wait_for()
    assert await ticks(notebook) == "True"
    await notebook.command("docmanager:save")
    await notebook.page.reload()
    await boards.get_by_text("as of").first.wait_for(timeout=60_000)
    await boards.get_by_text("fits CPU").first.wait_for()
    await notebook.wait_for_kernel("idle")
    assert await ticks(notebook) == "True", "a page that was reloaded shows it again"


async def test_a_prompt_goes_into_a_cell_and_the_saved_state_needs_no_kernel(
    server: Any, open_notebook: Open
) -> None:
    server.add_notebook("saved.ipynb", [LOAD, SHOW])
    notebook = await open_notebook("saved.ipynb")
    for index in (0, 1):
        await notebook.run(index)
    await see(notebook, "fits CPU")
    await notebook.page.get_by_label("Load another model").fill("/no/such/file.gguf")
    await notebook.page.get_by_label("Load another model").press("Enter")
    await see(notebook, "No such file")
    await notebook.page.get_by_label("Prompt", exact=True).fill("Is {this} it?\nYes.")
    await press(notebook, "To a cell")
    await see(notebook, "Added as a cell below.")
    state = notebook.output(1).locator("td", has_text="No such file")
    await state.wait_for(state="attached")  # it is kept a little later
    saved = await notebook.saved()
    assert saved.cells[2].source.startswith("%%llm ")
    assert saved.cells[2].source.endswith(" --raw\nIs {this} it?\nYes.")
    assert not await state.is_visible(), "the live one stands in its place"
    saved.cells[0].source += "\n# changed elsewhere, so that its outputs are not trusted"
    for name, outputs_of in (("trusted.ipynb", None), ("untrusted.ipynb", saved)):
        copy = notebook.file.with_name(name)
        if outputs_of is None:
            shutil.copy(notebook.file, copy)
        else:
            nbformat.write(outputs_of, copy)
        again = await open_notebook(name)
        await again.output(1).get_by_text("nbllm dashboard, as of").wait_for()
        await again.page.wait_for_timeout(2_500)  # so long a missing widget is looked for
        text = await again.output(1).inner_text()
        assert "No such file" in text
        assert "widget" not in text
        await again.scroll_to(1)
        await again.picture(f"dashboard-{name.split('.')[0]}")


async def ticks(notebook: Any, index: int = 3) -> str:
    """What a cell prints: whether the dashboard is kept up to date."""
    await notebook.run(index)
    return str(await notebook.output(index).inner_text()).strip()


async def pictures(notebook: Any) -> None:
    """At both widths and in both themes; nothing is wider than its place."""
    for width in (1280, 800):
        await notebook.page.set_viewport_size({"width": width, "height": 1000})
        for theme in notebook.themes:
            await notebook.use_theme(theme)
            await notebook.scroll_to(1)
            await notebook.picture(f"dashboard-{width}-{theme.split()[-1].lower()}")
        wide = await notebook.page.evaluate(
            """() => [...document.querySelectorAll('.nbllm-board, .nbllm-board *')]
                .filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
                    && (e.scrollWidth > e.clientWidth + 1))
                .map(e => e.className)"""
        )
        assert wide == [], f"scroll bars at {width} px"
    await notebook.page.set_viewport_size({"width": 1280, "height": 1000})
