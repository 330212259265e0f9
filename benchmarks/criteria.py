"""Where l1 and l2 rank the filters of trained networks alike, and where they fall apart (Huang et al. 2021, section 4).

    python benchmarks/criteria.py CHECKPOINT... [--data FILE=DATA]

Inside a layer the two are nearly the same. Across layers of filters of d_A and d_B weights, whose standard deviations
are sigma_A and sigma_B, they differ most where one of them sees no difference between the layers: l1 where
sigma_A / sigma_B = d_B / d_A, l2 where it is the root of that. The exponent e of sigma_A / sigma_B = (d_B / d_A)^e
tells how far a pair of layers is from there (e = 1 and e = 1/2); in between, l1 and l2 order the two layers the
opposite way. Checkpoints name their own architecture, or are given as ARCH=FILE. Writes results/criteria.json and
criteria.md.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import harness
import numpy as np

#: Bins of the exponent.
EDGES = (-np.inf, 0.0, 0.5, 1.0, 1.5, np.inf)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("checkpoints", nargs="+", help="FILE or ARCH=FILE")
    options.add_argument("--data", action="append", default=[], metavar="FILE=DATA", help="for APoZ and Taylor")
    given = options.parse_args()
    data = dict(item.split("=", 1) for item in given.data)
    table = {Path(name.rpartition("=")[2]).name: measure(name, data) for name in given.checkpoints}
    harness.write(harness.RESULTS / "criteria.json", table)
    report(table)


def measure(checkpoint: str, data: dict[str, str]) -> dict[str, Any]:
    """Correlations of all criteria inside layers, and of l1 and l2 over pairs of layers by their exponent."""
    from slimnet import load
    from slimnet.analysis.criteria import study
    from slimnet.data.load import load_data
    from slimnet.graph.trace import trace

    arch, _, file = checkpoint.rpartition("=")
    samples = load_data(data[Path(file).name]) if Path(file).name in data else None
    shape = (1, *samples.test.shape) if samples else (1, 3, 32, 32) if arch else None
    found = study(trace(load(Path(file), arch or None, shape)), samples)
    names = found.criteria
    inside = np.array([group.spearman for group in found.groups])
    with_l1 = {name: _median(inside[:, names.index("l1"), k]) for k, name in enumerate(names)}
    pairs = [_pair(a, b) for a, b in itertools.combinations(found.groups, 2) if a.size != b.size]
    binned = np.digitize([exponent for exponent, _ in pairs], EDGES[1:-1])
    bins = [[rho for (_, rho), at in zip(pairs, binned, strict=True) if at == k] for k in range(len(EDGES) - 1)]
    one, two = names.index("l1"), names.index("l2")
    return {"inside": with_l1, "across": float(found.raw.spearman[one, two]),
            "normalised": float(found.normalised.spearman[one, two]),
            "pairs": [{"count": len(part), "mean": float(np.mean(part)) if part else None,
                       "least": min(part, default=None)} for part in bins]}  # fmt: skip


def _pair(a: Any, b: Any) -> tuple[float, float]:
    """The exponent of a pair of layers, and Spearman's correlation of l1 and l2 over the filters of both."""
    from scipy.stats import spearmanr

    scores = [np.concatenate([a.scores[name], b.scores[name]]) for name in ("l1", "l2")]
    return float(np.log(a.rms / b.rms) / np.log(b.size / a.size)), float(spearmanr(*scores).statistic)


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def report(table: dict[str, Any]) -> None:
    """Write results/criteria.md."""
    about = __doc__.split("\n\n", 2)[2].strip()
    text = (
        f"# Criteria on trained networks\n\n`python benchmarks/criteria.py`; {harness.versions('scipy')}.\n\n{about}\n"
    )
    names = list(dict.fromkeys(name for row in table.values() for name in row["inside"]))
    rows = [[name, *(row["inside"].get(n) for n in names)] for name, row in table.items()]
    text += "\nSpearman's correlation with l1 inside a layer, median over the layers:\n\n"
    text += harness.markdown(["network", *names], rows)
    titles = [f"e from {low:g} to {high:g}" for low, high in itertools.pairwise(EDGES)]
    rows = [[name, row["normalised"], row["across"], *map(_cell, row["pairs"])] for name, row in table.items()]
    text += "\nl1 against l2 over all layers, normalised per layer and as they are, and over pairs of layers "
    text += "(mean, least, number of pairs):\n\n"
    text += harness.markdown(["network", "normalised", "as they are", *titles], rows)
    (harness.RESULTS / "criteria.md").write_text(text)


def _cell(part: dict[str, Any]) -> str:
    return f"{part['mean']:.2f}, {part['least']:.2f} ({part['count']})" if part["count"] else ""


if __name__ == "__main__":
    main()
