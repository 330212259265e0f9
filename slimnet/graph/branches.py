"""Branches whose choice is known before the network runs: the branch takes the place of its If."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from slimnet.graph.evaluate import CannotEvaluate, evaluate
from slimnet.graph.net import Net
from slimnet.graph.registry import Trait, traits_of
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


def lift_initializers(model: ir.Model) -> None:
    """Make the weights of inner graphs weights of the whole network, under names that nothing else has."""
    inner = [graph for graph in model.graphs() if graph is not model.graph and graph.initializers]
    if not inner:
        return
    every = Counter(name for graph in model.graphs() for name in _names(graph))
    taken = set(every)
    for graph in inner:
        for value in list(graph.initializers.values()):
            if value.is_graph_input() or value.is_graph_output():
                continue
            del graph.initializers[value.name or ""]
            value.name = _free(value.name, taken) if every[value.name or ""] > 1 else value.name
            model.graph.register_initializer(value)


def undecided(model: ir.Model) -> dict[str, list[str]]:
    """The Ifs that single numbers decide which are inputs, by the name of the node, and the names of these inputs."""
    found = {_name(node): inputs_behind(node.inputs[0]) for node in _ifs(model.graph)}
    return {
        name: [value.name or "" for value in inputs]
        for name, inputs in found.items()
        if inputs and all(map(_is_number, inputs))
    }


def deciding_values(model: ir.Model) -> dict[str, list[float]]:
    """Values of inputs that decide which branches are taken: the numbers they are compared with, and those beside."""
    found: dict[str, set[float]] = {}
    for node in _ifs(model.graph):
        for condition in _behind(node.inputs[0]):
            comparison = condition.producer()
            if comparison is None:
                numbers = [0.0, 1.0]
                inputs = [condition] if condition.is_graph_input() and condition.dtype == ir.DataType.BOOL else []
            elif Trait.COMPARES in traits_of(comparison):
                numbers = [n for side in comparison.inputs if side is not None for n in _beside(side)]
                inputs = [value for side in comparison.inputs for value in inputs_behind(side)]
            else:
                continue
            for value in filter(_is_number, inputs):
                found.setdefault(value.name or "", set()).update(numbers)
    return {name: sorted(numbers) for name, numbers in found.items() if numbers}


def _beside(value: ir.Value) -> list[float]:
    """The one number that a constant holds, and those beside it; none for any other value."""
    producer, tensor = value.producer(), value.const_value
    if producer is not None and producer.op_type == "Constant":
        try:
            (known,) = evaluate(producer, [])
        except CannotEvaluate:
            return []
    elif tensor is not None and tensor.dtype != ir.DataType.STRING:
        known = tensor.numpy()
    else:
        return []
    return [float(known.item()) + step for step in (-1, 0, 1)] if known.size == 1 else []


def _is_number(value: ir.Value) -> bool:
    """Whether an input holds one number, or one of every sample."""
    return value.shape is not None and all(not isinstance(size, int) or size == 1 for size in value.shape)


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


def _names(graph: ir.Graph) -> Iterator[str]:
    """The names of all values and nodes of a graph, without those of inner graphs."""
    for value in (*graph.inputs, *graph.initializers.values()):
        yield value.name or ""
    for node in graph:
        yield node.name or ""
        yield from (value.name or "" for value in node.outputs)


def _free(name: str | None, taken: set[Any]) -> str:
    """A name that nothing has, as much like this one as can be."""
    name = name or "value"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def inputs_behind(value: ir.Value | None, sizes: bool = False) -> list[ir.Value]:
    """The inputs of its graph that a value is computed from; with `sizes` also those whose sizes alone decide it."""
    return [value for value in _behind(value, sizes) if value.producer() is None and value.is_graph_input()]


def _behind(value: ir.Value | None, sizes: bool = False) -> list[ir.Value]:
    """A value and all that it is computed from; with `sizes` also what only the size of decides it."""
    seen: dict[ir.Value, None] = {}
    stack = [value]
    while stack:
        value = stack.pop()
        if value is None or value in seen:
            continue
        seen[value] = None
        producer = value.producer()
        if producer is not None and (sizes or Trait.MEASURES not in traits_of(producer)):
            stack.extend(producer.inputs)
    return list(seen)


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
