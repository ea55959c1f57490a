"""Notebooks exported as scripts keep their questions: by nbconvert and by Jupyter Server."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbconvert.exporters import PythonExporter, ScriptExporter
from traitlets.config import Config

from nbllm.notebook import script_export

CONFIGS = Path(script_export.__file__).with_name("jupyter_config")
CELLS = {
    "%llm Who are you?": "get_ipython().run_line_magic('llm', 'Who are you?')",
    "x = %llm Who?": "x = get_ipython().run_line_magic('llm', 'Who?')",
    "d['k'] = %llm Is it so??": "d['k'] = get_ipython().run_line_magic('llm', 'Is it so??')",
    "if True: %llm Hi?": "if True: get_ipython().run_line_magic('llm', 'Hi?')",
    "%%llm\nWhat is it?": "get_ipython().run_cell_magic('llm', '', 'What is it?\\n')",
    "%llm?": "get_ipython().run_line_magic('pinfo', '%llm')",
    "print('%llm Why?')": "print('%llm Why?')",
    "%time 1": "get_ipython().run_line_magic('time', '1')",
}


@pytest.mark.parametrize("exporter", [PythonExporter, ScriptExporter])
@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.json")), ids=lambda file: file.name)
def test_exported_scripts_keep_questions(
    exporter: type[PythonExporter | ScriptExporter], file: Path
) -> None:
    notebook = nbformat.v4.new_notebook(
        metadata={"language_info": {"name": "python", "nbconvert_exporter": "python"}},
        cells=[
            nbformat.v4.new_markdown_cell("%llm Is this text?"),
            *map(nbformat.v4.new_code_cell, CELLS),
        ],
    )
    config = Config(json.loads(file.read_text()))
    script, _ = exporter(config=config).from_notebook_node(notebook)
    assert "# %llm Is this text?" in script
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines == list(CELLS.values())
