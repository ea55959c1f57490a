"""The notebooks run from top to bottom on the bundled model, as a person runs them headless."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
HAS_TEXTS = find_spec("chatterbot_corpus") is not None  # of the extra "test"
NAMES = ("quickstart", "throughput", "dashboard", *(("batches",) if HAS_TEXTS else ()))
pytestmark = pytest.mark.timeout(400)  # whole notebooks, one of them with 200 rows of a table
MACHINE_PATH = re.compile(r"/(root|home|tmp|Users|opt|mnt)/|[A-Z]:\\\\")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A notebook after the README's headless command, each in a folder of its own.

    One after the other: models that decode side by side take each other's cores, and all of
    them together last longer.
    """
    return cache(lambda name: execute(name, tmp_path_factory.mktemp(name)))


def execute(name: str, folder: Path) -> Any:
    """A copy of the notebook in ``folder``, after it has run."""
    for file in (f"{name}.ipynb", "models.json"):
        shutil.copy(NOTEBOOKS / file, folder)
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", f"{name}.ipynb"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{name}: {run.stderr[-3000:]}"
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def each_way(name: str) -> Any:
    """A fixture: the notebook as it has just run, and as it is in the repository."""

    @pytest.fixture(params=["executed", "committed"])
    def notebook(request: pytest.FixtureRequest) -> Any:
        if request.param == "executed":
            return request.getfixturevalue("executed")(name)
        return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)

    return notebook


quickstart = each_way("quickstart")
throughput = each_way("throughput")
dashboard = each_way("dashboard")
batches = each_way("batches")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook: Any, start: str) -> list[Any]:
    """The outputs of the one cell whose source begins so."""
    (cell,) = (cell for cell in code_cells(notebook) if cell.source.startswith(start))
    return list(cell.outputs)


def shown_text(outputs: list[Any]) -> str:
    """What a reader without a browser sees of some outputs; printed text comes in any pieces."""
    return "".join(o.get("text") or f"{o.get('data', {}).get('text/plain', '')}\n" for o in outputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["executed", "committed"])
def test_every_cell_ran_once_in_order_and_none_failed(
    request: pytest.FixtureRequest, name: str, way: str
) -> None:
    committed = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook = request.getfixturevalue("executed")(name) if way == "executed" else committed
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in {output.output_type for cell in cells for output in cell.outputs}


def test_the_answer_is_saved_as_html_with_plain_text_beside_it(quickstart: Any) -> None:
    outputs = outputs_of(quickstart, "%%llm --max-tokens")
    (answer,) = (o.data for o in outputs if "<li>" in o.get("data", {}).get("text/html", ""))
    assert set(answer) == {"text/html", "text/plain"}
    assert "1." in answer["text/plain"]


def test_the_result_is_in_the_variable(quickstart: Any) -> None:
    shown = shown_text(outputs_of(quickstart, "result = _llm"))
    assert re.search(r"\d+ tokens; ended by: (stop|length)", shown)


def test_python_streams_and_gathers_on_the_same_model(quickstart: Any) -> None:
    assert shown_text(outputs_of(quickstart, "from nbllm import TextDelta")).strip()
    people = shown_text(outputs_of(quickstart, "import asyncio"))
    assert all(age in people for age in ("34", "25", "41", "67", "19"))


def test_tables_show_models_and_devices(quickstart: Any) -> None:
    (models,) = outputs_of(quickstart, "%llm_models")
    assert "SmolLM2-135M-Instruct" in models.data["text/html"]
    (devices,) = outputs_of(quickstart, "devices = %llm_devices")
    assert "CPU" in devices.data["text/plain"]


def test_the_configured_model_answers(quickstart: Any) -> None:
    outputs = outputs_of(quickstart, "%%llm storyteller")
    assert any("nbllm" in output.get("metadata", {}) for output in outputs)


def test_throughput_compares_the_models_that_it_measured(throughput: Any) -> None:
    (stats,) = outputs_of(throughput, "stats = %llm_stats")
    shown = stats.data["text/plain"]
    assert "one-thread" in shown
    assert "all-threads" in shown
    ratio = shown_text(outputs_of(throughput, "alone = stats"))
    assert re.search(r"is decoded \d+\.\d times as fast", ratio)
    medians = shown_text(outputs_of(throughput, "records = %llm_stats"))
    assert len(re.findall(r"(alone|side by side): median \d+ tokens/s", medians)) == 3
    together = shown_text(outputs_of(throughput, "import asyncio"))
    assert len(re.findall(r"at once: +\d+ tokens/s", together)) == 3
    for figure in ("%llm_plot", "figure = %llm_plot"):
        (output,) = outputs_of(throughput, figure)
        assert output.data["image/png"]


def test_the_dashboard_is_shown_and_stops_one_of_four(dashboard: Any) -> None:
    live, saved = outputs_of(dashboard, "%llm_dashboard")
    assert "application/vnd.jupyter.widget-view+json" in live.data
    assert "nbllm dashboard, as of" in saved.data["text/html"]
    ends = shown_text(outputs_of(dashboard, "for generation in"))
    assert ends.count("cancelled") == 1
    assert len(ends.splitlines()) == 4


@pytest.mark.skipif(not HAS_TEXTS, reason="needs chatterbot-corpus")
def test_two_hundred_texts_are_sorted_better_than_by_chance(batches: Any) -> None:
    shown = shown_text(outputs_of(batches, "right = sorted_texts"))
    share = re.match(r"(\d+)% of 200 rows are right", shown)
    assert share is not None
    assert int(share[1]) > 60
    for figure in ("import matplotlib", "groups = pd.cut", "%llm_plot run"):
        assert any("image/png" in output.get("data", {}) for output in outputs_of(batches, figure))
    (stats,) = outputs_of(batches, "%llm_stats")
    assert "texts" in stats.data["text/plain"]
    dry = shown_text(outputs_of(batches, "%%llm --map texts --decide labels --dry-run"))
    assert "Dry run: 5 of 200 rows asked" in dry


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_authors_machine_is_in_the_repository(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    assert not MACHINE_PATH.search(text)


def test_the_config_beside_it_names_no_key() -> None:
    entries = json.loads((NOTEBOOKS / "models.json").read_text())
    assert [entry["name"] for entry in entries] == ["storyteller", "gpt-4o"]
    assert entries[1]["api_key_env"] == "OPENAI_API_KEY"
