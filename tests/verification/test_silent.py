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
      y = If(c) <then_branch = never () => (float[1,3] p) { q = Relu(h) p = MatMul(q, v) },
                 else_branch = often () => (float[1,3] r) { t = Tanh(h) r = MatMul(t, u) }> }"""

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


def rewritten(model: ir.Model, way: str, row: int) -> ir.Model:
    """The network with a damaged row of its table, which has another name, size or place as well."""
    copy = damaged(model, "table", slice(row, row + 1))
    graph, old = copy.graph, copy.graph.initializers["table"]
    array = old.const_value.numpy()
    parts = {
        "renamed": [array],
        "split": [array[:500], array[500:]],
        "scaled": [2 * array],
        "longer": [np.concatenate([array, array[:9]])],
        "shorter": [array[:990]],
    }[way]
    values = [ir.Value(name=f"t{k}", const_value=ir.Tensor(part, name=f"t{k}"),
                       type=old.type, shape=ir.Shape(part.shape)) for k, part in enumerate(parts)]  # fmt: skip
    gather = next(node for node in graph if node.op_type == "Gather")
    for value in values:
        graph.register_initializer(value)
    table = values[0]
    if way == "split":
        graph.insert_before(gather, node := ir.node("Concat", values, {"axis": 0}))
        table = node.outputs[0]
    gather.replace_input_with(0, table)
    if way == "scaled":
        half = ir.Value(name="half", const_value=ir.Tensor(np.float32(0.5), name="half"), type=old.type,
                        shape=ir.Shape([]))  # fmt: skip
        graph.register_initializer(half)
        product = next(node for node in graph if node.op_type == "MatMul")
        graph.insert_before(product, node := ir.node("Mul", [product.inputs[0], half]))
        product.replace_input_with(0, node.outputs[0])
    del graph.initializers["table"]
    return copy


@pytest.mark.parametrize("way", ["renamed", "split", "scaled", "longer", "shorter"])
def test_a_row_that_no_input_reads_is_noticed_in_a_table_that_is_not_found_by_its_name(way):
    found = trace(net(WORDS))
    model = slim(found, halved(found))
    with pytest.raises(VerifyFailed, match=r"differs from the masked one|does not run"):
        verify(found, halved(found), rewritten(model, way, 777), foreign=True)
    if way != "shorter":
        whole = rewritten(damaged(model, "table", slice(0)), way, 1000)
        result = verify(found, halved(found), whole, foreign=True)
        assert result.exact
        assert result.not_compared == []


def test_a_table_of_which_inputs_choose_no_row_is_said_to_be_compared_in_part():
    """Positions are read up to the length of the inputs only."""
    text = """(int64[1,4] ids) => (y) <float[50,8] table, float[99,8] places, float[8,6] w, int64[1] o = {0}> {
        shape = Shape(ids) n = Slice(shape, one, two) p = Slice(places, o, n) e = Gather(table, ids)
        h = Add(e, p) y = MatMul(h, w) }"""
    found = trace(net(text.replace("int64[1] o", "int64[1] one = {1}, int64[1] two = {2}, int64[1] o")))
    removed = np.zeros(found.n_units, bool)
    model = slim(found, removed)
    assert verify(found, removed, model, foreign=True).not_compared == []
    value = model.graph.initializers["places"]
    value.name = "positions"
    assert verify(found, removed, model, foreign=True).not_compared == []
    value.const_value = ir.Tensor(np.concatenate([value.const_value.numpy()[:90], np.ones((9, 8), np.float32)]))
    assert verify(found, removed, model, foreign=True).not_compared == ["what the inputs do not read of positions"]


LOOP = """(float[6] x) => (float[6] y) <int64 none = {0}, bool go = {1}> {
    y = Loop(none, go, x) <body = b (int64 i, bool c, float[6] s) => (bool d, float[6] t)
                           { d = Identity(c) t = Relu(s) }> }"""


def test_other_operators_in_a_loop_that_is_never_entered_are_named():
    found = trace(net(LOOP))
    model = slim(found, np.zeros(0, bool))
    assert verify(found, np.zeros(0, bool), model, foreign=True).not_compared == []
    body = next(node for node in model.graph if node.op_type == "Loop").attributes["body"].as_graph()
    next(node for node in body if node.op_type == "Relu").op_type = "Abs"
    (said,) = verify(found, np.zeros(0, bool), model, foreign=True).not_compared
    assert said == "the body of Loop y, which is not as the plan makes it, where no input enters it"


def test_outputs_under_other_names_are_noticed():
    found = trace(net(NORMALISED))
    model = slim(found, halved(found))
    model.graph.outputs[0].name = "z"
    with pytest.raises(VerifyFailed, match="output 0 of the slim network is called z instead of y"):
        verify(found, halved(found), model, foreign=True)


def test_a_branch_that_does_not_run_is_named():
    """The rows it reads are there for the inputs that take it only."""
    text = RARE.replace("q = Relu(h) p", "z = Cast<to=7>(s) n = Abs(z) m = Add(n, n) k = Gather(h, m) q = Relu(h) p")
    text = text.replace("p = MatMul(q, v) }", "a = MatMul(q, v) b = ReduceSum<keepdims=0>(k) p = Add(a, b) }")
    found = trace(net(text))
    (said,) = verify(found, halved(found), inputs=[{"x": np.full((1, 6), 9, np.float32)}], runs=0).not_compared
    assert said == "If y: then, which does not run on these inputs"


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
