"""``LlmFigure``: a matplotlib figure that shows itself, in colours for light and dark pages.

A kernel is not told whether its reader's page is light or dark, and the saved picture is seen on
both. So by default the background is transparent and every colour has a contrast of at least 3 to
white and to JupyterLab's #111111 (WCAG 2.2, 1.4.11 for graphics). Hues are those of Okabe and Ito
(https://jfly.uni-koeln.de/color/), darkened where they were too light for white; series differ in
their line styles too.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["LINE_STYLES", "THEMES", "LlmFigure", "Palette", "Theme"]

Theme: TypeAlias = Literal["auto", "light", "dark"]
LINE_STYLES = ("-", "--", ":", "-.")
_PIXELS_PER_INCH = 100
_RETINA = 2


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one theme; ``series`` in the order of their use."""

    background: str
    text: str
    grid: str
    muted: str
    series: tuple[str, ...]

    def of(self, number: int) -> str:
        """The colour of a series, from 0; they repeat."""
        return self.series[number % len(self.series)]


_BOTH = ("#1f83c4", "#d55e00", "#009e73", "#b5659a", "#b07a00", "#3d8fb8")
THEMES: dict[str, Palette] = {
    "auto": Palette("none", "#7a7a7a", "#7a7a7a", "#8a8a8a", _BOTH),
    "light": Palette(
        "#ffffff",
        "#333333",
        "#999999",
        "#bbbbbb",
        ("#0072b2", "#d55e00", "#009e73", "#b5659a", "#b07a00", "#3d8fb8"),
    ),
    "dark": Palette(
        "#111111",
        "#dddddd",
        "#777777",
        "#555555",
        ("#56b4e9", "#e69f00", "#2fc59a", "#cc79a7", "#f0e442", "#d55e00"),
    ),
}


class LlmFigure(Figure):
    """A figure that a notebook shows as it is, whatever backend is in use, or none."""

    def __init__(self, width: float, height: float, palette: Palette) -> None:
        """``width`` and ``height`` are inches of 100 pixels."""
        super().__init__(figsize=(width, height), dpi=_PIXELS_PER_INCH, layout="constrained")
        self.palette = palette
        self.set_facecolor(palette.background)

    def style(self, axes: Axes, title: str, *, x: str = "", y: str = "") -> None:
        """Give ``axes`` a title, labels with their units, and this figure's look."""
        text, grid = self.palette.text, self.palette.grid
        axes.set_facecolor("none")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=text)
        axes.set_xlabel(x, color=text, fontsize=10)
        axes.set_ylabel(y, color=text, fontsize=10)
        axes.tick_params(colors=text, labelsize=9, length=0)
        axes.grid(visible=True, color=grid, alpha=0.25, linewidth=0.8)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_visible(False)

    def say(self, axes: Axes, words: str) -> None:
        """In place of data: what to do so that there is some."""
        axes.set_axis_off()
        axes.text(
            0.5,
            0.5,
            words,
            ha="center",
            va="center",
            color=self.palette.text,
            fontsize=10,
            transform=axes.transAxes,
            wrap=True,
        )

    def legend_of(self, axes: Axes, **settings: Any) -> None:
        """The legend, without a frame, in this figure's colour of text."""
        axes.legend(frameon=False, fontsize=9, labelcolor=self.palette.text, **settings)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=_PIXELS_PER_INCH * _RETINA)
        width, height = (round(inches * _PIXELS_PER_INCH) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}

    def __repr__(self) -> str:
        titles = [axes.get_title(loc="left") for axes in self.axes]
        return f"<LlmFigure: {', '.join(titles)}>"
