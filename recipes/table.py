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

FOLDER = Path(__file__).parent


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
    """Title, command, and one line per combination of the sweep."""
    sweep = list(recipe.get("sweep", {}))
    varied = [key.rpartition(".")[2] for key in sweep]
    head = [*varied, *("seeds", "dense", "pruned", "fine-tuned", "MACs", "speedup (MACs)", "weights not zero")]
    lines = [f"## {recipe['title']}\n", f"`slimnet run recipes/{name}.toml`, {rows[0]['device']}, "
             f"{sum(row['seconds'] for row in rows) / 60:.0f} minutes. {recipe.get('note', '')}\n"]  # fmt: skip
    lines += [f"| {' | '.join(head)} |", f"|{'--|' * len(head)}"]
    for key in dict.fromkeys(tuple(row[k] for k in sweep) for row in rows):
        same = [row for row in rows if tuple(row[k] for k in sweep) == key]
        lines.append(f"| {' | '.join([*map(str, key), *cells(same)])} |")
    if reach := recipe.get("reach"):
        lines.append(
            f"\nTo reach: {', '.join(f'{key} {value}' for key, value in reach.items())}. {verdict(reach, rows)}"
        )
    return "\n".join(lines) + "\n"


def cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    first = rows[0]
    nonzero = first["sparsity"]["nonzero"] if first["sparsity"] else None
    return [
        ", ".join(str(row["seed"]) for row in rows),
        *(percent([row["accuracy"][when] for row in rows]) for when in ("before", "pruned", "after")),
        f"{first['macs']['after']:,}",
        f"{first['speedup']['flops']:.2f}x",
        "" if nonzero is None else f"{nonzero:,} ({nonzero / first['sparsity']['total']:.2%})",
    ]


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
