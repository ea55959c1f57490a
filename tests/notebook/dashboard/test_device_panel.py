"""Charts as SVG: valid, escaped, in scale."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from nbllm.notebook.dashboard.device_panel import line_chart, meter, nice_top


def chart(**series: list[float]) -> str:
    return line_chart(series, points=121, top=100.0, span="2 min ago", unit="tokens/s")


@pytest.mark.parametrize(
    ("value", "top"), [(0, 10), (9, 10), (11, 20), (21, 50), (51, 100), (100, 100), (1234, 2000)]
)
def test_scales_end_at_round_numbers(value: float, top: float) -> None:
    assert nice_top(value) == top


def test_lines_end_at_the_right_edge_and_keep_to_the_box() -> None:
    found = chart(CPU=[0.0, 50.0, 250.0])
    (line,) = re.findall(r'nbllm-line[^"]*" d="M([^"]*)"', found)
    points = [tuple(map(int, point.split())) for point in line.split("L")]
    assert points == [(236, 60), (238, 30), (240, 0)]


def test_charts_are_well_formed_whatever_the_names_are() -> None:
    found = line_chart({'<i>"&': [1.0, 2.0]}, points=3, top=10, span="<", unit="&")
    ElementTree.fromstring(found)
    ElementTree.fromstring(meter("<", 2.0, "&"))
    assert "<i>" not in found


def test_a_chart_of_two_minutes_is_small() -> None:
    assert len(chart(CPU=[99.0] * 500, GPU=[55.0] * 500)) < 6_000


def test_unknown_meters_are_empty() -> None:
    assert "width:0%" in meter("GPU", None, "not told")
