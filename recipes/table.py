"""Write RESULTS.md from the recipes and what they gave.

python recipes/table.py
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from slimnet.methods.registry import canonical
from slimnet.pipeline.recipe import sweeps_of
from slimnet.report import charts

FOLDER = Path(__file__).parent
#: Columns of accuracies.
WHEN = {"dense": "before", "pruned": "pruned", "fine-tuned": "after"}
#: So many searches are drawn as curves at most.
CURVES = 6
#: What a search may cost in accuracy.
POINT = 0.01


def main() -> None:
    parts = ["# What the recipes gave\n\nAccuracy is measured on the test split, on the exported ONNX, once per run; "
             "mean and standard deviation over seeds. Written by `python recipes/table.py`.\n"]  # fmt: skip
    waiting = []
    for file in sorted(FOLDER.glob("*.toml")):
        recipe = tomllib.loads(file.read_text(encoding="utf-8"))
        results = FOLDER / "results" / f"{file.stem}.json"
        rows = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.exists() else []
        if rows:
            parts.append(section(file.stem, recipe, rows))
        else:
            why = "Not run: no data." if "no data" in recipe.get("note", "") else "Not run yet."
            waiting.append(f"- `recipes/{file.name}`: {recipe['title']}. {why}")
    if waiting:
        parts.append("## Not run\n\n" + "\n".join(waiting) + "\n")
    (FOLDER / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")


def section(name: str, recipe: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Title, command, and one line per combination of the sweeps, with methods by their present names."""
    sweep = list(dict.fromkeys(key for part in sweeps_of(recipe) for key in part))
    figures = searched if "search" in recipe else pruned
    lines = [f"## {recipe['title']}\n", f"`slimnet run recipes/{name}.toml`, {rows[0]['device']}, "
             f"{sum(row['seconds'] for row in rows) / 60:.0f} minutes. {recipe.get('note', '')}\n"]  # fmt: skip
    runs: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        runs.setdefault(tuple(canonical(str(row.get(k, ""))) for k in sweep), []).append(row)
    names = [k.rpartition(".")[2] for k in sweep]
    table = [dict(zip(names, key, strict=True)) | figures(same) for key, same in runs.items()]
    lines += [f"| {' | '.join(table[0])} |", f"|{'--|' * len(table[0])}"]
    lines += [f"| {' | '.join(row.values())} |" for row in table]
    if len(rows) <= CURVES and "search" in recipe:
        draw(rows, sweep, FOLDER / "results" / f"{name}.svg")
    if reach := recipe.get("reach"):
        lines.append(
            f"\nTo reach: {', '.join(f'{key} {value}' for key, value in reach.items())}. {verdict(reach, rows)}"
        )
    return "\n".join(lines) + "\n"


def pruned(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Columns of a recipe that removes filters, or trains single weights to zero."""
    first = rows[0]
    nonzero = first["sparsity"]["nonzero"] if first["sparsity"] else None
    return {
        "seeds": ", ".join(str(row["seed"]) for row in rows),
        **{title: percent([row["accuracy"][when] for row in rows]) for title, when in WHEN.items()},
        "MACs": f"{first['macs']['after']:,}",
        "speedup (MACs)": f"{first['speedup']['flops']:.2f}x",
        "weights not zero": "" if nonzero is None else f"{nonzero:,} ({nonzero / first['sparsity']['total']:.2%})",
    }


def searched(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Columns of a recipe that searches masks, of its first seed: what is left, and how accurate that is."""
    turns = rows[0]["iterations"]
    some = [turns[round(k * (len(turns) - 1) / 3)] for k in range(1, 4)]
    dense = turns[0]["test"]
    good = min((turn["remaining"], turn["iteration"]) for turn in turns if turn["test"] >= dense - POINT)
    index = [turn["pq"][0] for turn in turns]
    return {
        "dense": percent([dense]),
        f"weights left after {', '.join(str(turn['iteration']) for turn in some)} turns": ", ".join(
            f"{turn['remaining']:.2%}" for turn in some
        ),
        "accuracy": ", ".join(f"{turn['test']:.2%}" for turn in some),
        "fewest within a point of dense": f"{good[0]:.2%} (turn {good[1]})",
        "PQ(½,1) first, least, last": f"{index[0]:.3f}, {min(index):.3f}, {index[-1]:.3f}",
    }


def draw(rows: Sequence[Mapping[str, Any]], sweep: Sequence[str], file: Path) -> None:
    """Both indices and the accuracy after each turn, one curve per search."""
    panels: dict[str, dict[str, Any]] = {"PQ index (½, 1)": {}, "PQ index (1, 2)": {}, "accuracy (test)": {}}
    for row in rows:
        label, turns = ", ".join(str(row[key]) for key in sweep if key in row), row["iterations"]
        x = [turn["iteration"] for turn in turns]
        for panel, values in zip(panels.values(), ([t["pq"][0] for t in turns], [t["pq"][1] for t in turns],
                                                   [t["test"] for t in turns]), strict=True):  # fmt: skip
            panel[label] = x, values
    file.write_text(charts.standalone(charts.curves(panels, "turn")), encoding="utf-8")


def percent(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return ""
    return f"{mean(known):.2f}" + (f" ({stdev(known):.2f})" if len(known) > 1 else "") + " %"


def verdict(reach: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether every row keeps to what was to be reached."""
    found = {
        "accuracy": min(row["accuracy"]["after"] for row in rows),
        "macs": max(row["macs"]["after"] for row in rows),
        "nonzero": max((row["sparsity"] or {"nonzero": 0})["nonzero"] for row in rows),
    }
    missed = [key for key, value in reach.items() if (found[key] < value if key == "accuracy" else found[key] > value)]
    return f"**Not reached: {', '.join(missed)}.**" if missed else "Reached."


if __name__ == "__main__":
    main()
