"""slimnet, torch-pruning and onnxsim on the same networks, each run in a process of its own.

    python benchmarks/vs_peers.py [--only PATTERN] [--again] [--timeout 300]

All take half of the channels, layer by layer and without rounding, by the l1 norm of the filters: slimnet's l1 method,
torch-pruning's MagnitudePruner (p=1, only the classifier ignored), onnxsim's apply_structured_pruning on what
torch.onnx.export and onnxsim.simplify give by default. "Whole" is the time from the start of the command to the
smaller network, imports and export included, "inner" that of the pruning alone. "Equals masked" compares the smaller
network with the dense one whose removed weights are zero. Needs the `bench` extra. Writes results/vs_peers.json and
vs_peers.md.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np

if TYPE_CHECKING:
    from torch import nn

FILE = harness.RESULTS / "vs_peers.json"
RATIO = 0.5
TOLERANCE = 1e-4
NETWORKS = (
    *("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"),
    *("densenet121", "densenet201", "vgg16_bn", "squeezenet1_0", "googlenet", "inception_v3", "shufflenet_v2_x1_0"),
    *("regnet_y_400mf", "mnasnet1_0", "convnext_tiny", "swin_t", "vit_b_16", "maxvit_t", "lstm"),
)
Arrays = Mapping[str, np.ndarray]
#: Pruned network -> (parameters before, after, the check to run afterwards: relative error, or None if it fails).
Outcome = tuple[float, int, int, Callable[[], float]]


def main() -> None:
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also what is in the table already")
    options.add_argument("--timeout", type=float, default=300, help="seconds per run")
    given = options.parse_args()
    catalogue = networks.catalogue()
    for name in networks.select({name: catalogue[name] for name in NETWORKS}, given.only):
        for tool in TOOLS:
            if tool in harness.read(FILE).get(name, {}) and not given.again:
                continue
            row = harness.run(Path(__file__), ["--one", tool, name], given.timeout)
            table = harness.read(FILE)
            table.setdefault(name, {})[tool] = row
            harness.write(FILE, table)
            print(name, tool, row, flush=True)
    report(harness.read(FILE))


def measure(tool: str, name: str, out: Path) -> None:
    """Prune one network with one tool and write the row; the check comes last, so that it is not timed."""
    import networks

    network = networks.catalogue()[name]
    module = networks.randomised(network.build(), 0).eval()
    inner, before, after, check = TOOLS[tool](module, network)
    row: dict[str, Any] = {
        "whole_s": round(time.time() - float(os.environ["STARTED"]), 2),
        "inner_s": round(inner, 3),
        "peak_gib_pruning": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "left": round(after / before, 4),
    }
    harness.write(out, row | {"forward": False, "failed": "the smaller network does not run"})
    error = check()
    harness.write(out, row | {"forward": True, "error": error, "equal": bool(error <= TOLERANCE)})


# -- the tools -------------------------------------------------------------------------------------------------------


def _slimnet(module: nn.Module, network: Any) -> Outcome:
    from coverage import count

    from slimnet.graph.surgery import slim
    from slimnet.graph.trace import trace
    from slimnet.io.load import load
    from slimnet.methods.criteria import score
    from slimnet.planning.budget import choose
    from slimnet.verification.verify import verify

    net = load(module, inputs=network.spec)
    started = time.perf_counter()
    traced = trace(net)
    removed = choose(traced, score("l1", traced.params(), traced.groups), RATIO)
    traced.plan(removed)
    thin = slim(traced, removed)
    inner = time.perf_counter() - started
    return inner, count(net, net.model), count(net, thin), lambda: verify(traced, removed, prove=False).max_rel_error


def _torch_pruning(module: nn.Module, network: Any) -> Outcome:
    import peers
    import torch

    dense = copy.deepcopy(module)
    example = peers.example(network)
    started = time.perf_counter()
    peers.magnitude_pruner(module, example).step()
    inner = time.perf_counter() - started

    def check() -> float:
        slim = {name: p.detach().numpy() for name, p in module.named_parameters()}
        with torch.no_grad():
            got = module(example)
            for name, p in dense.named_parameters():
                p.copy_(torch.from_numpy(masked(p.numpy(), slim[name])))
            return _distance(dense(example).numpy(), got.numpy())

    return inner, peers.parameters(dense), peers.parameters(module), check


def _onnxsim(module: nn.Module, network: Any) -> Outcome:
    import onnx
    import onnxsim
    import peers
    import torch
    from onnxsim.pruning import apply_structured_pruning

    example = peers.example(network)
    exported = torch.onnx.export(module, (example,), dynamo=True, verbose=False)
    assert exported is not None
    dense, _ = onnxsim.simplify(exported.model_proto)
    started = time.perf_counter()
    pruned = apply_structured_pruning(dense, RATIO, importance_norm="l1")
    inner = time.perf_counter() - started
    before, after = _weights(dense), _weights(pruned)

    def check() -> float:
        wide = onnx.ModelProto()
        wide.CopyFrom(dense)
        for tensor in wide.graph.initializer:
            if tensor.name in before:
                array = masked(before[tensor.name], after.get(tensor.name, before[tensor.name]))
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        return _distance(_output(wide, example.numpy()), _output(pruned, example.numpy()))

    return inner, _size(before), _size(after), check


TOOLS = {"slimnet": _slimnet, "torch-pruning": _torch_pruning, "onnxsim": _onnxsim}


def _weights(model: Any) -> dict[str, np.ndarray]:
    import onnx

    float_ = onnx.TensorProto.FLOAT
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == float_}


def _size(weights: Arrays) -> int:
    return sum(array.size for array in weights.values() if array.size > 1)


def _output(model: Any, example: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: example})[0]


def masked(dense: np.ndarray, slim: np.ndarray) -> np.ndarray:
    """The dense tensor with zeros where the slim one has nothing; which indices are left is read off the values.

    Weights are random numbers, so nearly every value occurs once, and the others are outvoted.
    """
    if dense.shape == slim.shape:
        return dense.copy()
    order = np.argsort(dense, axis=None)
    place = np.searchsorted(dense.ravel()[order], slim.ravel()).clip(max=dense.size - 1)
    coordinates = np.unravel_index(order[place], dense.shape)
    kept = []
    for axis, found in enumerate(coordinates):
        votes = np.moveaxis(found.reshape(slim.shape), axis, 0).reshape(slim.shape[axis], -1)
        kept.append(np.median(votes, axis=1).astype(int))
    out = np.zeros_like(dense)
    out[np.ix_(*kept)] = dense[np.ix_(*kept)]
    return out


def _distance(expected: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(expected - got).max() / np.abs(expected).max())


# -- the table -------------------------------------------------------------------------------------------------------


def report(table: dict[str, Any]) -> None:
    """Write results/vs_peers.md."""
    columns = ["network", "tool", "whole s", "inner s", "peak GiB", "params left", "forward works", "equals masked"]
    rows = [_cells(name, tool, row) for name, tools in table.items() for tool, row in tools.items()]
    used = harness.versions("torch", "torchvision", "onnxruntime", "torch-pruning", "onnxsim")
    about = __doc__.split("\n\n")[2]
    text = f"# Against torch-pruning and onnxsim\n\n`python benchmarks/vs_peers.py`; {used}.\n\n{about}\n\n"
    (harness.RESULTS / "vs_peers.md").write_text(text + harness.markdown(columns, rows))


def _cells(name: str, tool: str, row: dict[str, Any]) -> list[Any]:
    if "left" not in row:
        return [name, tool, row["seconds"], None, row["peak_gib"], row["failed"], False, None]
    equal = "yes" if row.get("equal") else f"off by {row['error']:.0e}" if "error" in row else row["failed"]
    return [name, tool, row["whole_s"], row["inner_s"], row["peak_gib_pruning"], row["left"], row["forward"], equal]


if __name__ == "__main__":
    if "--one" in sys.argv:
        measure(sys.argv[-3], sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
