"""The chart of groups: how many units each keeps, and where the scores of kept and removed ones lie.

Every page of a run has it. It consists of a few bars and outlines, and is written as SVG right away: importing
matplotlib takes longer than all the rest of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

import numpy as np

from slimnet.report.charts import short

#: Pixels: the width of the chart, the height of a row, and what is left for titles above and for ticks below.
_WIDTH, _ROW, _TITLE, _TICKS = 922, 22, 30, 24
#: Pixels that a letter of a name takes, and a digit of a count.
_LETTER, _DIGIT = 6.4, 5.8
_Points: TypeAlias = Iterable[tuple[float, float]]


def widths(groups: Sequence[Mapping[str, Any]]) -> str:
    """Widths of groups before and after as bars; beside them, where they were ranked, how kept and removed units lie.

    Args:
        groups: The groups, as in report.json.
    """
    ranked = any(group.get("scores") for group in groups)
    left = 12 + _LETTER * max(len(short(group["name"])) for group in groups)
    right = left + (_WIDTH - left) * (0.54 if ranked else 1.0)
    parts = [*_bars(groups, left, right), *(_ridges(groups, right + 20, _WIDTH - 4.0) if ranked else ())]
    height = _TITLE + _ROW * len(groups) + _TICKS
    return f'<svg viewBox="0 0 {_WIDTH} {height}" style="max-width:{_WIDTH}px">{"".join(parts)}</svg>'


def cut(scores: Mapping[str, Any] | None) -> float | None:
    """Where between the lowest and the highest score all removed units end and the kept ones begin, if anywhere."""
    if not scores or len(scores["kept"]) < 2 or not any(scores["kept"]) or not any(scores["removed"]):
        return None
    first, last = np.flatnonzero(scores["kept"])[0], np.flatnonzero(scores["removed"])[-1]
    return float(max(first, last) if first != last else first + 0.5) / len(scores["kept"]) if last <= first else None


def _bars(groups: Sequence[Mapping[str, Any]], left: float, right: float) -> Iterator[str]:
    """Names, and a bar each of what is kept and what went, with both in figures behind it."""
    most = max(1, *(group["before"] for group in groups))
    count = 8 + _DIGIT * len(f"{most:,} of {most:,}")
    unit = (right - left - count) / most
    bottom = _TITLE + _ROW * len(groups)
    for tick in _ticks(most):
        x = left + unit * tick
        yield _path([[(x, _TITLE), (x, bottom)]], 'fill="none" stroke="var(--line)" stroke-width="0.8"')
        yield _text(f"{tick:,}", x, bottom + 14, 'text-anchor="middle" font-size="11" fill="var(--muted)"')
    yield _heading("units kept and removed", left)
    for row, group in enumerate(groups):
        y, after, before = _TITLE + _ROW * (row + 0.5), left + unit * group["after"], left + unit * group["before"]
        yield _text(short(group["name"]), left - 6, y + 4, 'text-anchor="end" font-size="11" fill="var(--muted)"')
        yield _bar(left, after, y, 'fill="var(--kept)"')
        yield _bar(after, before, y, 'fill="var(--removed)" fill-opacity="0.55"')
        figures = f"{group['after']:,} of {group['before']:,}"
        yield _text(figures, before + 6, y + 4, 'font-size="10" fill="var(--muted)"')


def _ridges(groups: Sequence[Mapping[str, Any]], left: float, right: float) -> Iterator[str]:
    """The histograms of scores, removed units behind kept ones, and a line where one ends and the other begins."""
    bottom = _TITLE + _ROW * len(groups)
    floors = [_TITLE + _ROW * (row + 0.9) for row in range(len(groups))]
    ranked = [(floor, group["scores"]) for floor, group in zip(floors, groups, strict=True) if group.get("scores")]
    yield _heading("importance of the units, and the cut", left)
    for side in ("removed", "kept"):
        outlines = [_ridge(scores, side, floor, left, right) for floor, scores in ranked]
        yield _path(outlines, f'fill="var(--{side})" fill-opacity="0.75"')
    yield _path([[(left, y), (right, y)] for y in floors], 'fill="none" stroke="var(--line)" stroke-width="0.7"')
    cuts = [(floor, left + (right - left) * at) for floor, scores in ranked if (at := cut(scores)) is not None]
    lines = [[(x, floor - 0.82 * _ROW), (x, floor)] for floor, x in cuts]
    yield _path(lines, 'fill="none" stroke="var(--ink)" stroke-width="1.3"')
    yield _text("lowest of its group", left, bottom + 14, 'font-size="11" fill="var(--muted)"')
    yield _text("highest", right, bottom + 14, 'text-anchor="end" font-size="11" fill="var(--muted)"')


def _ridge(scores: Mapping[str, Any], side: str, floor: float, left: float, right: float) -> _Points:
    """The outline of the bars of a histogram, standing on the line below a row."""
    counts = np.asarray(scores[side], float)
    most = max(1.0, float(np.max([scores["kept"], scores["removed"]])))
    x = np.repeat(np.linspace(left, right, len(counts) + 1), 2)
    y = floor - 0.78 * _ROW * np.concatenate([[0.0], np.repeat(counts / most, 2), [0.0]])
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _ticks(most: int) -> range:
    """Round numbers from zero to at most `most`, up to six of them."""
    size = 10 ** int(math.log10(most))
    step = next(step for step in (size // 5, size // 2, size, 2 * size) if step and most // step <= 5)
    return range(0, most + 1, step)


def _heading(text: str, x: float) -> str:
    return _text(text, x, _TITLE - 14, 'font-size="12" font-weight="bold" fill="var(--ink)"')


def _text(text: str, x: float, y: float, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _bar(left: float, right: float, y: float, style: str) -> str:
    return (
        f'<rect x="{left:.1f}" y="{y - 0.3 * _ROW:.1f}" width="{right - left:.1f}" height="{0.6 * _ROW:.1f}" {style}/>'
    )


def _path(lines: Iterable[_Points], style: str) -> str:
    """One element for many lines of the same look."""
    data = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) for line in lines)
    return f'<path d="{data}" {style}/>'
