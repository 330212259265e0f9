"""Time per layer, from onnxruntime's profiler.

The runtime fuses nodes, changes layouts and names what it makes after the nodes and values it replaces
(`relu_1_nchwc`, `fc/MatMulAddFusion`). So the model is profiled under labels of our own, `@12@` for its twelfth node,
which are then read back from the names in the profile and in the graph that was really run.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from slimnet.bench.latency import Model, Runner
from slimnet.bench.session import reason, session, title
from slimnet.errors import BadInput

_LAYER = re.compile("Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|Attention")
_LABEL = re.compile(r"@(\d+)@")
_EXPORTER_NAME = re.compile(r"val_\d+")
_SCOPES = "pkg.torch.onnx.name_scopes"
_WARM_UP_RUNS = 3
_MAX_EVENTS = 500_000


@dataclass(frozen=True)
class NodeTime:
    """One node the runtime ran: its name and op there, the layer it belongs to and its milliseconds per run."""

    name: str
    op: str
    layer: str
    ms: float


@dataclass(frozen=True)
class Profile:
    """Where the time of one model goes, node by node in the order they ran, over `runs` runs."""

    nodes: tuple[NodeTime, ...]
    runs: int

    @property
    def total(self) -> float:
        """Milliseconds per run spent in nodes."""
        return sum(node.ms for node in self.nodes)

    @property
    def layers(self) -> dict[str, float]:
        """Milliseconds per run by layer; the nodes that are part of no layer are summed by op, as "(Softmax)"."""
        sums: dict[str, float] = defaultdict(float)
        for node in self.nodes:
            sums[node.layer] += node.ms
        return dict(sums)


def layer_name(node: ir.Node) -> str:
    """The name of the layer that `node` computes: the same in the dense and in the slim model.

    That is its weight's name without ".weight"; for a node without one, or whose weight the torch exporter has
    rewritten and renamed, the module and function it was exported from, else the name of its first output.
    """
    for value in node.inputs:
        if value is not None and value.const_value is not None and len(value.const_value.shape) > 1:
            if value.name and not _EXPORTER_NAME.fullmatch(value.name):
                return value.name.removesuffix(".weight")
            break
    if _SCOPES in node.metadata_props:
        return "/".join(re.findall(r"'([^']+)'", node.metadata_props[_SCOPES])[-2:])
    return node.outputs[0].name or node.name or node.op_type


def is_layer(op_type: str) -> bool:
    """Whether an op, the model's or the runtime's own, multiplies and sums: a layer, as opposed to glue."""
    return _LAYER.search(op_type) is not None


def profile(
    models: Mapping[str, Model],
    inputs: Mapping[str, np.ndarray],
    threads: int | None = None,
    min_runs: int = 20,
    max_seconds: float = 5.0,
) -> dict[str, Profile]:
    """Profile `models` interleaved run by run, for `max_seconds` but `min_runs` runs at least.

    The times are means of the middle half of the runs: as robust as medians, and finer than the whole microseconds that
    the profiler counts in. Raises BadInput when a model cannot be loaded or run on `inputs`.
    """
    with TemporaryDirectory(prefix="slimnet-") as folder:
        probes = [_Probe(name, model, inputs, threads, Path(folder, str(k))) for k, (name, model) in
                  enumerate(models.items())]
        most = _MAX_EVENTS // max(len(probe.layers.nodes) for probe in probes)
        deadline = time.perf_counter() + max_seconds
        runs = -_WARM_UP_RUNS
        while runs < min_runs or (runs < most and time.perf_counter() < deadline):
            for probe in probes[:: -1 if runs % 2 else 1]:
                probe.runner.sample()
            runs += 1
        return {probe.runner.name: probe.read(runs) for probe in probes}
