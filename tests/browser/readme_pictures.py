"""Takes the README's pictures anew, in a real JupyterLab on the bundled model.

Run it with ``pytest tests/browser/readme_pictures.py``, after a change that a reader sees. It is no
test: pytest collects it only where it is named.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"
BYTES_AT_MOST = 150_000
FRAME_SECONDS, LAST_FRAME_SECONDS = 0.15, 4.0
START = "%load_ext nbllm"
PERSON = (
    "from dataclasses import dataclass\n\n@dataclass\nclass Person:\n    name: str\n    age: int"
)
SENTENCE = "%%llm --schema Person -o ann --temperature 0\nAnn is 34 years old and lives in Rome."
TIPS = (
    "%%llm --max-tokens 150 --temperature 0 --repeat-penalty 1.1\n"
    "Give three tips for learning a new language, as a list with a bold title each."
)
STORY = "%%llm --bg --max-tokens 2000 --temperature 0.7 --seed 7\nTell a long story about {}."

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]


async def test_streaming(server: Any, open_notebook: Open) -> None:
    server.add_notebook("streaming.ipynb", [START, PERSON, SENTENCE, "ann", TIPS])
    notebook = await open_notebook("streaming.ipynb")
    await undress(notebook, width=820, height=940)
    await notebook.run(0)
    await notebook.run(1)
    frames: list[tuple[float, bytes]] = []
    for index in (2, 3, 4):
        await film(notebook, await notebook.start(index), frames)
    save_film(frames, DOCS / "streaming.gif")


async def test_dashboard(server: Any, open_notebook: Open) -> None:
    stories = [STORY.format(topic) for topic in ("the sea", "an old train", "winter")]
    server.add_notebook("board.ipynb", [START, "%llm_load SmolLM2", "%llm_dashboard", *stories])
    notebook = await open_notebook("board.ipynb")
    await undress(notebook, width=1000, height=1200)
    for index in range(6):
        await notebook.run(index)
    board = notebook.page.locator(".nbllm-board").first
    await board.get_by_text("tokens/s").first.wait_for()
    await notebook.page.wait_for_timeout(15_000)  # for a stretch of throughput to be drawn
    picture = Image.open(io.BytesIO(await board.screenshot()))
    picture.quantize(128, dither=Image.Dither.NONE).save(DOCS / "dashboard.png", optimize=True)
    assert (DOCS / "dashboard.png").stat().st_size < BYTES_AT_MOST


async def undress(notebook: Any, *, width: int, height: int) -> None:
    """Leave nothing in the window but the notebook."""
    await notebook.page.set_viewport_size({"width": width, "height": height})
    await notebook.hide_left_area()
    await notebook.command("application:toggle-mode")


async def film(
    notebook: Any, running: asyncio.Task[None], frames: list[tuple[float, bytes]]
) -> None:
    """Add pictures of the notebook, with their times, while a cell runs."""
    cells = notebook.page.locator(".jp-Notebook:visible")
    while True:
        ended = running.done()
        frames.append((time.monotonic(), await cells.screenshot()))
        if ended:
            return
        await asyncio.wait([running], timeout=FRAME_SECONDS)


def save_film(frames: list[tuple[float, bytes]], file: Path) -> None:
    """A GIF that plays as fast as it was taken, its colours those of the last picture."""
    times = [seconds for seconds, _ in frames]
    durations = [later - earlier for earlier, later in itertools.pairwise(times)]
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in frames]
    palette = pictures[-1].quantize(32)
    first, *others = (each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures)
    milliseconds = [round(1000 * seconds) for seconds in [*durations, LAST_FRAME_SECONDS]]
    first.save(file, save_all=True, append_images=others, duration=milliseconds, loop=0)
    assert file.stat().st_size < BYTES_AT_MOST
