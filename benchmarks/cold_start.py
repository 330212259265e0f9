"""How long a command takes from the first key to the last, in a fresh process: before and after, and beside a peer.

    python benchmarks/cold_start.py before OTHER_CHECKOUT [--only PATTERN] [--turns 5]
    python benchmarks/cold_start.py peer [--only PATTERN] [--turns 5]

`before` runs `slimnet prune` of another checkout and of this one in turns, so that what the machine does meanwhile
meets both: of ResNet-50 as an .onnx file; of ResNet-50 and DenseNet-121 as checkpoints, whose graphs have to be
exported; and of both again, when the graph is in the cache. The command itself times nothing (`--bench-seconds 0`).

`peer` does by slimnet and by torch-pruning what it takes to ship a network of `vs_peers.py`: build it, take half of the
channels by their l1 norm, write the smaller network as ONNX by `torch.onnx.export(dynamo=True)`, and check the outputs.
slimnet's are checked against the masked network, torch-pruning's against its own smaller module; slimnet's "again" has
the graph in the cache.

Wall clock and processor time (user and system) of each command are kept, and the ratios of their medians. Writes
results/cold_start.json and the table results/cold_start.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import harness

FILE = harness.RESULTS / "cold_start.json"
HERE = Path(__file__).resolve().parents[1]
PICTURE = ("--input", "1x3x224x224")
PRUNE = ("-m", "slimnet", "prune", "--method", "l1", "--ratio", "0.5", "--bench-seconds", "0")
#: What is pruned: its name, and whether its graph has been exported before.
CASES = {
    "resnet50.onnx": ("resnet50", "onnx", False),
    "resnet50.pth": ("resnet50", "pth", False),
    "resnet50.pth, again": ("resnet50", "pth", True),
    "densenet121.pth": ("densenet121", "pth", False),
    "densenet121.pth, again": ("densenet121", "pth", True),
}
TOOLS = ("slimnet", "slimnet, again", "torch-pruning")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=["before", "peer"])
    options.add_argument("other", type=Path, nargs="?", help="another checkout of slimnet: how it was before")
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--turns", type=int, default=5, help="runs of each command")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "before":
            before(given.other, Path(folder), given.only, given.turns)
        else:
            peer(Path(folder), given.only, given.turns)
    report(harness.read(FILE))


def before(other: Path, folder: Path, only: str | None, turns: int) -> None:
    """Prune by either checkout in turns."""
    import networks

    checkouts = {"before": other.resolve(), "after": HERE}
    for case in networks.select(CASES, only):
        name, kind, again = CASES[case]
        file = folder / f"{name}.{kind}"
        make(name, file)
        more = ("--arch", f"torchvision:{name}", *PICTURE) if kind == "pth" else ()
        command = (*PRUNE, *more, "-o", str(folder / "out"), str(file))
        found: dict[str, list[tuple[float, float]]] = {when: [] for when in checkouts}
        for turn in range(turns):
            for when in list(checkouts)[:: 1 if turn % 2 else -1]:
                cache = folder / f"{when} {name}" if again else Path(tempfile.mkdtemp(dir=folder))
                settings = {"PYTHONPATH": str(checkouts[when]), "SLIMNET_CACHE": str(cache)}
                if again and not turn:
                    run(command, settings)
                found[when].append(run(command, settings))
                print(case, when, found[when][-1], flush=True)
        keep("before", case, found)


def peer(folder: Path, only: str | None, turns: int) -> None:
    """Ship networks by either tool in turns."""
    import networks
    import vs_peers

    for name in networks.select(dict.fromkeys(vs_peers.NETWORKS), only):
        found: dict[str, list[tuple[float, float]]] = {tool: [] for tool in TOOLS}
        for turn in range(turns):
            for tool in TOOLS[:: 1 if turn % 2 else -1]:
                again = tool == "slimnet, again"
                cache = folder / name if again else Path(tempfile.mkdtemp(dir=folder))
                settings = {"PYTHONPATH": str(HERE), "SLIMNET_CACHE": str(cache)}
                command = (
                    str(Path(__file__).resolve()),
                    "--ship",
                    tool.partition(",")[0],
                    name,
                    str(folder / "slim.onnx"),
                )
                try:
                    if again and not turn:
                        run(command, settings)
                    found[tool].append(run(command, settings))
                except subprocess.SubprocessError as error:
                    print(name, tool, "fails:", str(error)[-200:], flush=True)
                    continue
                print(name, tool, found[tool][-1], flush=True)
        keep("peer", name, found)


def run(arguments: Sequence[str], settings: Mapping[str, str], timeout: float = 400) -> tuple[float, float]:
    """Wall clock and processor time of a Python command, in seconds. Raises CalledProcessError where it fails."""
    started = time.perf_counter()
    command = [sys.executable, "-W", "ignore", *arguments]
    with tempfile.TemporaryFile() as log:
        # Not in this folder: Python would take the slimnet that lies in it.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **settings}, cwd=tempfile.gettempdir()
        )
        late = time.monotonic() + timeout
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > late:
                process.kill()
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise subprocess.CalledProcessError(process.returncode, log.read()[-300:].decode(errors="replace"))
    return round(time.perf_counter() - started, 2), round(usage.ru_utime + usage.ru_stime, 2)


def make(name: str, file: Path) -> None:
    """Write a network of torchvision with random weights, as a checkpoint or as ONNX."""
    if file.exists():
        return
    script = """
import sys, torch, slimnet
from slimnet.io.torch_arch import build
_, name, file = sys.argv
if file.endswith(".onnx"):
    net = slimnet.load(None, arch=f"torchvision:{name}", inputs="1x3x224x224", cache=False)
    slimnet.export(net.model, file)
else:
    torch.save(build(f"torchvision:{name}").state_dict(), file)
"""
    subprocess.run(
        [sys.executable, "-c", script, name, str(file)], check=True, env={**os.environ, "PYTHONPATH": str(HERE)}
    )


# -- what a tool does, in its own process ------------------------------------------------------------------------------


def ship(tool: str, name: str, file: Path) -> None:
    """Build, prune, write and check a network."""
    import networks

    network = networks.catalogue()[name]
    module = networks.randomised(network.build(), 0).eval()
    {"slimnet": _slimnet, "torch-pruning": _torch_pruning}[tool](module, network, file)


def _slimnet(module: Any, network: Any, file: Path) -> None:
    import slimnet

    trace = slimnet.trace(slimnet.load(module, inputs=network.spec))
    plan = slimnet.plan(trace, method="l1", ratio=0.5, round_to=None)
    small = slimnet.slim(trace, plan)
    slimnet.export(small, file)
    slimnet.verify(trace, plan, small, prove=False)


def _torch_pruning(module: Any, network: Any, file: Path) -> None:
    import numpy as np
    import onnxruntime
    import peers
    import torch

    example = peers.example(network)
    peers.magnitude_pruner(module, example).step()
    program = torch.onnx.export(module, (example,), dynamo=True, verbose=False)
    assert program is not None
    program.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for _ in range(3):
        x = torch.randn_like(example) if example.is_floating_point() else example
        with torch.no_grad():
            wanted = module(x).numpy()
        got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        assert np.abs(wanted - got).max() <= 1e-3 * np.abs(wanted).max(), "the exported network differs"


# -- the table ---------------------------------------------------------------------------------------------------------


def keep(what: str, name: str, found: Mapping[str, list[tuple[float, float]]]) -> None:
    """Put the seconds of one row into the file."""
    table = harness.read(FILE)
    table.setdefault(what, {})[name] = {
        tool: {"wall": [wall for wall, _ in times], "cpu": [cpu for _, cpu in times]} for tool, times in found.items()
    }
    harness.write(FILE, table)


def report(table: dict[str, Any]) -> None:
    """Write results/cold_start.md."""
    used = harness.versions("torch", "torchvision", "onnxruntime", "onnxscript", "torch-pruning")
    paragraphs = "\n\n".join(__doc__.split("\n\n")[2:])
    text = f"# From the first key to the last\n\n`python benchmarks/cold_start.py`; {used}.\n\n{paragraphs}\n"
    for what, tools, base in (("before", ["before", "after"], "before"), ("peer", list(TOOLS), "torch-pruning")):
        rows = table.get(what, {})
        if not rows:
            continue
        columns = ["", "runs", *(f"{tool} {kind} s" for kind in ("wall", "cpu") for tool in tools)]
        others = [tool for tool in tools if tool != base]
        columns += [f"{tool} / {base}, {kind}" for kind in ("wall", "cpu") for tool in others]
        text += f"\n{harness.markdown(columns, [_row(name, row, tools, base) for name, row in rows.items()])}"
    (harness.RESULTS / "cold_start.md").write_text(text)


def _row(name: str, row: Mapping[str, Any], tools: Sequence[str], base: str) -> list[Any]:
    medians = {(tool, kind): median(row[tool][kind]) if row.get(tool, {}).get(kind) else None
               for tool in tools for kind in ("wall", "cpu")}  # fmt: skip
    ratios = []
    for kind in ("wall", "cpu"):
        for tool in tools:
            own, other = medians[tool, kind], medians[base, kind]
            if tool != base:
                ratios.append(None if own is None or other is None else own / other)
    runs = max(len(row[tool]["wall"]) for tool in tools if tool in row)
    return [name, runs, *(medians[tool, kind] for kind in ("wall", "cpu") for tool in tools), *ratios]


if __name__ == "__main__":
    if "--ship" in sys.argv:
        ship(sys.argv[-3], sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
