"""The page of an analysis."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet.report import charts
from slimnet.report.page import write_page

#: The published pairs p, q of the PQ index, in the order of reports.
_PAIRS = ("p 0.5, q 1", "p 1, q 2")
#: Groups that are drawn: a number that no reader gets to.
_DRAWN = 240


def write_analysis(analysis: Mapping[str, Any], path: Path) -> None:
    """Write what `slimnet analyze` found as a page.

    Args:
        analysis: The plain values of analysis.json; parts that are missing leave their section out.
        path: The .html file.
    """
    write_page("analysis.html.j2", path, title=f"{analysis['model']}: analysis", a=analysis, **_charts(analysis))


def _charts(a: Mapping[str, Any]) -> dict[str, Any]:
    """The charts of an analysis, and the table of spreads."""
    study, sparsity = a.get("criteria"), a.get("compressibility")
    values: dict[str, Any] = {"similarity": None, "overlap": None, "by_layer": None, "pq": None, "spread": []}
    if study and study["criteria"]:
        names, groups = study["criteria"], study["groups"]
        inside = [
            [_median([g["spearman"][i][j] for g in groups]) for j in range(len(names))] for i in range(len(names))
        ]
        maps = {"inside groups (median)": inside, "across groups": study["raw"]["spearman"],
                "across, normalised": study["normalised"]["spearman"]}  # fmt: skip
        values["similarity"] = charts.heat_maps(names, maps)
        maps = {"across groups": study["raw"]["overlap"], "across, normalised": study["normalised"]["overlap"]}
        values["overlap"] = charts.heat_maps(names, maps)
        values["by_layer"] = charts.mosaic({g["name"]: g["spearman"] for g in groups[:_DRAWN]})
        values["spread"] = [_spread(name, groups) for name in names]
    if sparsity and sparsity["layers"]:
        values["pq"] = charts.curves(_pq_panels(sparsity["layers"]), "layer")
    return values


def _median(values: Sequence[float | None]) -> float | None:
    known = sorted(v for v in values if v is not None)
    return statistics.median(known) if known else None


def _spread(name: str, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far a criterion tells filters apart: medians over the groups it can rank."""
    found = [g["applicability"][name] for g in groups if name in g["applicability"]]
    keys = ("by_mean", "by_square", "expected")
    return {"name": name, "groups": len(found)} | {key: _median([part[key] for part in found]) for key in keys}


def _pq_panels(layers: Sequence[Mapping[str, Any]]) -> dict[str, charts.Series]:
    x = list(range(1, len(layers) + 1))
    parts = [layer["layer"] for layer in layers]

    def line(key: str, k: int) -> tuple[list[int], list[float]]:
        return x, [part["indices"][k][key] for part in parts]

    return {
        "PQ index of the weights": {name: line("index", k) for k, name in enumerate(_PAIRS)},
        "fraction that can be removed": {name: line("ratio", k) for k, name in enumerate(_PAIRS)},
        "Gini index": {"Gini": (x, [part["gini"] for part in parts])},
    }
