"""Functions that a file defines for itself, written out where they are called."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner

from slimnet.common.errors import BadInput

#: The most nodes that written out functions may become: calls in calls double with every level.
MOST_NODES = 1 << 18


def write_out(model: onnx.ModelProto, bare: onnx.ModelProto, where: str) -> None:
    """Replace the calls of a model's own functions, in place, by what the functions do.

    Args:
        model: The model, which onnx.checker has accepted.
        bare: The same without weights, whose names are inputs: what is copied on the way.
        where: What messages call the model.

    Raises:
        BadInput: The graph would have more than `MOST_NODES` nodes.
    """
    if not model.functions:
        return
    if (count := _Counter(model.functions).nodes(model.graph.node)) > MOST_NODES:
        raise BadInput(
            f"{where}: its functions call each other so often that they make {count:,} nodes, and slimnet takes up to "
            f"{MOST_NODES:,}; export a smaller part of the network"
        )
    written = onnx.inliner.inline_local_functions(bare)
    for field, now in (
        (model.graph.node, written.graph.node),
        (model.functions, written.functions),
        (model.opset_import, written.opset_import),
    ):
        del field[:]
        field.extend(now)


class _Counter:
    """Counts nodes, those of called functions included; each function, none of which calls itself, is counted once."""

    def __init__(self, functions: Iterable[onnx.FunctionProto]) -> None:
        self._bodies = {(f.domain, f.name, f.overload): f for f in functions}
        self._counts: dict[tuple[str, str, str], int] = {}

    def nodes(self, nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(self._node(node) for node in nodes)

    def _node(self, node: onnx.NodeProto) -> int:
        inner = (graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else a.graphs))
        key = node.domain, node.op_type, node.overload
        own = self._called(key) if key in self._bodies else 1
        return own + sum(self.nodes(graph.node) for graph in inner)

    def _called(self, key: tuple[str, str, str]) -> int:
        if key not in self._counts:
            self._counts[key] = self.nodes(self._bodies[key].node)
        return self._counts[key]
