"""Branches whose choice is known before the network runs."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from slimnet.graph.branches import deciding_values, inline_branches, lift_initializers, undecided
from slimnet.graph.net import Net
from slimnet.runtime.onnxruntime import DEFAULT

HEADER = '<ir_version: 8, opset_import: ["" : 17]> g '
#: Two layers in each branch, under the same names.
BRANCH = """g{k} () => (float[1,4] out) <float[8,2] w = {{{w}}}, float[2,4] v = {{{v}}}>
    {{ a = MatMul(x, w) b = Relu(a) out = MatMul(b, v) }}"""


def branch(k):
    numbers = np.random.default_rng(k).standard_normal(24).round(2)
    return BRANCH.format(k=k, w=", ".join(map(str, numbers[:16])), v=", ".join(map(str, numbers[16:])))


def network(text, **inputs):
    """A network from text and the shapes of its inputs."""
    model = ir.from_proto(parser.parse_model(HEADER + text))
    return Net(model, "net", inputs)


def ops(net):
    return [node.op_type for node in net.model.graph if node.op_type != "Constant"]


def check(net, feed):
    """Inline what is known; outputs must be named and computed as before. Returns the operators that are left."""
    names = [value.name for value in net.model.graph.outputs]
    before = DEFAULT.session(net.model).run(feed)
    inline_branches(net)
    assert [value.name for value in net.model.graph.outputs] == names
    assert [array.tolist() for array in DEFAULT.session(net.model).run(feed)] == [array.tolist() for array in before]
    return ops(net)


X = {"x": np.linspace(-1, 1, 8, dtype=np.float32)[None]}


@pytest.mark.parametrize("taken", [0, 1])
def test_a_constant_condition_leaves_one_branch(taken):
    net = network(
        f"(float[1,8] x) => (float[1,4] y) <int64 rate = {{{taken}}}, int64 one = {{1}}> "
        f"{{ c = Equal(rate, one) y = If(c) <then_branch = {branch(1)}, else_branch = {branch(2)}> }}",
        x=(1, 8),
    )
    assert check(net, X) == ["MatMul", "Relu", "MatMul", "Identity"]
    assert sorted(net.params()) == ["v", "w"]


def test_branches_of_the_same_names_stand_side_by_side():
    net = network(
        f"(float[1,8] x) => (float[1,4] y) <bool yes = {{1}}, bool no = {{0}}> "
        f"{{ p = If(yes) <then_branch = {branch(1)}, else_branch = {branch(2)}> "
        f"q = If(no) <then_branch = {branch(3)}, else_branch = {branch(4)}> y = Add(p, q) }}",
        x=(1, 8),
    )
    assert check(net, X) == ["MatMul", "Relu", "MatMul", "MatMul", "Relu", "MatMul", "Add"]
    assert len(net.params()) == 4


def test_a_choice_inside_a_branch_follows():
    inner = f"z = If(yes) <then_branch = {branch(1)}, else_branch = {branch(2)}> out = Neg(z)"
    net = network(
        f"(float[1,8] x) => (float[1,4] y) <bool yes = {{1}}> {{ y = If(yes) "
        f"<then_branch = g5 () => (float[1,4] out) {{ {inner} }}, else_branch = {branch(3)}> }}",
        x=(1, 8),
    )
    assert check(net, X) == ["MatMul", "Relu", "MatMul", "Neg", "Identity"]


def test_a_branch_may_hand_on_what_it_reads():
    """The value is computed outside of it, and is an output of the network itself."""
    net = network(
        """(float[1,8] x) => (float[1,8] a, float[1,8] y) <bool yes = {1}>
        { a = Relu(x) y = If(yes) <then_branch = g1 () => (float[1,8] out) { out = Identity(a) },
                                   else_branch = g2 () => (float[1,8] out) { out = Neg(a) }> }""",
        x=(1, 8),
    )
    assert check(net, X) == ["Relu", "Identity", "Identity"]


#: As torch.jit writes squeeze(1): a choice by the size of an axis.
BY_SIZE = """(float[N,{c},3] x) => (y) <int64 k = {{{axis}}}, int64 one = {{1}}, int64[1] at = {{1}}>
    {{ s = Shape(x) n = Gather(s, k) c = Equal(n, one)
       y = If(c) <then_branch = g1 () => (out) {{ out = Neg(x) }}, else_branch = g2 () => (out) {{ out = Abs(x) }}> }}"""


@pytest.mark.parametrize(("channels", "left"), [(1, "Neg"), (4, "Abs")])
def test_a_size_that_is_fixed_decides(channels, left):
    net = network(BY_SIZE.format(c=channels, axis=1).replace("(y)", "(float[N,C,3] y)"), x=(2, channels, 3))
    net.inputs = {"x": (2, channels, 3)}
    inline_branches(net)
    assert ops(net) == [left, "Identity"]


def test_a_size_that_is_open_decides_only_when_it_runs():
    net = network(BY_SIZE.format(c=4, axis=0).replace("(y)", "(float[N,C,3] y)"), x=(1, 4, 3))
    inline_branches(net)
    assert "If" in ops(net)
    assert undecided(net.model) == {}


def test_inputs_that_decide_are_named():
    net = network(
        f"(float[1,8] x, int64 rate, int64 mode) => (float[1,4] y) "
        f"{{ c = Equal(rate, mode) y = If(c) <then_branch = {branch(1)}, else_branch = {branch(2)}> }}",
        x=(1, 8), rate=(), mode=(),
    )  # fmt: skip
    inline_branches(net)
    assert undecided(net.model) == {"y": ["mode", "rate"]}


@pytest.mark.parametrize(
    ("kind", "how", "values"),
    [
        ("int64", "c = Equal(rate, k)", [15, 16, 17]),
        ("int64[1]", "f = Cast<to=1>(rate) z = Constant<value_float=2.0>() c = Greater(f, z)", [1, 2, 3]),
        ("bool", "c = Not(rate)", [0, 1]),
        ("float[9]", "s = ReduceSum<keepdims=0>(rate) z = Constant<value_float=2.0>() c = Greater(s, z)", None),
    ],
)
def test_numbers_that_decide_are_those_compared_with(kind, how, values):
    net = network(
        f"(float[1,8] x, {kind} rate) => (float[1,4] y) <int64 k = {{16}}> "
        f"{{ {how} y = If(c) <then_branch = {branch(1)}, else_branch = {branch(2)}> }}",
        x=(1, 8),
    )
    assert deciding_values(net.model) == ({} if values is None else {"rate": values})
    assert undecided(net.model) == ({} if values is None else {"y": ["rate"]})


def test_weights_of_inner_graphs_get_names_of_their_own():
    net = network(
        f"(float[1,8] x, bool c) => (float[1,4] y) "
        f"{{ y = If(c) <then_branch = {branch(1)}, else_branch = {branch(2)}> }}",
        x=(1, 8),
    )
    feeds = [X | {"c": np.array(taken)} for taken in (True, False)]
    before = [DEFAULT.session(net.model).run(feed)[0].tolist() for feed in feeds]
    lift_initializers(net.model)
    assert len(net.params()) == 4
    assert [DEFAULT.session(net.model).run(feed)[0].tolist() for feed in feeds] == before
