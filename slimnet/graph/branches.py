"""Branches whose choice is known before the network runs: the branch takes the place of its If."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from slimnet.graph.net import Net
from slimnet.graph.surgery import names_of
from slimnet.graph.trace import known_values


def inline_branches(net: Net) -> None:
    """Replace every If whose condition is known, whatever the inputs hold and however large they are, by its branch.

    Ifs inside a branch follow. What only the other branches read is dropped. The model is changed in place.
    """
    found = False
    while choices := _choices(net):
        found = True
        for node, taken in choices.items():
            _inline(net.model, node, node.attributes["then_branch" if taken else "else_branch"].as_graph())
    if found:
        RemoveUnusedNodesPass()(net.model)


def undecided(model: ir.Model) -> dict[str, list[str]]:
    """The Ifs that inputs decide, by the name of the node, and the names of these inputs."""
    return {_name(node): names for node in _ifs(model.graph) if (names := _inputs_behind(node.inputs[0]))}


def _ifs(graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if node.op_type == "If" and node.domain == ""]


def _choices(net: Net) -> dict[ir.Node, bool]:
    nodes = _ifs(net.model.graph)
    if not nodes:
        return {}
    known = known_values(net)
    conditions = {node: known.get(node.inputs[0]) for node in nodes if node.inputs[0] is not None}
    return {node: bool(value.item()) for node, value in conditions.items() if value is not None and value.size == 1}


def _inline(model: ir.Model, node: ir.Node, branch: ir.Graph) -> None:
    """Move a branch into the graph, before its If, and the If out of it."""
    graph = model.graph
    node.attributes.clear()
    taken = names_of(model)
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        value.name = _free(value.name, taken)
        graph.register_initializer(value)
    results = list(branch.outputs)
    branch.outputs.clear()
    moved = list(branch)
    branch.remove(moved)
    for inner in moved:
        inner.name = _free(inner.name, taken)
        for value in inner.outputs:
            value.name = value.name and _free(value.name, taken)
    graph.insert_before(node, moved)
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output():
            # An output keeps its name; the Identity vanishes when the graph is optimised.
            same = ir.node("Identity", [new], outputs=[ir.Value(type=old.type, shape=old.shape)])
            graph.insert_before(node, same)
            new, name = same.outputs[0], old.name
            old.name = _free(f"{name}_if", taken)
            new.name = name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _free(name: str | None, taken: set[str | None]) -> str:
    """A name that nothing has, as much like this one as can be."""
    name = name or "value"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _inputs_behind(value: ir.Value | None) -> list[str]:
    """The names of the inputs that a value is computed from; none where their sizes alone decide it."""
    names: dict[str, None] = {}
    seen: set[ir.Value] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        if producer is None:
            names |= {value.name: None} if value.is_graph_input() and value.name else {}
        elif producer.op_type not in ("Shape", "Size"):
            stack.extend(producer.inputs)
    return list(names)


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
