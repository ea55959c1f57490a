"""Answers side by side in a real JupyterLab: as many columns as there is room for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]
Open = Callable[[str], Awaitable[Any]]

CELLS = [
    "%load_ext nbllm\n%llm_load SmolLM2 --as plain\n%llm_load SmolLM2 --as other --ctx 2048",
    "%llm_budget --tokens 200k --usd 2.5",
    "%%llm --models plain,other,missing-model --max-tokens 90 --diff -o answers -t 0.8\n"
    "Give three tips for learning a language, as a list with a bold title each.",
    "[each.finish_reason.value for each in answers]",
    "%llm_budget",
]


async def tops(notebook: Any) -> list[float]:
    """Where the columns of the third cell begin."""
    tops: list[float] = await notebook.output(2).evaluate(
        """(area) => [...area.querySelector('div[style*="grid"]').children]
            .map((column) => Math.round(column.getBoundingClientRect().top))"""
    )
    return tops


async def test_columns_follow_the_width(open_notebook: Open, server: Any) -> None:
    server.add_notebook("beside.ipynb", CELLS)
    notebook = await open_notebook("beside.ipynb")
    await notebook.page.set_viewport_size({"width": 1280, "height": 900})
    for index in range(2):
        await notebook.run(index)
    running = await notebook.start(2)
    await notebook.output(2).get_by_text("tokens/s").first.wait_for()
    await notebook.scroll_to(2)
    await notebook.picture("beside-growing")
    await running
    for index in (3, 4):
        await notebook.run(index)
    assert "'failed'" in await notebook.output(3).inner_text()
    await notebook.hide_left_area()
    assert len(set(await tops(notebook))) == 1
    await pictures(notebook, "1280")
    await notebook.page.set_viewport_size({"width": 800, "height": 900})
    await notebook.page.wait_for_timeout(500)
    assert len(set(await tops(notebook))) == 2
    await pictures(notebook, "800")
    await notebook.page.set_viewport_size({"width": 420, "height": 900})
    await notebook.page.wait_for_timeout(500)
    assert len(set(await tops(notebook))) == 3


async def pictures(notebook: Any, width: str) -> None:
    for theme in notebook.themes:
        await notebook.use_theme(theme)
        for index in (2, 4):
            await notebook.scroll_to(index)
            await notebook.picture(f"beside-{width}-{theme.split()[-1].lower()}-{index}")
