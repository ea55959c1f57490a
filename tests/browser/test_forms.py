"""What a person sees of forms and conversations in JupyterLab: new cells, diffs, tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]
Open = Callable[[str], Awaitable[Any]]

SETUP = """
%load_ext nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

def use(text):
    opener = FakeOpener(text=text)
    manager = ModelManager([fake_info("tiny")], open_model=opener)
    magics.load(get_ipython(), lambda: manager)
"""
DIFF = "```diff\n--- a/app.py\n+++ b/app.py\n@@ -1,3 +1,3 @@\n import os\n-old = 1\n+new = 2\n```"
TABLE = "| city | people |\n|---|---|\n| Rome | 2761477 |\n| Oslo | 709037 |"
CELLS = [
    SETUP,
    "use('Here:\\n\\n```python\\nprint(6 * 7)\\n```')",
    "%%llm tiny --as code\nMultiply.",
    "print('the cell after')",
    f"use({DIFF!r})",
    "%%llm tiny --as diff\nRename it.",
    f"use({TABLE!r})",
    "%%llm tiny --as table -o cities\nList cities.",
    "%%llm tiny --as dataframe\nList cities.",
    "use('A good question.')\nname = 'Ada'\n%llm_load tiny",
    "%%llm --chat trip --system 'Be brief.'\nWhere to go, {name}?",
    "%%llm --chat trip --show-prompt\nAnd <b>then</b>, {name}? It is {1: 2} and {name.x}.",
    "%llm_chat",
    "%llm_chat show trip",
    "use('```python\\nvalues = [1, 2, 3]\\nprint(values[2])\\n```')\n%llm_load tiny",
    "values = [1, 2, 3]\nprint(values[3])",
    "%llm_fix",
    "%llm_fix --accept",
    "print('the last cell')",
]


async def test_forms_look_right_and_code_lands_in_new_cells(
    server: Any, open_notebook: Open
) -> None:
    server.add_notebook("forms.ipynb", CELLS)
    notebook = await open_notebook("forms.ipynb")
    for index in range(3):
        await notebook.run(index)
    cells = (await notebook.saved()).cells
    assert cells[3].source == "print(6 * 7)"
    assert cells[3].execution_count is None, "it is put there, and never run by itself"
    assert cells[4].source == CELLS[3]
    for index in (*range(4, 12), 11, *range(12, 19)):
        await notebook.run(index)
    cells = (await notebook.saved()).cells
    assert cells[19].source == "values = [1, 2, 3]\nprint(values[2])"
    assert cells[19].execution_count is None
    asked = "And <b>then</b>, Ada? It is {1: 2} and {name.x}."
    for index, shown in (
        (6, notebook.output(6).locator(".nbllm-diff", has_text="+new = 2")),
        (8, notebook.output(8).locator("table")),
        (12, notebook.output(12).filter(has_text=asked)),
        (11, notebook.output(11).filter(has_text="chat trip, turn 1 re-run")),
        (13, notebook.output(13).locator("tbody tr")),
    ):
        await notebook.scroll_to(index)
        await shown.wait_for(timeout=10_000)  # for exactly one; it is drawn when it is in sight
    for theme in notebook.themes:
        await notebook.use_theme(theme)
        for index in (2, 6, 12, 17):
            await notebook.scroll_to(index)
            await notebook.picture(f"forms-{theme.split()[-1].lower()}-{index:02}")
