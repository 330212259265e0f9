"""LSTM, GRU and RNN: the gate blocks and both directions share one hidden axis."""

import numpy as np

from slimnet.graph.axes import is_live, signed
from slimnet.graph.op import Op, Result, Role
from slimnet.graph.registry import Trait, rule

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@rule("LSTM", "GRU", "RNN", traits=Trait.LAYER)
def recurrent(op: Op) -> Result:
    """W[dirs, gates*h, in], R[dirs, gates*h, h], B[dirs, 2*gates*h], initial states [dirs, batch, h], P[dirs, 3*h].

    A masked hidden unit has tanh(0) = 0 as its candidate, so its state stays zero if it starts at zero.
    """
    gates = _GATES[op.kind]
    back = op.axis(2, 2)
    op.contract(op.axis(0, 2), op.axis(1, 2))
    blocks = [*op.axis(1, 1).reshape(gates, -1), *op.axis(2, 1).reshape(gates, -1)]
    for i in (1, 2):
        op.role(i, 2, Role.IN, "WR"[i - 1])
        op.role(i, 1, Role.OUT, "WR"[i - 1])
    if op.has(3):
        op.role(3, 1, Role.ALONG, "B")
        blocks += list(op.axis(3, 1).reshape(2 * gates, -1))
    blocks += [op.axis(i, 2) for i in (5, 6) if op.has(i)]
    if op.has(7):
        for peephole in op.axis(7, 1).reshape(3, -1):
            op.same(peephole, back)
    for block in blocks:
        op.same(block, back)
    zero = np.logical_and.reduce([block > 0 for block in blocks])
    if op.attr("activations") is not None:
        zero = zero & _default_activations(op)
    hidden = signed(back, zero) if is_live(back) else back
    op.contract(hidden, back)
    op.lengths("hidden_size", {0: hidden})
    first, second = op.axis(0, 0), op.axis(0, 1)
    directions = op.peek(1)[0]
    batch_first = bool(op.attr("layout", 0))
    sequence = [first, second, directions, hidden] if batch_first else [first, directions, second, hidden]
    state = [first, directions, hidden] if batch_first else [directions, second, hidden]
    for i in (1, 2):
        op.multiply_adds(first, second, *op.peek(i))
    return [sequence, state, state][: len(op.node.outputs)]


def _default_activations(op: Op) -> bool:
    given = [a.decode() if isinstance(a, bytes) else a for a in op.attr("activations")]
    defaults = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op.kind]
    relu = {"RNN": ["Relu"]}.get(op.kind, defaults)
    size = len(defaults)
    return all(given[k : k + size] in (defaults, relu) for k in range(0, len(given), size))
