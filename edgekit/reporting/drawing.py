"""matplotlib's figures as SVG that takes its colours and its fonts from the page around it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from edgekit.core.lazy import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Dash = Literal["solid", "dashed", "dotted"]
Cell = str | int | float | None

# matplotlib wants real colours: each of these stands for a CSS variable and occurs nowhere else.
INK, MUTED, GRID, GOOD, BAD, OPEN, BAND, CARD = (f"#0f0e{number:02x}" for number in range(8))
SERIES = tuple(f"#0f0d{number:02x}" for number in range(8))
PARTS = tuple(f"#0f0c{number:02x}" for number in range(3))
_NAMES = {
    INK: "ink", MUTED: "muted", GRID: "grid", GOOD: "good", BAD: "bad", OPEN: "open", BAND: "band",
    CARD: "card",
    **{stand_in: f"series-{number}" for number, stand_in in enumerate(SERIES)},
    **{stand_in: f"part-{number}" for number, stand_in in enumerate(PARTS)},
}  # fmt: skip
# Control characters and halves of surrogate pairs: no font has them, and no XML.
_UNDRAWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Border styles of CSS that look like matplotlib's lines of the same name.
DASHES: tuple[Dash, ...] = ("solid", "dashed", "dotted")

# Inches at 72 to the inch: the picture is read at this size on a phone, larger on a desk.
WIDTH = 4.5
TEXT = 10.5
# Characters of a label that are surely not wider than the axes.
_LINE = 50


@dataclass(frozen=True)
class Key:
    """One line of a legend, which is text of the page: it wraps where a picture cannot."""

    label: str
    variable: str
    dash: Dash = "solid"


@dataclass(frozen=True)
class Chart:
    """A picture, what it says in words, and its numbers.

    ``caption`` reads without the picture; ``header`` and ``rows`` hold what it draws, ``foot`` what
    a reader of the numbers should know.
    """

    name: str
    title: str
    caption: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[Key, ...] = ()
    foot: tuple[str, ...] = ()


def colour(series: int) -> str:
    """The stand-in of a series' colour; more series than colours start again."""
    return SERIES[series % len(SERIES)]


def key(label: str, series: int) -> Key:
    """The legend's line of a series."""
    return Key(label, f"series-{series % len(SERIES)}", dash(series))


def dash(series: int) -> Dash:
    """A line style, so that series differ also without colour."""
    return DASHES[series % len(DASHES)]


def figure(height: float, rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure of the common width, and its panels one below the other."""
    drawn = require("matplotlib.figure", "report").Figure(
        figsize=(WIDTH, height), dpi=72, layout="constrained"
    )
    panels = drawn.subplots(rows, 1, squeeze=False)
    axes = [row[0] for row in panels]
    drawn.patch.set_visible(False)
    for panel in axes:
        plain(panel)
    return drawn, axes


def plain(axes: Axes) -> None:
    """Axes without a box, with a light grid along x."""
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(True, axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, pad=6, labelsize=TEXT)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.xaxis.label.set_fontsize(TEXT)
    axes.yaxis.label.set_fontsize(TEXT)


def ratio_ticks(axes: Axes, low: float, high: float, unit: str = "") -> None:
    """A logarithmic x axis from `low` to `high` with a handful of round ticks."""
    ticker = require("matplotlib.ticker", "report")
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = _round_between(low, high)
    axes.xaxis.set_major_locator(ticker.FixedLocator(ticks))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}{unit}"))


def drawable(ratio: float) -> bool:
    """Whether a logarithmic axis can show a ratio and still something else."""
    return 1e-6 < ratio < 1e6


def time_label(axes: Axes, counts: str, ends: str = "") -> None:
    """The name of an axis of times, on two lines where it says more than a picture is wide."""
    kind = f"(logarithmic){ends}"
    axes.set_xlabel(f"{counts}{' ' if len(counts) + len(kind) <= _LINE else chr(10)}{kind}")


def _round_between(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, as close as their labels allow."""
    decades = [10.0**power for power in range(-9, 10)]
    room = 0.15 * math.log(high / low)
    found: list[float] = []
    for steps in (
        (1, *(1 + tenth / 10 for tenth in range(1, 10)), 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
        (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8),
        (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7),
        (1, 1.5, 2, 3, 5),
        (1, 2, 5),
        (1, 3),
        (1,),
    ):
        found = [unit * step for unit in decades for step in steps if low <= unit * step <= high]
        if all(math.log(after / before) >= room for before, after in pairwise(found)):
            break
    return [float(f"{value:g}") for value in found[:: len(found) // 7 + 1]]


def literal(text: str) -> str:
    """A stranger's name as a font can draw it; give it to matplotlib with ``parse_math=False``."""
    return _UNDRAWN.sub("\N{REPLACEMENT CHARACTER}", text)


def heading(axes: Axes, height: float, left: str, right: str) -> None:
    """Text over a row: its name on the left, its value on the right, in the way of no line."""
    across = axes.get_yaxis_transform()
    most = max(12, 50 - len(right))
    name = literal(left if len(left) <= most else f"{left[: most - 1]}…")
    box = {"facecolor": CARD, "edgecolor": "none", "pad": 0.5}
    axes.text(0, height, name, transform=across, color=INK, fontsize=TEXT, va="bottom", bbox=box,
              parse_math=False)  # fmt: skip
    axes.text(1, height, right, transform=across, color=INK, fontsize=TEXT, va="bottom",
              ha="right", fontweight="bold", bbox=box)  # fmt: skip


def close_rows(
    axes: Axes, count: int, label: str, *, low: float = 0.0, high: float, top: float = 0.65
) -> None:
    """The axes of `count` rows drawn at 0, −1, −2…, each under its heading: `low` to `high`.

    A picture of nothing but zeros gets an axis up to 1.
    """
    axes.set_xlim(low, high or 1.0)
    axes.set_ylim(-count + 0.6, top)
    axes.set_yticks([])
    axes.set_xlabel(label)


def svg(drawn: Figure, name: str, label: str) -> str:
    """The figure as an ``<svg>`` element for a page; `label` is what a screen reader says.

    The same figure is the same text on every run: ids are hashed with the name, no date is kept.
    """
    matplotlib = require("matplotlib", "report")
    canvas = require("matplotlib.backends.backend_svg", "report").FigureCanvasSVG(drawn)
    stream = io.StringIO()
    # Text stays text: it can be searched, read aloud, and takes the page's font.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        canvas.print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None,
                                           "Type": None})  # fmt: skip
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several figures share a page: ids are made the figure's own.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for stand_in, variable in _NAMES.items():
        text = text.replace(stand_in, f"var(--{variable})")
    text = re.sub(r"<svg [^>]*>", lambda found: _opening(found[0], name, label), text, count=1)
    return text.strip()


def _opening(tag: str, name: str, label: str) -> str:
    box = re.search(r'viewBox="([^"]+)"', tag)
    escaped = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return (
        f'<svg id="{name}" role="img" aria-label="{escaped}" viewBox="{box[1] if box else ""}"'
        ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
