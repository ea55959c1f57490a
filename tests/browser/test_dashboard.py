"""The dashboard in a real JupyterLab: every control, in both widths and themes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import TimeoutError as PlaywrightTimeout

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
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
    await notebook.command("application:toggle-left-area")
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
    await press(notebook, "Send")
    await see(notebook, "first token", seconds=60)
    assert await page.locator(".nbllm-answer .jp-RenderedHTML li").count() >= 1
    await notebook.run(2)
    await see(notebook, "writing")
    await see(notebook, SPEED)
    await pictures(notebook)
    await press(notebook, "Stop")
    await see(notebook, "Nothing runs")
    await see(notebook, "ended by: cancelled")
    await notebook.run(2)
    await see(notebook, "writing")
    waiting = await notebook.start(3)
    await notebook.wait_for_kernel("busy")
    await press(notebook, "Stop")
    await see(notebook, "Nothing runs", seconds=15)
    assert not waiting.done(), "the Stop button works while a cell runs"
    await notebook.press_stop()
    await asyncio.wait([waiting])
    await press(notebook, "Unpin")
    await press(notebook, "Unload")
    await see(notebook, "fits CPU")


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
    await boards.get_by_text("live").first.wait_for()
    assert await ticks(notebook) == "True"
    await notebook.command("docmanager:save")
    await notebook.page.reload()
    await boards.get_by_text("live").first.wait_for(timeout=60_000)
    await boards.get_by_text("fits CPU").first.wait_for()
    await notebook.wait_for_kernel("idle")
    assert await ticks(notebook) == "True", "a page that was reloaded shows it again"


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
