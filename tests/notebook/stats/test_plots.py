"""Figures: what they draw, in which colours, and what they say where there is nothing."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.colors import to_rgb
from PIL import Image

from nbllm.core.hardware.resources import CpuInfo, GpuInfo, MemoryInfo, Resources
from nbllm.core.history import GenerationRecord
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import FinishReason, Timings, Usage
from nbllm.notebook.extension import load
from nbllm.notebook.stats.figure import THEMES
from nbllm.notebook.stats.plots import PLOTS, plot, throughput_by_device
from nbllm.notebook.stats.stats_table import side_by_side, stats_summary, stats_table
from nbllm.testing import FakeOpener, fake_info

GIB = 2**30
BEGAN = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
MACHINE = Resources(
    cpu=CpuInfo(
        model="cpu",
        architecture="x86_64",
        sockets=1,
        physical_cores=2,
        logical_cores=2,
        usable_cores=2,
    ),
    memory=MemoryInfo(total_bytes=16 * GIB, available_bytes=10 * GIB, machine_bytes=16 * GIB),
    gpus=(
        GpuInfo(
            index=0,
            name="gpu",
            vendor="NVIDIA",
            vram_total_bytes=24 * GIB,
            vram_used_bytes=8 * GIB,
        ),
    ),
)


def record(second: float, counts: tuple[int, ...], device: str = "CPU") -> GenerationRecord:
    return GenerationRecord(
        started=BEGAN + timedelta(seconds=second),
        model="a <model> of $money$",
        device=device,
        finish_reason=FinishReason.STOP,
        usage=Usage(completion_tokens=sum(counts)),
        timings=Timings(first_token_seconds=0.0),
        tokens_per_second=sum(counts) / (len(counts) * 0.25),
        token_counts=counts,
    )


def test_throughput_adds_up_what_ran_at_the_same_time() -> None:
    records = [record(0, (10,) * 8), record(1, (10,) * 8), record(0, (5,) * 4, "GPU 0")]
    series = throughput_by_device(records, steps=3)
    assert series.step_seconds == pytest.approx(1.0)
    assert series.rates["CPU"] == pytest.approx([40, 80, 40])
    assert series.rates["GPU 0"] == pytest.approx([20, 0, 0])


def test_no_token_is_lost_in_steps_of_any_length() -> None:
    series = throughput_by_device([record(0, (7, 0, 3, 1)), record(0.9, (4, 4))], steps=17)
    assert sum(series.rates["CPU"]) * series.step_seconds == pytest.approx(19)


@pytest.mark.parametrize("what", [*PLOTS, "all"])
def test_every_figure_has_titles_and_units(what: str) -> None:
    loaded = [fake_info("m", device="GPU 0", memory_bytes=6 * GIB)]
    figure = plot(what, [record(0, (5, 5)), record(2, (9,), "GPU 0")], MACHINE, loaded)
    assert len(figure.axes) == (4 if what == "all" else 1)
    for axes in figure.axes:
        assert axes.get_title(loc="left")
        assert re.search("tokens/s|seconds|GiB", axes.get_xlabel() + axes.get_ylabel())
    png, size = figure._repr_png_()
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (2 * size["width"], 2 * size["height"])
    assert size["width"] <= 960


def test_memory_is_split_into_models_other_use_and_free() -> None:
    loaded = [fake_info("m", device="GPU 0", memory_bytes=6 * GIB)]
    (axes,) = plot("memory", [], MACHINE, loaded).axes
    widths = {bar.get_label(): [patch.get_width() for patch in bar] for bar in axes.containers}
    assert widths == {"m": [0, 6], "other use": [6, 2], "free": [10, 16]}


def test_nothing_covers_anything_and_nothing_is_cut_off() -> None:
    loaded = [fake_info(f"a-model-of-a-long-name-{n}", device="CPU") for n in range(2)]
    records = [record(n, (10,) * 8, device) for n, device in enumerate(("CPU", "GPU 0", "GPU 1"))]
    figure = plot("all", records, MACHINE, [replace(each, memory_bytes=GIB) for each in loaded])
    figure.draw_without_rendering()
    throughput, _, _, memory = figure.axes
    assert throughput.xaxis.label.get_window_extent().x1 < figure.bbox.x1
    legend = throughput.get_legend().get_window_extent()
    assert legend.y1 < throughput.get_window_extent().y1, "it is below the title"
    assert legend.x1 < throughput.get_window_extent().x1
    assert memory.get_legend().get_window_extent().x1 < figure.bbox.x1


@pytest.mark.parametrize("what", ["throughput", "distribution", "first-token"])
def test_without_data_the_figure_says_what_to_do(what: str) -> None:
    (axes,) = plot(what, [], MACHINE, []).axes
    (words,) = axes.texts
    assert "Ask" in words.get_text()


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("theme", "pages"),
    [("auto", ("#ffffff", "#111111")), ("light", ("#ffffff",)), ("dark", ("#111111",))],
)
def test_colours_can_be_seen_on_the_pages_they_are_for(theme: str, pages: tuple[str, ...]) -> None:
    palette = THEMES[theme]
    for page in pages:
        assert contrast(palette.text, page) >= 4
        assert all(contrast(colour, page) >= 3 for colour in palette.series)


def test_the_default_background_is_transparent() -> None:
    png, _ = plot("memory", [], MACHINE, [])._repr_png_()
    assert Image.open(io.BytesIO(png)).convert("RGBA").getpixel((1, 1))[3] == 0


def test_the_magic_returns_a_figure_that_shows_itself(shell: InteractiveShell, tmp_path) -> None:
    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener(text="a b c"))
    load(shell, lambda: manager)
    shell.run_line_magic("llm", "-m tiny Hello.")
    figure = shell.run_line_magic("llm_plot", f"first-token --save {tmp_path}/f.svg")
    data, _ = shell.display_formatter.format(figure)
    assert set(data) == {"image/png", "text/plain"}
    assert "<svg" in (tmp_path / "f.svg").read_text()


def timed(second: float, seconds: float, speed: int, device: str = "CPU") -> GenerationRecord:
    timings = Timings(first_token_seconds=0.1, total_seconds=seconds)
    return replace(record(second, (speed,) * 4, device), timings=timings)


def test_what_ran_side_by_side_is_told_from_what_ran_alone() -> None:
    records = [
        timed(0, 2, 20),
        timed(1.9, 2, 20),  # 0.1 s together are not worth telling
        timed(5, 2, 10),
        timed(5.5, 2, 10),
        timed(5, 2, 30, "GPU 0"),
        timed(9, 0, 1),
    ]
    assert side_by_side(records) == [False, False, True, True, False, False]
    assert side_by_side([]) == []
    (axes,) = plot("distribution", records, MACHINE, []).axes
    labels = [label.get_text().partition("\n")[2] for label in axes.get_yticklabels()]
    assert labels == ["CPU, alone", "CPU, side by side", "GPU 0, alone"]
    (axes,) = plot("distribution", records[:2], MACHINE, []).axes
    assert [label.get_text().partition("\n")[2] for label in axes.get_yticklabels()] == ["CPU"]
    table = stats_table(records)
    assert table["side by side"].tolist() == side_by_side(records)
    assert "side by side" not in repr(stats_table(records[:2]))
    assert "apart" in repr(stats_summary(records))


def test_the_medians_figure_is_at_the_median() -> None:
    values = (4, 20, 96)
    figure = plot("distribution", [timed(9 * n, 2, v) for n, v in enumerate(values)], MACHINE, [])
    (axes,) = figure.axes
    (label,) = axes.texts
    assert label.get_text() == "median 80 tokens/s"
    assert label.xy[0] == 80
    edge = [timed(9 * n, 2, 100) for n in range(3)]
    (axes,) = (figure := plot("distribution", edge, MACHINE, [])).axes
    figure.draw_without_rendering()
    assert axes.texts[0].get_window_extent().x1 < axes.get_window_extent().x1


@pytest.mark.parametrize(
    ("last", "unit"), [(0.2, "seconds"), (100, "seconds"), (3_000, "minutes"), (90_000, "hours")]
)
def test_time_has_two_ticks_at_least_and_a_unit(last: float, unit: str) -> None:
    figure = plot("throughput", [record(0, (3,)), record(last, (3,))], MACHINE, [])
    (axes,) = figure.axes
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert len(shown) >= 2
    assert axes.get_xlabel() == f"{unit} since 01 Jan 12:00:00"
