"""``%llm_bench`` in a shell within this process; the measuring itself has tests of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core import openers
from nbllm.core.hardware.resource_sample import BusyProcess
from nbllm.core.measurements import Benchmark, Measurement
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.notebook.models.speed_tables import bench_figure, bench_table
from nbllm.notebook.stats.figure import LlmFigure
from nbllm.testing import FakeOpener, fake_info

SPEEDS = (
    Measurement(kind="prefill", threads=1, batch=512, sequences=1, tokens_per_second=160.0),
    Measurement(kind="prefill", threads=2, batch=512, sequences=1, tokens_per_second=320.0),
    Measurement(kind="decode", threads=1, batch=1, sequences=1, tokens_per_second=40.0),
    Measurement(kind="decode", threads=2, batch=1, sequences=1, tokens_per_second=80.0),
    Measurement(kind="prefill", threads=2, batch=32, sequences=1, tokens_per_second=240.0),
    Measurement(kind="decode", threads=2, batch=4, sequences=4, tokens_per_second=160.0),
)
QUIET = Benchmark(measured=SPEEDS, other_cores=0.0, noisy=False)


@pytest.fixture
def measured(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The magics on a fake model, and the models that were measured, quiet the first time."""
    asked: list[Any] = []

    async def measure(info: Any, resources: Any, *, thorough: bool, progress: Any) -> Benchmark:
        asked.append((info.name, thorough, info.load.kv_unified))
        progress(0.5)
        others = 0.0 if len(asked) == 1 else 0.9
        return Benchmark(measured=SPEEDS, other_cores=others, noisy=len(asked) > 1)

    monkeypatch.setattr(openers, "measure_model", measure)
    monkeypatch.setattr(openers, "bench_seconds", lambda *asked, thorough: 600 if thorough else 9)
    busy = [BusyProcess(0.9, "python", 7)]
    monkeypatch.setattr("nbllm.core.hardware.resource_sample.busy_processes", lambda: busy)
    cloud = fake_info("gpt", local=False)
    manager = ModelManager([fake_info("tiny"), cloud], folder=tmp_path, open_model=FakeOpener())
    magics.load(shell, lambda: manager)
    return asked


def test_it_returns_the_speeds_and_says_what_later_loads_do(
    shell: InteractiveShell, measured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    table: Any = shell.run_line_magic("llm_bench", "tiny --thorough")
    assert measured == [("tiny", True, None)]
    assert table["speed (tokens/s)"].tolist() == [row.tokens_per_second for row in SPEEDS]
    assert table["of the best (%)"].tolist() == [50, 100, 25, 50, 75, 100]
    assert "fastest with 2 threads for decode" in (told := capsys.readouterr().out)
    assert "Later loads on this machine use them" in told


def test_what_was_measured_beside_busy_neighbours_is_said_not_to_count(
    shell: InteractiveShell, measured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("llm_bench", "tiny")
    capsys.readouterr()
    table = shell.run_line_magic("llm_bench", "tiny")
    told = capsys.readouterr().out
    assert "takes up to 9.0 s" in told
    assert "Also busy: python (process 7) using 0.9 cores" in told
    assert told.index("takes up to") < told.index("fastest with")
    assert "Noisy: other processes kept 0.9 cores busy meanwhile" in told
    assert table["noisy"].all()
    assert "noisy" in repr(table)
    assert measured[-1] == ("tiny", False, None), "quick is the default"


def test_a_cache_with_a_share_for_each_request_can_be_measured(
    shell: InteractiveShell, measured: list[Any]
) -> None:
    shell.run_line_magic("llm_bench", "tiny --no-kv-unified")
    assert measured == [("tiny", False, False)]


def test_a_model_of_the_cloud_cannot_be_measured_here(
    shell: InteractiveShell, measured: list[Any]
) -> None:
    with pytest.raises(UsageError, match="gpt is not a local model"):
        shell.run_line_magic("llm_bench", "gpt")
    assert not measured


def test_the_figure_has_its_units_and_needs_no_pyplot() -> None:
    imported = "matplotlib.pyplot" in sys.modules
    figure = bench_figure("tiny", QUIET)
    assert isinstance(figure, LlmFigure), "a notebook shows it, whatever backend is in use"
    assert [axes.get_ylabel() for axes in figure.axes] == ["tokens/s", "tokens/s, all together"]
    assert ("matplotlib.pyplot" in sys.modules) == imported


def test_the_table_is_readable_as_text() -> None:
    assert "prefill" in (told := repr(bench_table(QUIET)))
    assert "noisy" not in told


def test_noise_is_marked_in_the_figure() -> None:
    noisy = bench_figure("tiny", Benchmark(measured=SPEEDS, other_cores=0.9, noisy=True))
    assert "Noisy" in noisy.get_suptitle()
    assert {line.get_linestyle() for axes in noisy.axes for line in axes.lines} == {"--"}
    quiet = bench_figure("tiny", QUIET)
    assert "Noisy" not in quiet.get_suptitle()
