"""A download in JupyterLab: its progress, its end, and a page that was reloaded meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import MIB, FakeHub, fake_hub, made_model

pytestmark = pytest.mark.asyncio(loop_scope="module")

Open = Callable[[str], Any]
SETUP = """
import os
os.environ.update(HF_ENDPOINT={endpoint!r}, HF_HOME={home!r})
%load_ext nbllm
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as hub:
        sizes = {"Q4_K_M": 5, "Q8_0": 9, "BF16": 17}
        files = {f"tiny.{label}.gguf": made_model(size * MIB) for label, size in sizes.items()}
        hub.add("org/tiny-GGUF", **files, **{"mmproj-F16.gguf": made_model(MIB)})
        yield hub


async def test_a_download_is_seen_from_a_page_that_was_reloaded(
    hub: FakeHub, server: Any, open_notebook: Open, tmp_path: Path
) -> None:
    setup = SETUP.format(endpoint=hub.endpoint, home=str(tmp_path))
    server.add_notebook("pull.ipynb", [setup, "%llm_pull org/tiny-GGUF"])
    notebook = await open_notebook("pull.ipynb")
    await notebook.run(0)
    hub.rate = MIB // 4
    await notebook.select(1)
    await notebook.page.evaluate(
        "() => { window.jupyterapp.commands.execute('notebook:run-cell') }"
    )
    line = notebook.page.get_by_text("tiny.Q8_0.gguf █").first
    await line.wait_for(timeout=30_000)
    await notebook.picture("pull-running")
    await notebook.command("docmanager:save")
    await notebook.page.reload()
    await line.wait_for(timeout=30_000)
    before = await line.inner_text()
    await notebook.page.wait_for_timeout(1500)
    assert await line.inner_text() != before, "it goes on in the new page"
    await notebook.picture("pull-reloaded")
    hub.rate = 0
    await notebook.wait_for_kernel("idle")
    await notebook.picture("pull-ended")
