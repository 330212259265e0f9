"""Outputs of a graph: each is a value of its own, under a name of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, count

import onnx_ir as ir


def name_outputs(graph: ir.Graph, keys: Sequence[str | None] = ()) -> None:
    """Name the outputs of a graph, in place; what is an input, or an output twice, gets an Identity in front.

    Inputs and initializers keep their names: an output that would be called like one is called NAME_out instead. Inner
    values give way.

    Args:
        graph: The graph.
        keys: What to call each output; None or nothing for the name that it has. There may be none at all.
    """
    keys = keys if len(keys) == len(graph.outputs) else [None] * len(graph.outputs)
    taken = {str(value.name) for value in (*graph.inputs, *graph.initializers.values())}
    seen: set[ir.Value] = set()
    names: list[str] = []
    for place, key in enumerate(keys):
        value = graph.outputs[place]
        name = key or str(value.name)
        # A file may put out a weight as it is, under the weight's name.
        if value in seen or not (value.producer() or (value.is_initializer() and not key)):
            value = graph.outputs[place] = _behind_identity(graph, value)
        seen.add(value)
        names.append(_free(name, taken) if value.producer() else name)
        taken.add(names[-1])
    inner = [value for value in _inner(graph) if value not in seen]
    taken.update(str(value.name) for value in inner)
    for value in inner:
        if value.name in names:
            value.name = _free(str(value.name), taken)
            taken.add(value.name)
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def _behind_identity(graph: ir.Graph, value: ir.Value) -> ir.Value:
    node = ir.node("Identity", [value])
    graph.append(node)
    (output,) = node.outputs
    output.shape, output.type = value.shape, value.type
    return output


def _inner(graph: ir.Graph) -> Iterator[ir.Value]:
    """What nodes make, and what the graphs inside of nodes have."""
    yield from chain.from_iterable(node.outputs for node in graph.all_nodes())
    for inside in graph.subgraphs():
        yield from (*inside.inputs, *inside.initializers.values())


def _free(name: str, taken: Collection[str]) -> str:
    """A name that is not taken: NAME, NAME_out, NAME_out_2 and so on."""
    candidates = chain([name, f"{name}_out"], (f"{name}_out_{k}" for k in count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
