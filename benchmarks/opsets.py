"""Walk opsets: is what slimnet writes valid in the opset of the file it read, and does it compute what it should?

    python benchmarks/opsets.py [--only PATTERN]

The networks of `tests/networks/zoo.py` are exported by both exporters of torch at every opset that each can write, from
9 to 23. Half of the channels of every group go, and the file that is written is checked by onnx, run by onnxruntime,
and compared with the masked network. Writes results/opsets.json, row by row, and the table results/opsets.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import harness
import onnx
import torch

FILE = harness.RESULTS / "opsets.json"
#: What each exporter of torch can write. Below 18 the one that traces shapes only converts, which often fails.
EXPORTERS = {"TorchScript": range(9, 21), "dynamo": range(18, 24)}


def main() -> None:
    import networks

    from tests.networks.zoo import NETWORKS

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for name in networks.select(NETWORKS, given.only):
        build, shape, _ = NETWORKS[name]
        module = networks.randomised(build(), 0).eval()
        for exporter, opsets in EXPORTERS.items():
            found = {str(opset): walked(module, shape, exporter, opset) for opset in opsets}
            harness.write(FILE, harness.read(FILE) | {f"{name} {exporter}": found})
            print(f"{name} {exporter}: {found}", flush=True)
    report(harness.read(FILE))


def walked(module: torch.nn.Module, shape: tuple[int, ...], exporter: str, opset: int) -> str:
    """What became of one file: "exact", "not exported", or what went wrong."""
    from slimnet.common.errors import SlimnetError
    from slimnet.io.load import load
    from slimnet.pipeline.config import PruneConfig, RunConfig
    from slimnet.pipeline.prune import prune

    config = PruneConfig(ratio=0.5, round_to=None)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "dense.onnx")
        if not exported(module, shape, exporter, opset, file):
            return "not exported"
        try:
            prune(load(file), config, RunConfig(out=Path(folder, "out"), bench_seconds=0, prove=False))
        except SlimnetError as error:
            return str(error).replace(str(folder), "")
        slim = onnx.load(Path(folder, "out", "slim.onnx"))
        kept = {o.domain: o.version for o in slim.opset_import}.get("")
        return "exact" if kept == opset else f"is of opset {kept}"


def exported(module: torch.nn.Module, shape: tuple[int, ...], exporter: str, opset: int, file: Path) -> bool:
    """Whether torch can write the module at this opset; what it prints while it cannot is thrown away."""
    said: Any = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            example, dynamo = (torch.zeros(shape),), exporter == "dynamo"
            torch.onnx.export(module, example, file, opset_version=opset, dynamo=dynamo, external_data=False)
    except Exception:  # each exporter raises errors of its own
        return False
    written = onnx.load(file, load_external_data=False).opset_import
    return {o.domain: o.version for o in written}.get("") == opset


def report(table: harness.Row) -> None:
    """Write the table: one row for each network and exporter, one column for each opset."""
    opsets = sorted({int(opset) for row in table.values() for opset in row})
    rows = [[name, *(_cell(row.get(str(opset))) for opset in opsets)] for name, row in table.items()]
    outcomes = [outcome for row in table.values() for outcome in row.values()]
    files = [outcome for outcome in outcomes if outcome != "not exported"]
    text = (
        "# Opsets\n\n"
        f"{len(files)} files of opsets {opsets[0]} to {opsets[-1]}, {files.count('exact')} of them exact and valid in "
        "their own opset, by `python benchmarks/opsets.py`. -: torch's exporter cannot write the network at this opset."
        "\n\n"
        f"Commit {harness.commit()}, {harness.versions('torch', 'onnx', 'onnxscript', 'onnxruntime')}.\n\n"
    )
    (harness.RESULTS / "opsets.md").write_text(text + harness.markdown(["network", *map(str, opsets)], rows))


def _cell(outcome: str | None) -> str | None:
    return {None: None, "exact": "exact", "not exported": "-"}.get(outcome, "**fails**")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
