"""Charts for the pages: matplotlib draws them, as SVG whose colours are those of the page.

Every colour here is a stand-in that becomes a CSS variable, so that one chart serves light, dark and paper. Text
remains text, and none of it is read as mathematics: names come from files.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from slimnet.common.quiet import only_errors
from slimnet.common.required import required

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: One curve: a label and its points, None where there is none.
Series: TypeAlias = Mapping[str, tuple[Sequence[float], Sequence[float | None]]]

INK, MUTED, GRID = "#010101", "#020202", "#030303"
KEPT, REMOVED = "#040404", "#050505"
CYCLE = (KEPT, REMOVED, "#060606", "#070707", "#080808", "#090909")
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", KEPT: "kept", REMOVED: "removed"} | {
    colour: f"c{k}" for k, colour in enumerate(CYCLE[2:], 3)
}
_STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": True,
    "font.size": 9, "axes.titlesize": 9, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": MUTED, "axes.titlecolor": INK, "axes.edgecolor": GRID,
    "xtick.color": MUTED, "ytick.color": MUTED, "grid.color": GRID, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "lines.linewidth": 1.6,
}  # fmt: skip
#: Longest label of a row, in characters.
_LABEL = 34


def check_matplotlib() -> None:
    """Make sure, before any work, that charts can be drawn.

    Raises:
        MissingPackage: matplotlib is not installed, or does not work.
    """
    with required("matplotlib", "a page with charts"):
        import matplotlib  # noqa: F401


def _as_svg(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Make inline SVG of what a function draws."""

    @wraps(draw)
    def made(*args: Any, **keywords: Any) -> str:
        salt = str(zlib.crc32(repr((draw.__name__, args)).encode()))  # no two charts of a page share their ids
        with only_errors("matplotlib"):  # it tells users about its font cache
            check_matplotlib()
            from matplotlib import rc_context

            with rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # glyphs its own fonts lack: the reader's browser has them
                buffer = io.StringIO()
                figure = draw(*args, **keywords)
                figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        return _inline(buffer.getvalue(), figure.get_figwidth())

    return made


def _inline(svg: str, inches: float) -> str:
    """The svg element alone, as wide as the page allows, in the colours of the page."""
    svg = svg[svg.index("<svg ") :]
    head, rest = svg[: svg.index(">")], svg[svg.index(">") :]
    head = re.sub(r' (width|height|xmlns|xmlns:xlink|version)="[^"]*"', "", head)
    rest = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", rest, flags=re.DOTALL)
    rest = re.sub(r'<g id="[\w.-]+"(/?)>', r"<g\1>", rest)  # the same in every chart of a page
    rest = re.sub(r"#(0\d)\1\1\b", lambda found: f"var(--{_VARIABLES[found[0]]})", rest)
    return f'{head} style="max-width:{inches * 96:.0f}px"{rest.strip()}'


def standalone(svg: str) -> str:
    """A chart as a file of its own, in the colours of the pages."""
    colours = (Path(__file__).parent / "templates" / "colours.css").read_text(encoding="utf-8")
    style = f"<style>{colours}svg {{ background: var(--card); font-family: sans-serif; }}</style>"
    head, rest = svg[: svg.index(">") + 1], svg[svg.index(">") + 1 :]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{head.replace('<svg ', f'<svg {names} ', 1)}{style}{rest}\n"


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).flat)


# -- names ---------------------------------------------------------------------------------------------------------


def short(name: str, limit: int = _LABEL) -> str:
    """The end of a name, which tells more than its beginning."""
    name = _printable(name.removesuffix(".weight"))
    return name if len(name) <= limit else f"…{name[1 - limit :]}"


def _printable(text: str) -> str:
    """Text that a font can draw: whatever else stands in a name shows as a question mark."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# -- speed ---------------------------------------------------------------------------------------------------------


@_as_svg
def efficiency(layers: Sequence[Mapping[str, Any]]) -> Figure:
    """Latency speedup of each layer over what its MACs promise, the area telling its share of the dense time."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, (axes,) = _figure(6.6, 4.2)
    x, y = (np.array([layer["speedup"][key] for layer in layers]) for key in ("flops", "latency"))
    ms = np.array([layer["ms"]["before"] for layer in layers])
    low, high = min(x.min(), y.min(), 1) * 0.85, max(x.max(), y.max(), 2) * 1.2
    axes.plot([low, high], [low, high], color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.scatter(x, y, s=12 + 900 * ms / ms.sum(), color=KEPT, alpha=0.55, lw=0)
    # Most time lost: what the layer takes beyond its dense time over the promise.
    lost = np.array([layer["ms"]["after"] for layer in layers]) - ms / x
    named: list[int] = []
    for k in np.argsort(-lost)[:3].tolist():
        apart = all(abs(np.log(y[k] / y[other])) > 0.08 * np.log(high / low) for other in named)
        if apart and lost[k] > 0.01 * ms.sum():
            named.append(k)
            axes.annotate(short(layers[k]["name"], 26), (x[k], y[k]), (6, -9), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal", anchor="W")
    axes.set(xlabel="times fewer MACs", ylabel="times faster, measured")
    ticks = [t for t in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128) if low <= t <= high]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid()
    return figure


@_as_svg
def pareto(points: Sequence[tuple[float, float]], what: str) -> Figure:
    """What is kept of a network over how much faster it is: (speedup, share)."""
    from matplotlib.ticker import PercentFormatter

    figure, (axes,) = _figure(6.0, 3.6)
    x, y = zip(*sorted(points), strict=True)
    axes.plot(x, y, "o-", color=KEPT, ms=6)
    for speedup, share in points:
        label = f"{speedup:.2f}x, {share:.1%}"
        axes.annotate(label, (speedup, share), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlabel="times faster, measured", ylabel=what)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(0.15, 0.2)
    axes.grid()
    return figure


@_as_svg
def tradeoff(points: Sequence[tuple[str, str, float, float]]) -> Figure:
    """Accuracy over latency of runs: (label, series, milliseconds, accuracy)."""
    figure, (axes,) = _figure(7.6, 4.2)
    for k, series in enumerate(dict.fromkeys(point[1] for point in points)):
        own = sorted((p for p in points if p[1] == series), key=lambda p: p[2])
        axes.plot(
            [p[2] for p in own],
            [100 * p[3] for p in own],
            "o",
            color=CYCLE[k % len(CYCLE)],
            label=_printable(series),
            ms=6,
        )
    for label, _, ms, accuracy in points:
        axes.annotate(short(label, 24), (ms, 100 * accuracy), (6, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="latency (median, ms)", ylabel="accuracy (%)")
    axes.margins(0.12)
    axes.grid()
    axes.legend(loc="best", labelcolor=INK)
    return figure


# -- curves and heat maps ------------------------------------------------------------------------------------------


@_as_svg
def curves(panels: Mapping[str, Series], xlabel: str = "epoch") -> Figure:
    """Small panels side by side, each with its curves."""
    from matplotlib.ticker import MaxNLocator

    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    figure, found = _figure(min(9.6, 0.4 + 3.2 * columns), 2.25 * rows, rows, columns)
    for axes, (title, series) in zip(found, panels.items(), strict=False):
        for k, (label, (x, y)) in enumerate(series.items()):
            values = np.array([np.nan if v is None else v for v in y], float)
            marker = "o" if len(values) < 12 else ""
            axes.plot(x, values, color=CYCLE[k % len(CYCLE)], label=_printable(label), marker=marker, ms=3)
        axes.set(title=_printable(title), xlabel=xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y")
        if len(series) > 1:
            axes.legend(fontsize=7.5, labelcolor=INK)
    for axes in found[len(panels) :]:
        axes.set_axis_off()
    return figure


@_as_svg
def heat_maps(names: Sequence[str], matrices: Mapping[str, Any]) -> Figure:
    """Tables of numbers between -1 and 1 as shades, side by side; None leaves its field empty.

    Args:
        names: The names of rows and columns.
        matrices: The tables by title, each [names, names].
    """
    side = max(1.9, 0.75 + 0.24 * len(names))
    columns = max(1, min(len(matrices), int(9.6 / side)))
    rows = math.ceil(len(matrices) / columns)
    figure, found = _figure(side * columns, (side + 0.2) * rows, rows, columns)
    for axes, (title, values) in zip(found, matrices.items(), strict=False):
        _shades(axes, names, values)
        axes.set_title(title)
    for axes in found[len(matrices) :]:
        axes.set_axis_off()
    return figure


@_as_svg
def mosaic(matrices: Mapping[str, Any], columns: int = 6) -> Figure:
    """Many small symmetric tables, their lower halves as shades, each below its name."""
    from matplotlib.collections import PolyCollection

    rows = math.ceil(len(matrices) / columns)
    figure, (axes,) = _figure(9.6, 0.1 + 1.35 * rows)
    boxes: list[Any] = []
    shades: list[tuple[float, ...]] = []
    for k, (name, values) in enumerate(matrices.items()):
        matrix, (row, column) = _numbers(values), divmod(k, columns)
        i, j = np.nonzero(np.isfinite(matrix) & np.tri(len(matrix), dtype=bool))
        x = column + 0.85 * (j[:, None] + [0, 1, 1, 0]) / len(matrix)
        y = row + 0.15 + 0.75 * (i[:, None] + [0, 0, 1, 1]) / len(matrix)
        boxes.extend(np.stack([x, y], 2))
        shades.extend(_shade(v) for v in matrix[i, j])
        axes.text(column, row + 0.1, short(name, 24), fontsize=7)
    axes.add_collection(PolyCollection(boxes, facecolors=shades, lw=0))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_axis_off()
    return figure


def _numbers(values: Any) -> Any:
    return np.array([[np.nan if v is None else v for v in row] for row in values], float)


def _shades(axes: Axes, names: Sequence[str], values: Any) -> None:
    from matplotlib.collections import PolyCollection

    matrix, size = _numbers(values), len(names)
    i, j = np.nonzero(np.isfinite(matrix))
    if len(i):
        x, y = j[:, None] + [0, 1, 1, 0], i[:, None] + [0, 0, 1, 1]
        shades = [_shade(v) for v in matrix[i, j]]
        axes.add_collection(PolyCollection(list(np.stack([x, y], 2)), facecolors=shades, lw=0))
    if matrix.size <= 400:
        for r, c in zip(i.tolist(), j.tolist(), strict=True):
            axes.text(c + 0.5, r + 0.5, f"{matrix[r, c]:.2f}", ha="center", va="center", fontsize=6.5)
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_xticks(np.arange(size) + 0.5, [short(name, 18) for name in names], rotation=40, ha="right", fontsize=8)
    axes.set_yticks(np.arange(size) + 0.5, [short(name, 26) for name in names], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _shade(value: float) -> tuple[float, ...]:
    """A colour with an opacity that tells the size of a number, and a hue that tells its sign."""
    colour = KEPT if value >= 0 else REMOVED
    return (*(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)), 0.85 * min(1.0, abs(value)))
