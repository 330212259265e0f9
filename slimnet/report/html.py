"""Pages people look at: report.html of a run, of an analysis, and of several runs side by side.

A page is one file that needs nothing else: styles, a few lines of script and pictures are inside it, and a content
security policy forbids it any connection and any script but its own. Everything that comes from files is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.common.files import replacing
from slimnet.report import charts
from slimnet.report.explain import POOR, stories

if TYPE_CHECKING:
    from jinja2 import Environment

#: Groups shown at once; the others are folded, and drawn up to a number that no reader gets to.
_SHOWN, _DRAWN = 24, 240
#: The published pairs p, q of the PQ index, in the order of reports.
_PAIRS = ("p 0.5, q 1", "p 1, q 2")
#: Figures of an epoch that go by another name than their key.
_NAMES = {"lr": "learning rate"}


def write_report(content: Mapping[str, Any], path: Path) -> None:
    """Write what report.json says as a page.

    Args:
        content: of report.json; keys that are missing or null leave their section out.
        path: of the .html file.
    """
    plain_content = json.loads(json.dumps(content, default=_number))
    _write("report.html.j2", path, title=f"{content['model']}: {content['method']}", **_report(plain_content))


def write_analysis(analysis: Mapping[str, Any], path: Path) -> None:
    """Write what `slimnet analyze` found as a page.

    Args:
        analysis: of analysis.json; parts that are missing leave their section out.
        path: of the .html file.
    """
    _write("analysis.html.j2", path, title=f"{analysis['model']}: analysis", a=analysis, **_analysis(analysis))


def write_comparison(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write runs side by side as a page: `compare.row` of each."""
    dense = {(row["model"], "dense", row["dense_latency"], row["dense_accuracy"]) for row in rows}
    slim = [(row["run"], row["method"], row["latency"], row["accuracy"]) for row in rows]
    points = [point for point in (*slim, *sorted(dense, key=str)) if None not in point]
    plot = _safe(charts.tradeoff(points)) if points else None
    _write("compare.html.j2", path, title=f"{len(rows)} runs", rows=rows, plot=plot)


def _write(template: str, path: Path, **values: Any) -> None:
    text = _environment().get_template(template).render(**values)
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8", errors="replace")  # a command line may hold bytes that are no text


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("slimnet.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    script = (Path(__file__).parent / "templates" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {"script": _safe(script), "script_hash": digest, "poor": POOR}
    environment.filters |= {"count": count, "short_count": short_count, "ms": milliseconds, "times": times,
                            "percent": percent, "scientific": scientific}  # fmt: skip
    return environment


def _safe(text: str) -> Any:
    """Marks as safe what this package has made itself: its script, and pictures, in which names are escaped already."""
    from markupsafe import Markup

    return Markup(text)


def _number(value: Any) -> Any:
    """numpy scalars as plain numbers."""
    return value.item()


# -- what a report shows -------------------------------------------------------------------------------------------


def _report(content: dict[str, Any]) -> dict[str, Any]:
    """The values of the template: the report itself, and its pictures."""
    groups = content["groups"]
    layers = [layer for layer in (content.get("bench") or {}).get("layers", ()) if _is_timed(layer)]
    return {
        "r": content,
        "widths": [_safe(charts.widths(part)) for part in (groups[:_SHOWN], groups[_SHOWN:_DRAWN]) if part],
        "efficiency": _safe(charts.efficiency(layers)) if layers else None,
        "layers": stories(content),
        "phases": _phases(content.get("training") or {}),
        "settings": _settings(content),
    }


def _is_timed(layer: Mapping[str, Any]) -> bool:
    return all(layer["speedup"].get(key) for key in ("flops", "latency")) and bool(layer["ms"]["before"])


def _phases(training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per phase of training its name, curves and settings."""
    found = []
    for name, phase in training.items():
        epochs = phase.get("epochs") or []
        panels = _panels(epochs) | _iterations(phase.get("iterations") or [])
        rest = {key: value for key, value in phase.items() if key not in ("epochs", "iterations", "settings")}
        count = f"{len(epochs)} epochs" if epochs else f"{len(phase.get('iterations') or [])} iterations"
        found.append({"name": name, "count": count, "settings": (phase.get("settings") or {}) | rest,
                      "plot": _safe(charts.curves(panels)) if panels else None})  # fmt: skip
    return found


def _panels(epochs: Sequence[Mapping[str, Any]]) -> dict[str, charts.Series]:
    """One panel per figure that was recorded; "norm kept" and "norm removed" share the panel "norm"."""
    names = [n for n in dict.fromkeys(key for epoch in epochs for key in epoch) if n != "epoch"]
    panels: dict[str, Any] = {}
    for name in names:
        values = [epoch.get(name) for epoch in epochs]
        if any(isinstance(v, int | float) and v == v for v in values):
            title, _, label = name.partition(" ")
            x = [epoch.get("epoch", k) + 1 for k, epoch in enumerate(epochs)]
            panels.setdefault(_NAMES.get(title, title), {})[label or title] = (x, values)
    return panels


def _iterations(rows: Sequence[Mapping[str, Any]]) -> dict[str, charts.Series]:
    """Iterative pruning of single weights: how compressible what is left is, how much that is, and how accurate."""
    if not rows:
        return {}
    x = [row["iteration"] for row in rows]
    indices = {name: (x, [row["pq"][k] for row in rows]) for k, name in enumerate(_PAIRS)}
    shares = {name: (x, [row[key] for row in rows]) for name, key in (("validation", "accuracy"), ("test", "test"))}
    return {
        "PQ index": indices | {"Gini": (x, [row["gini"] for row in rows])},
        "weights left": {"weights left": (x, [row["remaining"] for row in rows])},
        "accuracy": {name: line for name, line in shares.items() if any(v is not None for v in line[1])},
    }


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """How the run was made, as a list of names and values."""
    how = {key: value for key, value in (content.get("how") or {}).items() if value is not None and value != {}}
    seeds = {f"seed of {name}": phase["settings"]["seed"] for name, phase in (content.get("training") or {}).items()
             if "seed" in (phase.get("settings") or {})}  # fmt: skip
    options = {f"option {key}": value for key, value in (how.pop("options", None) or {}).items()}
    return how | options | seeds


# -- what an analysis shows ----------------------------------------------------------------------------------------


def _analysis(a: Mapping[str, Any]) -> dict[str, Any]:
    """The pictures of an analysis."""
    study, sparsity = a.get("criteria"), a.get("compressibility")
    values: dict[str, Any] = {"similarity": None, "overlap": None, "by_layer": None, "pq": None, "spread": []}
    if study and study["criteria"]:
        names, groups = study["criteria"], study["groups"]
        inside = [
            [_median([g["spearman"][i][j] for g in groups]) for j in range(len(names))] for i in range(len(names))
        ]
        maps = {"inside groups (median)": inside, "across groups": study["raw"]["spearman"],
                "across, normalised": study["normalised"]["spearman"]}  # fmt: skip
        values["similarity"] = _safe(charts.heat_maps(names, maps))
        values["overlap"] = _safe(charts.heat_maps(names, {"across groups": study["raw"]["overlap"],
                                  "across, normalised": study["normalised"]["overlap"]}))  # fmt: skip
        values["by_layer"] = _safe(charts.mosaic({g["name"]: g["spearman"] for g in groups[:_DRAWN]}))
        values["spread"] = [_spread(name, groups) for name in names]
    if sparsity and sparsity["layers"]:
        values["pq"] = _safe(charts.curves(_pq_panels(sparsity["layers"]), "layer"))
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
        "fraction that may go": {name: line("ratio", k) for k, name in enumerate(_PAIRS)},
        "Gini index": {"Gini": (x, [part["gini"] for part in parts])},
    }


# -- numbers -------------------------------------------------------------------------------------------------------


def count(value: float | None) -> str:
    """A whole number with separators."""
    return "" if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """A large number in three digits: 25.6 M."""
    if value is None:
        return ""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def milliseconds(value: float | None) -> str:
    """A time in three digits."""
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def times(value: float | None) -> str:
    """A speedup."""
    return "" if value is None else f"{value:.2f}x"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def scientific(value: float | None) -> str:
    """A number whose size may be anything, in two digits."""
    return "" if value is None else f"{value:.2g}"
