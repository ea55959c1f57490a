"""Charts as small SVG texts, in the colours of the page; pure functions.

Lines are drawn in a box that stretches with the page, their labels are ordinary text around it,
so that they keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nbllm.core.rendering.escaping import attribute_html, text_html

__all__ = ["line_chart", "meter", "nice_top"]

_WIDTH, _HEIGHT = 240, 60


def nice_top(value: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below ``value``; at least 10."""
    if value <= 10:
        return 10.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def line_chart(
    series: Mapping[str, Sequence[float]], *, points: int, top: float, span: str, unit: str
) -> str:
    """Lines of the last ``points`` values of each series, from 0 to ``top``, the newest right.

    ``span`` says how long ago the left edge is, ``unit`` what is counted. The last values stand
    in the legend.
    """
    lines = "".join(
        _line(number, values[-points:], points, top)
        for number, values in enumerate(series.values())
    )
    legend = "".join(
        f'<span><i class="nbllm-key nbllm-s{number % 6}"></i>{text_html(name)} '
        f"<b>{values[-1] if values else 0:,.0f}</b></span>"
        for number, (name, values) in enumerate(series.items())
    )
    grid = "".join(
        f'<path class="nbllm-grid" d="M0 {y}H{_WIDTH}"/>' for y in (0, _HEIGHT // 2, _HEIGHT)
    )
    return (
        f'<div class="nbllm-chart"><div class="nbllm-legend">{legend}</div>'
        f'<div class="nbllm-plot"><div class="nbllm-scale"><span>{top:,.0f}</span>'
        f"<span>{top / 2:,.0f}</span><span>0</span></div>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{attribute_html(unit)}">{grid}{lines}</svg></div>'
        f'<div class="nbllm-times"><span>{text_html(span)}</span>'
        f"<span>{text_html(unit)}</span><span>now</span></div></div>"
    )


def meter(name: str, fraction: float | None, words: str) -> str:
    """A labelled bar that is full at 1; empty where the fraction is not known."""
    percent = 0 if fraction is None else round(100 * min(1.0, max(0.0, fraction)))
    return (
        f'<div class="nbllm-meter"><span>{text_html(name)}</span>'
        f'<div class="nbllm-bar"><i style="width:{percent}%"></i></div>'
        f"<b>{text_html(words)}</b></div>"
    )


def _line(number: int, values: Sequence[float], points: int, top: float) -> str:
    if len(values) < 2:
        return ""
    step = _WIDTH / (points - 1)
    first = points - len(values)
    marks = [
        f"{(first + i) * step:.0f} {_HEIGHT - _HEIGHT * min(value, top) / top:.0f}"
        for i, value in enumerate(values)
    ]
    line = "L".join(marks)
    begin, kind = first * step, f"nbllm-s{number % 6}"
    return (
        f'<path class="nbllm-area {kind}" d="M{begin:.0f} {_HEIGHT}L{line}L{_WIDTH} {_HEIGHT}z"/>'
        f'<path class="nbllm-line {kind}" d="M{line}"/>'
    )
