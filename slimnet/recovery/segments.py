"""A network run in segments: up to where something is looked at, and on from there with other weights.

All batches go through a segment before the next one begins, so that a weight can be fitted to what the layers before it
give by now. Together the segments cost one run of the network; what is kept between them is what later ones read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.evaluate import read_by
from slimnet.runtime.backend import Backend, Feeds

Batches = Sequence[Feeds]


@dataclass(frozen=True)
class Segment:
    """Nodes that run together.

    Attributes:
        nodes: The nodes, in the order of the graph.
        reads: The names of the inputs and of values of earlier segments that they read.
        makes: The names of their values that are looked at, or that later segments read.
        drops: The names of values that nothing needs after it.
    """

    nodes: Sequence[ir.Node]
    reads: Sequence[str]
    makes: Sequence[str]
    drops: Collection[str]


def segments(model: ir.Model, stops: Sequence[Collection[str]]) -> list[Segment]:
    """Cut a network where values are looked at.

    Args:
        model: The network.
        stops: The names of the values that are looked at, in the order in which that happens.

    Returns:
        A segment for each stop; one that has nothing to run has no nodes.
    """
    order = {node: k for k, node in enumerate(model.graph)}
    made = {str(value.name): node for node in order for value in node.outputs if value.name}
    reads = {node: [str(v.name) for v in dict.fromkeys(read_by(node)) if _is_moving(v)] for node in order}
    claimed: set[ir.Node] = set()
    parts = [sorted(_needed(stop, made, reads, claimed), key=order.__getitem__) for stop in stops]
    # A value is kept as long as a later segment reads it, or somebody looks at it.
    last: dict[str, int] = {}
    for k, (stop, nodes) in enumerate(zip(stops, parts, strict=True)):
        last.update(dict.fromkeys([*stop, *(name for node in nodes for name in reads[node])], k))
    drops: list[list[str]] = [[] for _ in stops]
    for name, k in last.items():
        drops[k].append(name)
    found = []
    for k, (stop, nodes) in enumerate(zip(stops, parts, strict=True)):
        inside = {str(value.name) for node in nodes for value in node.outputs}
        outside = dict.fromkeys(name for node in nodes for name in reads[node] if name not in inside)
        makes = [name for name in inside if last.get(name, -1) > k or name in stop]
        found.append(Segment(nodes, list(outside), sorted(makes), drops[k]))
    return found


def _is_moving(value: ir.Value) -> bool:
    return bool(value.name) and not value.is_initializer()


def _needed(
    names: Collection[str],
    made: Mapping[str, ir.Node],
    reads: Mapping[ir.Node, Sequence[str]],
    claimed: set[ir.Node],
) -> list[ir.Node]:
    """The nodes that values are computed by, without those that are claimed already; they are from now on."""
    found: list[ir.Node] = []
    ahead = list(names)
    while ahead:
        node = made.get(ahead.pop())
        if node is not None and node not in claimed:
            claimed.add(node)
            found.append(node)
            ahead += reads[node]
    return found


class Stepper:
    """Runs a network from stop to stop for all batches."""

    def __init__(self, model: ir.Model, stops: Sequence[Collection[str]], batches: Batches, backend: Backend) -> None:
        self._model, self._backend = model, backend
        self._ahead = iter(segments(model, stops))
        self._known: list[dict[str, npt.NDArray[np.generic]]] = [dict(feed) for feed in batches]

    def advance(self) -> Iterator[Mapping[str, npt.NDArray[np.generic]]]:
        """Run to the next stop; what is known there, batch by batch. It has to be read to its end."""
        segment = next(self._ahead)
        session = self._backend.session(_model_of(self._model, segment, self._known[0])) if segment.nodes else None
        for known in self._known:
            if session is not None:
                found = session.run({name: known[name] for name in segment.reads})
                known.update(zip(segment.makes, found, strict=True))
            yield known
            for name in segment.drops:
                known.pop(name, None)


def _model_of(model: ir.Model, segment: Segment, known: Feeds) -> ir.Model:
    """A network of the nodes of a segment, whose inputs are like what is known of them."""
    graph = model.graph
    values = {value.name: value for node in segment.nodes for value in (*read_by(node), *node.outputs)}
    used = [value for value in values.values() if value.is_initializer()]
    view = ir.GraphView(
        [values[name] for name in segment.reads],
        [values[name] for name in segment.makes],
        nodes=segment.nodes,
        initializers=used,
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
    )
    part = ir.Model(view.clone(), ir_version=model.ir_version)
    # Batches may be of another size than the one that the file was written with.
    for value in [*part.graph.inputs, *(value for node in part.graph for value in node.outputs)]:
        value.shape = None
    for value in part.graph.inputs:
        value.type = ir.TensorType(ir.DataType.from_numpy(known[str(value.name)].dtype))
    return part
