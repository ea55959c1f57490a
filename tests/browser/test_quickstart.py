"""What a person sees in JupyterLab: the answer arriving, rendered, stopped, and saved."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
LONG = "%%llm --max-tokens 2000 --temperature 0 --repeat-penalty 1.2\nTell a very long story."
MEASURED = """
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

name = "SmolLM2-135M-Instruct.Q4_1"
info = fake_info(name, quantization="q4_1", parameters=0.135, size_bytes=2**27, source="bundled")
opener = FakeOpener(text="Some words that go on. " * 20, token_seconds=0.001)
manager = ModelManager([info], open_model=opener)
magics.load(get_ipython(), lambda: manager)
model = (await manager.load_model(name))[0]
for _ in range(3):
    await model.generate("Hi")
async for event in model.stream("Hi"):
    break
"""

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]


async def test_quickstart_streams_and_renders_and_saves(server: Any, open_notebook: Open) -> None:
    for file in ("quickstart.ipynb", "models.json"):
        shutil.copy(NOTEBOOKS / file, server.folder)
    notebook = await open_notebook("quickstart.ipynb")
    sources = [cell.source for cell in (await notebook.saved()).cells]
    ask = next(i for i, source in enumerate(sources) if source.startswith("%%llm --max-tokens"))
    await notebook.command("notebook:clear-all-cell-outputs")
    await notebook.watch_lengths(ask)
    await notebook.command("notebook:run-all-cells")
    assert len(set(await notebook.lengths())) > 3
    rendered = notebook.output(ask).locator(".jp-RenderedHTML")
    assert await rendered.locator("li").count() >= 1
    saved = (await notebook.saved()).cells
    assert all(
        cell.outputs for cell in saved[ask:] if cell.cell_type == "code" and "%" in cell.source
    )
    assert any("nbllm" in output.metadata for output in saved[ask].outputs)
    for theme in notebook.themes:
        await notebook.use_theme(theme)
        for index in range(0, len(saved), 6):
            await notebook.scroll_to(index)
            await notebook.picture(f"quickstart-{theme.split()[-1].lower()}-{index:02}")


async def test_tables_fit_the_page(server: Any, open_notebook: Open) -> None:
    tables = ["%llm_stats", "%llm_stats --summary", "%llm_models", "%llm_devices", "%llm_fit"]
    values = [
        "manager.list_available_models()",
        "info",
        "import nbllm; nbllm.ResourceDetector().detect()",
    ]
    server.add_notebook("tables.ipynb", [MEASURED, *tables, *values])
    notebook = await open_notebook("tables.ipynb")
    for index in range(1 + len(tables) + len(values)):
        await notebook.run(index)
    hidden = 0
    for width in (1280, 800):
        await notebook.page.set_viewport_size({"width": width, "height": 1000})
        for index, source in enumerate([*tables, *values], 1):
            frame = notebook.output(index).locator("table").locator("..")
            wider = await frame.evaluate("(div) => div.scrollWidth - div.clientWidth")
            assert wider <= 0, f"{source} at {width}"
            assert await frame.evaluate("(div) => getComputedStyle(div).overflowX") == "auto"
            hidden += await notebook.output(index).get_by_text("Not shown here").is_visible()
        for theme in notebook.themes:
            await notebook.use_theme(theme)
            for index in (1, 4):
                await notebook.scroll_to(index)
                await notebook.picture(f"tables-{theme.split()[-1].lower()}-{width}-{index}")
    assert hidden, "some columns gave way, and are named"


async def test_stop_button_keeps_the_partial_answer(server: Any, open_notebook: Open) -> None:
    server.add_notebook(
        "stop.ipynb",
        [
            "%load_ext nbllm\n%llm_load SmolLM2-135M",
            LONG,
            "print(_llm.finish_reason, len(_llm.text))",
        ],
    )
    notebook = await open_notebook("stop.ipynb")
    await notebook.run(0)
    await notebook.watch_lengths(1)
    running = await notebook.start(1)
    await notebook.page.wait_for_function("new Set(window.seenLengths).size > 3")
    await notebook.picture("stop-running")
    await notebook.press_stop()
    await asyncio.wait_for(running, timeout=10)
    text = await notebook.output(1).inner_text()
    assert "Traceback" not in text
    assert "stopped" in text.lower()
    await notebook.run(2)
    reason, length = (await notebook.output(2).inner_text()).split()
    assert reason == "cancelled"
    assert int(length) > 0
    await notebook.picture("stop-stopped")
