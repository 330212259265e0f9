"""What no input shows is noticed all the same: damaged weights that nothing reads, branches that are never taken."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import VerifyFailed
from slimnet.graph.optimise import optimise
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.verification.branches import choices, forced, named
from slimnet.verification.verify import verify
from tests.networks.graphs import feeds, net

#: A table of many more rows than indices are drawn.
WORDS = """(int64[1,4] ids) => (y) <float[1000,8] table, float[8,6] w, float[6,3] v>
    { e = Gather(table, ids) a = MatMul(e, w) b = Relu(a) y = MatMul(b, v) }"""

#: Sums of standard normal numbers are never so small.
RARE = """(float[1,6] x) => (float[1,3] y) <float[6,8] w, float[8,3] v, float[8,3] u, float low = {-1000}>
    { h = MatMul(x, w) s = ReduceSum<keepdims=0>(x) c = Less(s, low)
      y = If(c) <then_branch = often () => (float[1,3] p) { q = Relu(h) p = MatMul(q, v) },
                 else_branch = never () => (float[1,3] r) { t = Tanh(h) r = MatMul(t, u) }> }"""

NORMALISED = """(float[1,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] scale, float[8] b, float[8] m, float[8] var,
    float[4,8,1,1] v> { a = Conv(x, w) n = BatchNormalization(a, scale, b, m, var) c = Relu(n) y = Conv(c, v) }"""


def halved(found):
    return np.arange(found.n_units) % 2 == 0


def damaged(model: ir.Model, name: str, rows: slice) -> ir.Model:
    copy = model.clone()
    value = copy.graph.initializers[name]
    array = value.const_value.numpy().copy()
    array[rows] = 0
    value.const_value = ir.Tensor(array, name=name)
    return copy


@pytest.mark.parametrize("row", [0, 777, 999])
def test_a_row_that_no_input_reads_is_noticed_in_what_somebody_may_have_changed(row):
    found = trace(net(WORDS))
    model = damaged(slim(found, halved(found)), "table", slice(row, row + 1))
    with pytest.raises(VerifyFailed, match=r"the weight table of the slim network differs by .* although none of the"):
        verify(found, halved(found), model, foreign=True)


def test_weights_that_a_tool_has_fused_are_no_damage():
    found = trace(net(NORMALISED))
    model = slim(found, halved(found))
    fused = optimise(model)
    assert not np.allclose(fused.graph.initializers["w"].const_value, model.graph.initializers["w"].const_value)
    assert verify(found, halved(found), fused, foreign=True).exact
    # Neither is what another tool has moved from one weight to the next.
    other = fused.clone()
    for name, factor in {"w": 4.0, "w_bias": 4.0, "v": 0.25}.items():
        value = other.graph.initializers[name]
        value.const_value = ir.Tensor(factor * value.const_value.numpy(), name=name)
    assert verify(found, halved(found), other, foreign=True).exact


def test_a_branch_that_no_input_takes_is_compared_and_its_groups_are_proven():
    found = trace(net(RARE))
    result = verify(found, halved(found))
    assert result.exact
    assert (result.proven, result.unproven) == (["w"], [])
    assert result.inputs[-2:] == ["If y: then", "If y: else"]
    model = slim(found, halved(found))
    taken, never = ("u", "v") if feeds(found.net, 0)["x"].sum() > -1000 else ("v", "u")
    for name in (taken, never):
        with pytest.raises(VerifyFailed, match="differs from the masked one by 1"):
            verify(found, halved(found), damaged(model, name, slice(None)))


def test_other_operators_in_a_branch_that_no_input_takes_are_noticed():
    found = trace(net(RARE))
    model = slim(found, halved(found))
    branch = next(node for node in model.graph if node.op_type == "If").attributes["then_branch"].as_graph()
    next(node for node in branch if node.op_type == "Relu").op_type = "Abs"
    with pytest.raises(VerifyFailed, match=r"the slim network \(If y: then\) differs"):
        verify(found, halved(found), model)


def test_a_group_that_only_a_branch_reads_is_proven_by_forcing_it():
    text = RARE.replace("q = Relu(h) p = MatMul(q, v)", "k = MatMul(x, g) q = Relu(k) p = MatMul(q, v)")
    found = trace(net(text.replace("float low", "float[6,8] g, float low")))
    result = verify(found, halved(found))
    assert (sorted(result.proven), result.unproven) == (["g", "w"], [])


def test_branches_inside_branches_are_reached_by_both_choices():
    inner = """p = If(d) <then_branch = a () => (float[6] q) { q = Neg(x) },
                         else_branch = b () => (float[6] r) { r = Abs(x) }>"""
    text = f"""(float[6] x) => (float[6] y) <float zero = {{0}}> {{
        s = ReduceSum<keepdims=0>(x) c = Less(s, zero) d = Greater(s, zero)
        y = If(c) <then_branch = t () => (float[6] p) {{ {inner} }},
                   else_branch = e () => (float[6] k) {{ k = Relu(x) }}> }}"""
    model = net(text).model
    assert [named(choice) for choice in choices(model)] == [
        "If y: then", "If y: then, If p: then", "If y: then, If p: else", "If y: else"
    ]  # fmt: skip
    assert forced(model, {"nothing": True}) is None


def test_branches_that_numbers_among_the_inputs_decide_are_not_forced():
    text = """(float[6] x, int64 rate) => (float[6] y) <int64 one = {1}> { c = Equal(rate, one)
        y = If(c) <then_branch = t () => (float[6] p) { p = Neg(x) },
                   else_branch = e () => (float[6] k) { k = Relu(x) }> }"""
    assert choices(net(text).model) == []
