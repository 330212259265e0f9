"""Has trace, score, plan and slim become slower? This checkout against another one, network by network, in turns.

    python benchmarks/before_after.py OTHER_CHECKOUT --folder EXPORTED [--only PATTERN] [--again] [--timeout 600]

Each network is timed as `speed.py` does it, in a process of each checkout right after the other, so that what the
machine does meanwhile meets both. A pair that differs by more than 5 % either way is timed twice more, and the medians
count. Writes results/before_after.json and the table results/before_after.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import harness
from speed import LARGE, WARM

FILE = harness.RESULTS / "before_after.json"
HERE = Path(__file__).parents[1]
#: A pair that differs by more than this fraction is timed again.
CLOSE = 0.05


def main() -> None:
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("other", type=Path, help="another checkout of slimnet: how it was before")
    options.add_argument("--folder", default="", help="folder of exported networks, NAME.onnx")
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also networks that are in the table already")
    options.add_argument("--timeout", type=float, default=600, help="seconds per network and checkout")
    given = options.parse_args()
    catalogue = networks.catalogue()
    for name in networks.select(catalogue, given.only):
        if name in harness.read(FILE) and not given.again:
            continue
        row = compared(given.other, name, given.folder, given.timeout)
        harness.write(FILE, harness.read(FILE) | {name: row | {"kind": catalogue[name].kind}})
        print(name, row, flush=True)
    report(harness.read(FILE))


def compared(other: Path, name: str, folder: str, timeout: float) -> dict[str, Any]:
    """Seconds of a network in either checkout."""
    found: dict[str, list[float]] = {"before": [], "after": []}
    order = [("before", other), ("after", HERE)]
    row: dict[str, Any] = {}
    for turn in (1, -1, 1):
        for when, checkout in order[::turn]:
            row = timed(checkout, name, folder, timeout)
            if "times" not in row:
                return {"failed": f"{when}: {row.get('failed', 'no times')}"}
            found[when].append(sum(row["times"].values()))
        if abs(ratio(found) - 1) <= CLOSE:
            break
    return {"params": row["params"], **found, "ratio": round(ratio(found), 4)}


def ratio(found: dict[str, list[float]]) -> float:
    """How many times as long as before."""
    return median(found["after"]) / median(found["before"])


def timed(checkout: Path, name: str, folder: str, timeout: float) -> dict[str, Any]:
    """The row of `speed.py` for one network, in a process that imports the slimnet of that checkout."""
    settings = WARM | {"PYTHONPATH": str(checkout.resolve())}
    return harness.run(checkout / "benchmarks" / "speed.py", ["--one", folder, "", name], timeout, settings)


def report(table: dict[str, Any]) -> None:
    """Write results/before_after.md."""
    done = {name: row for name, row in table.items() if "ratio" in row}
    text = "# Before and after\n\n`python benchmarks/before_after.py OTHER_CHECKOUT --folder EXPORTED`; "
    text += f"{harness.versions('torch', 'torchvision', 'onnx', 'onnx-ir')}.\n\n{__doc__.splitlines()[0]}\n\n"
    ratios = {name: row["ratio"] for name, row in done.items()}
    worst = max(ratios, key=ratios.__getitem__)
    text += f"Median of the {len(ratios)} ratios after/before: {median(ratios.values()):.3f}; "
    text += f"largest {ratios[worst]:.3f} ({worst}).\n\n"
    parts = {
        "classification networks": [row for row in done.values() if row["kind"] == "classification"],
        "all below 200 M parameters": [row for row in done.values() if row["params"] < LARGE],
        "all above": [row for row in done.values() if row["params"] >= LARGE],
    }
    rows = []
    for what, part in parts.items():
        before, after = ([median(row[when]) for row in part] for when in ("before", "after"))
        if part:
            figures = (median(before), median(after), max(before), max(after))
            rows.append([what, len(part), *figures, figures[1] / figures[0], figures[3] / figures[2]])
    columns = ["", "networks", *(f"{what} {when} s" for what in ("median", "worst") for when in ("before", "after"))]
    columns += ["ratio of medians", "ratio of worst"]
    text += harness.markdown(columns, rows) + "\n"
    single = [[name, median(row["before"]), median(row["after"]), row["ratio"]] for name, row in done.items()]
    text += harness.markdown(["network", "before s", "after s", "ratio"], single)
    failed = {name: row["failed"] for name, row in table.items() if "failed" in row}
    text += "".join(f"\n{name}: {why}\n" for name, why in failed.items())
    (harness.RESULTS / "before_after.md").write_text(text)


if __name__ == "__main__":
    main()
