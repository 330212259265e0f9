"""Time per layer, from the times of the nodes that a runtime has run.

A runtime fuses nodes, changes layouts and names what it makes after the nodes and values it replaces
(`relu_1_nchwc`, `fc/MatMulAddFusion`). So the model is profiled under labels of our own, `@12@` for its twelfth node,
which are then read back from the names in the profile and in the graph that was really run.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from slimnet.graph.layers import is_layer, layer_name
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.timing.latency import Runner

_LABEL = re.compile(r"@(\d+)@")
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


def profile(
    models: Mapping[str, ir.Model],
    inputs: Feeds,
    backend: Backend = DEFAULT,
    min_runs: int = 20,
    max_seconds: float = 5.0,
) -> dict[str, Profile]:
    """Profile `models` interleaved run by run, until they have run for `max_seconds` but `min_runs` runs at least.

    The times are means of the middle half of the runs: as robust as medians, and finer than the whole microseconds that
    onnxruntime's profiler counts in. Raises BadInput when a model cannot be loaded or run on `inputs`.
    """
    with TemporaryDirectory(prefix="slimnet-") as folder:
        probes = [
            _Probe(name, model, inputs, backend, Path(folder, str(number)))
            for number, (name, model) in enumerate(models.items())
        ]
        most = _MAX_EVENTS // max(len(probe.graph) for probe in probes)
        runs = -_WARM_UP_RUNS
        while runs < min_runs or (runs < most and sum(probe.runner.spent for probe in probes) < max_seconds):
            for probe in probes[:: -1 if runs % 2 else 1]:
                probe.runner.sample()
            runs += 1
        return {probe.runner.name: probe.read(runs) for probe in probes}


class _Probe:
    """A model under labels in a session that profiles; the runtime's files go to `folder`, which it makes."""

    def __init__(
        self,
        name: str,
        model: ir.Model,
        inputs: Feeds,
        backend: Backend,
        folder: Path,
    ) -> None:
        folder.mkdir()
        labelled = model.clone()
        InlinePass()(labelled)
        self._layers = _Layers(labelled.graph)
        for number, node in enumerate(labelled.graph):
            node.name = f"@{number}@"
            for position, output in enumerate(node.outputs):
                output.name = f"@{number}@{position}"
        self._session = backend.probe(labelled, folder)
        self.graph = self._session.graph
        self.runner = Runner(name, self._session, inputs)

    def read(self, runs: int) -> Profile:
        """The times of the last `runs` runs."""
        times = {_Event(node.name, node.op): node.seconds for node in self._session.nodes()}
        layers = self._layers.of(list(times), self.graph)
        nodes = [NodeTime(*key, layers[key], _midmean(seconds[-runs:]) * 1e3) for key, seconds in times.items()]
        return Profile(tuple(nodes), runs)


class _Event(NamedTuple):
    """A node that ran: the runtime's name and op for it."""

    name: str
    op: str


class _Layers:
    """Finds the layer of every node that ran; made from the model's graph before it is labelled."""

    def __init__(self, graph: ir.Graph) -> None:
        nodes = list(graph)
        number = {node: k for k, node in enumerate(nodes)}
        self._names = [layer_name(node) if is_layer(node.op_type) else None for node in nodes]
        self._above = [[number[p] for p in node.predecessors() if p in number] for node in nodes]

    def of(self, events: list[_Event], run: ir.Graph) -> dict[_Event, str]:
        """The layer of each event, where `run` is the graph that was really run.

        A node with a label in its name is what became of that node of the model and those fused into it. A node
        without one was put in by the runtime (a change of layout, a reshape around a Gemm) and belongs to the layer
        whose value it makes or takes.
        """
        labels = {event: label for event in events if (label := _label(event.name)) is not None}
        ran = set(labels.values())
        found = {e: self._nearest(label, ran) if is_layer(e.op) else None for e, label in labels.items()}
        by_label = {label: found[event] for event, label in labels.items()}
        beside = _labels_beside(run)
        for event in events:
            if event.name in beside:
                label = beside[event.name]
                found[event] = by_label[label] if label in by_label else self._nearest(label, ran, shared=True)
        return {event: found.get(event) or f"({event.op})" for event in events}

    def _nearest(self, label: int, ran: set[int], shared: bool = False) -> str | None:
        """The layer at a node or closest above it, through nodes fused away; if `shared`, also one that ran itself."""
        queue = [label]
        for at in queue:
            fused = at == label or at not in ran
            if self._names[at] is not None and (fused or shared):
                return self._names[at]
            if fused:
                queue.extend(above for above in self._above[at] if above not in queue)
        return None


def _label(name: str | None) -> int | None:
    match = _LABEL.search(name or "")
    return int(match[1]) if match else None


def _labels_beside(run: ir.Graph) -> dict[str, int]:
    """For every node without a label: the one of a value it makes, else of a node that takes such a value."""
    beside = {}
    for node in run:
        if node.name and _label(node.name) is None:
            near = [value.name for value in node.outputs] + [taker.name for taker in node.successors()]
            label = next((label for name in near if (label := _label(name)) is not None), None)
            if label is not None:
                beside[node.name] = label
    return beside


def _midmean(times: Sequence[float]) -> float:
    """Mean of the middle half."""
    ordered = np.sort(times)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())
