"""Nodes that hold graphs: the walk goes through the branches of an If and the bodies of Loop and Scan.

What is inside reads the values outside as any node does, so that their labels go on. The branches of an If put out the
same labels, or fixed ones. Nothing leaves a body: what it carries from turn to turn and what it puts out stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.graph.axes import fixed
from slimnet.graph.evaluate import attribute, subgraphs
from slimnet.graph.op import Op, Traced, broadcast

if TYPE_CHECKING:
    from slimnet.graph.trace import Tracer


def follow(tracer: Tracer, op: Op) -> list[Traced] | None:
    """What is known of the outputs of a node that holds graphs; None where the walk cannot go through them."""
    way = _WAYS.get(op.kind) if op.node.domain == "" else None
    return None if way is None else way(tracer, op)


def _if(tracer: Tracer, op: Op) -> list[Traced] | None:
    then, other = (_walked(tracer, graph) for graph in subgraphs(op.node))
    if then is None or other is None:
        return None
    return [_merged(op, *ends) for ends in zip(then, other, strict=True)]


def _merged(op: Op, a: Traced, b: Traced) -> Traced:
    """What comes out of one branch or the other."""
    if a.shape == b.shape and a.axes is not None and b.axes is not None and a.zero is None and b.zero is None:
        return Traced(broadcast(op, [a.axes, b.axes]))
    for end in (a, b):
        _keep(op, end, "comes out of one branch of an If and not of the other")
    return Traced() if a.shape is None or a.shape != b.shape else _whole(a.shape)


def _loop(tracer: Tracer, op: Op) -> list[Traced] | None:
    (body,) = subgraphs(op.node)
    turn, go, *carried = body.inputs
    for value in (turn, go):
        tracer.walk.values[value] = _whole(() if value.shape is None else [1] * len(value.shape))
    return _turned(tracer, op, body, carried, op.values[2:], first=1)


def _scan(tracer: Tracer, op: Op) -> list[Traced] | None:
    (body,) = subgraphs(op.node)
    scanned = op.attr("num_scan_inputs")
    carried = len(body.inputs) - scanned
    axes = attribute(op.node, "scan_input_axes", [0] * scanned)
    for value, outer, axis in zip(body.inputs[carried:], op.values[carried:], axes, strict=True):
        shape = None if outer is None else outer.shape
        inner = None if shape is None else [n for k, n in enumerate(shape) if k != axis % len(shape)]
        tracer.walk.values[value] = Traced() if inner is None else _whole(inner)
    return _turned(tracer, op, body, body.inputs[:carried], op.values[:carried])


def _turned(
    tracer: Tracer,
    op: Op,
    body: ir.Graph,
    carried: Sequence[ir.Value],
    initial: Sequence[Traced | None],
    first: int = 0,
) -> list[Traced] | None:
    """Walk through a body that runs again and again on what it carries, which it puts out from number `first` on."""
    states = [Traced() if state is None or state.shape is None else _whole(state.shape) for state in initial]
    tracer.walk.values |= dict(zip(carried, states, strict=True))
    ends = _walked(tracer, body)
    if ends is None:
        return None
    for end in ends:
        _keep(op, end, "leaves the body of a loop")
    ends = ends[first:]
    if any(state.shape != end.shape for state, end in zip(states, ends, strict=False)):
        return None
    return [*states, *(Traced() if shape is None else _whole(shape) for shape in op.out_shapes[len(states) :])]


def _walked(tracer: Tracer, graph: ir.Graph) -> list[Traced] | None:
    """What is known of the outputs of an inner graph; None where it does not fit, as a branch that is not taken may."""
    # A file says once for all graphs which versions of operators it means; rules look for it where the node is.
    graph.opset_imports.update(tracer.graph.opset_imports)
    try:
        for node in graph:
            tracer.visit(node)
    except BadInput:
        return None
    return [tracer.value(value) for value in graph.outputs]


def _keep(op: Op, traced: Traced, why: str) -> None:
    for part in traced.items or [traced]:
        for labels in part.axes or ():
            op.pin(labels, why)


def _whole(shape: Sequence[int]) -> Traced:
    """A value of which nothing goes."""
    return Traced([fixed(n) for n in shape])


_WAYS: dict[str, Callable[[Tracer, Op], list[Traced] | None]] = {"If": _if, "Loop": _loop, "Scan": _scan}
