"""What a person presses and sees while an answer is written: Stop, jobs, completion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

SETUP = """
%load_ext nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import magics
from nbllm.testing import FakeOpener, fake_info

text = "Some words that make a paragraph with **bold** ones in it.\\n\\n" * 400
opener = FakeOpener(text=text, token_seconds=0.02)
manager = ModelManager([fake_info("tiny"), fake_info("other")], open_model=opener)
magics.load(get_ipython(), lambda: manager)
%llm_load tiny
"""
STOP = "button.jupyter-button:visible"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]


async def test_the_button_stops_a_cell_that_runs(lab_server: Any, open_notebook: Open) -> None:
    lab_server.add_notebook("button.ipynb", [SETUP, "%%llm\nHi", "print(_llm.finish_reason)"])
    notebook = await open_notebook("button.ipynb")
    await notebook.run(0)
    running = await notebook.start(1)
    button = notebook.output(1).locator(STOP)
    await button.wait_for(timeout=15_000)
    await notebook.page.wait_for_timeout(2000)
    await notebook.picture("button-running")
    await button.click()
    await asyncio.wait_for(running, timeout=10)
    text = await notebook.output(1).inner_text()
    assert "stopped" in text
    assert "Traceback" not in text
    assert await button.count() == 0
    await notebook.run(2)
    assert "cancelled" in await notebook.output(2).inner_text()
    await notebook.picture("button-stopped")
    outputs = (await notebook.saved()).cells[1].outputs
    assert "widget" not in str(outputs)
