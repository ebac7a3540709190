"""Charts of the report as inline SVG: lines labelled where they end, reference lines labelled where they lie, one unit an axis, nothing else.

Titles and explanations stand in the page, so no chart holds text of a user (whose characters its fonts may lack).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLUE, ORANGE, GREY, RED, INK = "#1f6fb4", "#c8640a", "#9aa3ad", "#b3261e", "#2b3138"
MAX_POINTS = 400  # more than a chart has pixels for; longer series are averaged in blocks
LEAST_RANGE = 0.05  # of a chart of shares: noise of a tenth of a point is not blown up to its height
LABEL_GAP = 0.085  # of the chart's height: labels closer than this would overlap
_STYLE: Any = {"font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "ernie", "axes.edgecolor": GREY, "axes.linewidth": 0.8, "text.color": INK,
          "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}  # fmt: skip


def rate_text(rate: float) -> str:
    """Return a learning rate as people write it: ``0.0005`` -> ``5e-4``."""
    if rate == 0:
        return "0"
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


Unit = Literal["percent", "plain", "count", "rate"]
_TICKS: dict[Unit, Callable[[float], str]] = {
    "percent": lambda v: f"{100 * v:g} %",
    "plain": lambda v: f"{v:g}".replace("-", "−"),
    "count": lambda v: f"{v:,.0f}",
    "rate": rate_text,
}


@dataclass(frozen=True)
class Line:
    """One curve: `y` over `x`; its label stands at its end, none if empty. `thin` is for single trials and raw training values."""

    x: Sequence[float]
    y: Sequence[float]
    color: str
    label: str = ""
    thin: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal reference line with its label."""

    y: float
    label: str


@dataclass(frozen=True)
class Interval:
    """A difference with its interval, in points."""

    label: str
    middle: float
    low: float
    high: float


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    unit: Unit,
    description: str,
    levels: Sequence[Level] = (),
    borders: Sequence[float] = (),
    x_end: float = 0,
) -> str:
    """Return a chart of lines as SVG text.

    Args:
        lines: curves; values that are not finite leave gaps.
        x_label: what the x axis counts.
        unit: of the y axis: "percent" takes shares.
        description: read out in place of the picture.
        levels: reference lines.
        borders: x positions where a stage begins.
        x_end: the x axis reaches from 0 to here at least, so that charts beside one another compare.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 2.9))
        axes = figure.add_axes((0.1, 0.165, 0.68, 0.79))
        drawn = [(line, *_thinned(line)) for line in lines]
        for line, x, y in drawn:
            width, alpha = (0.8, 0.6) if line.thin else (1.8, 1.0)
            style = (0, (2, 2)) if line.dashed else "-"
            axes.plot(x, y, color=line.color, linewidth=width, alpha=alpha, linestyle=style, marker="o" if len(x) < 3 else None, markersize=3)
        for level in levels:
            axes.axhline(level.y, color=RED, linewidth=1.1, linestyle=(0, (4, 3)))
        for border in borders:
            axes.axvline(border, color=GREY, linewidth=0.8, linestyle=":")
        _dress(axes, x_label)
        axes.set_xlim(0, max([x_end, *(float(x.max()) for _, x, _ in drawn if len(x))]) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _TICKS[unit](v)))
        _room(axes, LEAST_RANGE if unit == "percent" else 0.0)
        if unit == "count":
            axes.set_ylim(bottom=0)
        ends = [(float(y[np.isfinite(y)][-1]), line.label, line.color) for line, _, y in drawn if line.label and np.isfinite(y).any()]
        _label_ends(axes, ends + [(level.y, level.label, RED) for level in levels])
        return _svg(figure, description)


def interval_chart(intervals: Sequence[Interval], *, x_label: str, description: str) -> str:
    """Return differences with their intervals around zero as SVG text, one a row."""
    with rc_context(_STYLE):
        height = 0.62 + 0.42 * len(intervals)
        figure = Figure(figsize=(5.6, height))
        axes = figure.add_axes((0.24, 0.5 / height, 0.72, 1 - 0.56 / height))
        axes.axvline(0, color=INK, linewidth=1)
        for row, interval in enumerate(reversed(intervals)):
            clear = interval.low > 0 or interval.high < 0
            color = GREY if not clear else BLUE if interval.low > 0 else ORANGE
            axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=3, solid_capstyle="round")
            axes.plot([interval.middle], [row], "o", color=color, markersize=8)
            axes.annotate(f"{interval.middle:+.1f}", (interval.middle, row), xytext=(0, 8), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(intervals)), [i.label for i in reversed(intervals)])
        axes.set_ylim(-0.6, len(intervals) - 0.3)
        _dress(axes, x_label)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        low, high = axes.get_xlim()
        reach = max(abs(low), abs(high))
        axes.set_xlim(-reach, reach)
        return _svg(figure, description)


def _thinned(line: Line) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    y[~np.isfinite(y)] = math.nan
    if len(x) <= MAX_POINTS:
        return x, y
    blocks = np.array_split(np.arange(len(x)), MAX_POINTS)
    return np.array([x[b].mean() for b in blocks]), np.array([y[b].mean() for b in blocks])


def _dress(axes: Axes, x_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.grid(visible=True, axis="both", color="#e6e9ed", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _room(axes: Axes, least: float) -> None:
    """Leave a margin above and below, so that no curve or level lies on the frame, and show a range of `least` anyway; below 0 only where data are."""
    low, high = axes.get_ylim()
    margin = max(0.04 * (high - low), (least - (high - low)) / 2)
    axes.set_ylim(max(low - margin, 0) if axes.dataLim.y0 >= 0 else low - margin, high + margin)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write labels to the right of the chart at their heights, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    placed = sorted(((y - low) / (high - low), label, color) for y, label, color in ends)
    heights = [h for h, _, _ in placed]
    for _ in range(20):  # each round halves what still overlaps
        for i in range(1, len(heights)):
            overlap = max(0.0, LABEL_GAP - (heights[i] - heights[i - 1]))
            heights[i - 1], heights[i] = heights[i - 1] - overlap / 2, heights[i] + overlap / 2
    for i in reversed(range(len(heights))):  # none above the frame
        heights[i] = min(heights[i], 1 - LABEL_GAP * (len(heights) - 1 - i))
    for height, (_, label, color) in zip(heights, placed, strict=True):
        axes.text(1.015, height, label, color=color, transform=axes.transAxes, va="center", ha="left")


def _svg(figure: Figure, description: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # several charts share a page, and ids must not clash; clip paths and markers keep theirs
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
