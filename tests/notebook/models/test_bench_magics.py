"""``%llm_bench`` in a shell within this process; the measuring itself has tests of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure

from nbllm.core import openers
from nbllm.core.measurements import Benchmark, Measurement
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import magics
from nbllm.notebook.models.bench_table import bench_figure, bench_table
from nbllm.testing import FakeOpener, fake_info

SPEEDS = (
    Measurement(kind="prefill", threads=1, batch=512, sequences=1, tokens_per_second=160.0),
    Measurement(kind="prefill", threads=2, batch=512, sequences=1, tokens_per_second=320.0),
    Measurement(kind="decode", threads=1, batch=1, sequences=1, tokens_per_second=40.0),
    Measurement(kind="decode", threads=2, batch=1, sequences=1, tokens_per_second=80.0),
    Measurement(kind="prefill", threads=2, batch=32, sequences=1, tokens_per_second=240.0),
    Measurement(kind="decode", threads=2, batch=4, sequences=4, tokens_per_second=160.0),
)


@pytest.fixture
def measured(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The magics on a fake model, and the models that were measured, quiet the first time."""
    asked: list[Any] = []

    async def measure(info: Any, resources: Any, *, quick: bool, progress: Any) -> Benchmark:
        asked.append((info.name, quick))
        progress(0.5)
        others = 0.0 if len(asked) == 1 else 0.9
        return Benchmark(measured=SPEEDS, other_cores=others, kept=len(asked) == 1)

    monkeypatch.setattr(openers, "measure_model", measure)
    cloud = fake_info("gpt", local=False)
    manager = ModelManager([fake_info("tiny"), cloud], folder=tmp_path, open_model=FakeOpener())
    magics.load(shell, lambda: manager)
    return asked


def test_it_returns_the_speeds_and_says_what_later_loads_do(
    shell: InteractiveShell, measured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    table: Any = shell.run_line_magic("llm_bench", "tiny --quick")
    assert measured == [("tiny", True)]
    assert table["speed (tokens/s)"].tolist() == [row.tokens_per_second for row in SPEEDS]
    assert table["of the best (%)"].tolist() == [50, 100, 25, 50, 75, 100]
    assert "fastest with 2 threads for writing" in (told := capsys.readouterr().out)
    assert "Later loads on this machine use them" in told


def test_what_was_measured_beside_busy_neighbours_is_said_not_to_count(
    shell: InteractiveShell, measured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("llm_bench", "tiny")
    capsys.readouterr()
    shell.run_line_magic("llm_bench", "tiny")
    assert "kept 0.9 cores busy meanwhile, so this is not kept" in capsys.readouterr().out


def test_a_model_of_the_cloud_cannot_be_measured_here(
    shell: InteractiveShell, measured: list[Any]
) -> None:
    with pytest.raises(UsageError, match="gpt is not on this machine"):
        shell.run_line_magic("llm_bench", "gpt")
    assert not measured


def test_the_figure_has_its_units_and_needs_no_pyplot() -> None:
    imported = "matplotlib.pyplot" in sys.modules
    figure = bench_figure("tiny", SPEEDS)
    assert isinstance(figure, Figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["tokens/s", "tokens/s, all together"]
    assert ("matplotlib.pyplot" in sys.modules) == imported


def test_the_table_is_readable_as_text() -> None:
    assert "reading a prompt" in repr(bench_table(SPEEDS))
