"""What is compared besides the outputs, and what differences are relative to."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import VerifyFailed
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.verification.observe import behind
from slimnet.verification.verify import verify
from tests.networks.graphs import net

#: A hidden layer, and behind it what is under test.
HEAD = """(float[N,8] x) => (y) <float[8,16] w, float[16,5] v, {more}>
    {{ a = MatMul(x, w) c = Relu(a) d = MatMul(c, v) {tail} }}"""


def headed(tail: str, more: str = "float unused", **weights: object):
    return net(HEAD.format(tail=tail, more=more), n=1, **weights)


def with_wrong_scores(found, removed) -> ir.Model:
    """The slim network with another score for the first class."""
    model = slim(found, removed)
    value = model.graph.initializers["v"]
    array = value.const_value.numpy().copy()
    array[:, 0] *= 1.05
    value.const_value = ir.Tensor(array, name="v")
    return model


@pytest.mark.parametrize(
    ("tail", "seen"),
    [
        ("y = ArgMax<axis=1>(d)", ["d"]),
        ("m = ArgMax<axis=1>(d) f = Cast<to=1>(m) t = Reshape(f, flat) y = Mul(t, two)", ["d"]),
        ("s = Softmax(d) y = ArgMax<axis=1>(s)", ["s", "d"]),
        ("s = Sigmoid(d) b = Mul(d, two) y = Concat<axis=1>(b, s)", ["d"]),
        ("values, y = TopK(d, one)", ["d"]),
        ("r = Round(d) y = Neg(r)", ["d"]),
        ("y = Round(d)", ["d"]),
        ("q = Greater(d, two) y = Not(q)", ["d"]),
        ("y = Identity(d)", []),
        ("y = MatMul(d, square)", []),
        ("p = MatMul(d, square) y = Tanh(p)", ["p"]),
    ],
)
def test_values_behind_what_does_not_show_every_change(tail, seen):
    more = "float[1] two, int64[1] one = {1}, int64[1] flat = {-1}, float[5,5] square"
    found = behind(headed(tail, more, two=2.0).model)
    assert [value.name for value in found.values()] == seen


@pytest.mark.parametrize(
    "tail",
    ["y = ArgMax<axis=1>(d)", "s = Sign(d) y = Mul(s, s)", "s = Softmax(d) y = ArgMax<axis=1>(s)", "y = Round(d)"],
)
def test_a_wrong_score_is_found_though_the_same_class_wins(tail):
    found = trace(headed(tail))
    removed = np.arange(found.n_units) % 2 == 0
    assert verify(found, removed).proven == ["w"]
    with pytest.raises(VerifyFailed, match=r"at [sdy] for inputs"):
        verify(found, removed, with_wrong_scores(found, removed))


def test_a_file_that_ends_in_another_way_is_compared_at_its_outputs():
    """What decides the winner is not there to be looked at."""
    found = trace(headed("y = ArgMax<axis=1>(d)"))
    removed = np.arange(found.n_units) % 2 == 0
    model = slim(found, removed)
    last = next(node for node in model.graph if node.op_type == "ArgMax")
    flipped = ir.node("Neg", [last.inputs[0]])
    model.graph.insert_before(last, flipped)
    last.replace_input_with(0, flipped.outputs[0])
    last.op_type = "ArgMin"
    result = verify(found, removed, model)
    assert (result.exact, result.behind) == (True, [])


def test_small_scores_beside_large_boxes_are_compared_with_each_other():
    tail, more = (
        "b = Mul(d, large) s = MatMul(c, u) r = Sigmoid(s) y = Concat<axis=1>(b, r)",
        "float large, float[16,3] u",
    )
    found = trace(headed(tail, more, large=1e4, u=0.02))
    removed = np.arange(found.n_units) % 2 == 0
    assert verify(found, removed).exact
    model = slim(found, removed)
    node = next(node for node in model.graph if node.op_type == "Sigmoid")
    shift = ir.node("Mul", [node.outputs[0], ir.val("almost", const_value=ir.tensor(np.float32(0.9), name="almost"))])
    model.graph.register_initializer(shift.inputs[1])
    model.graph.insert_after(node, shift)
    node.outputs[0].replace_all_uses_with(shift.outputs[0])
    shift.replace_input_with(0, node.outputs[0])
    with pytest.raises(VerifyFailed, match="at y"):
        verify(found, removed, model)


def test_what_a_sigmoid_hides_is_proven_before_it():
    found = trace(
        headed("e = Mul(d, small) f = Add(e, low) y = Sigmoid(f)", "float small, float low", small=0.002, low=-102.0)
    )
    result = verify(found, np.arange(found.n_units) % 2 == 0)
    assert (result.proven, result.behind) == (["w"], ["f"])


def test_a_logarithm_of_what_is_negative_is_compared_before_it():
    found = trace(headed("s = Abs(d) n = Neg(s) y = Log(n)"))
    result = verify(found, np.arange(found.n_units) % 2 == 0)
    assert (result.proven, result.behind) == (["w"], ["n"])


def test_random_numbers_are_named():
    found = trace(headed("r = RandomNormalLike(d) y = Add(d, r)"))
    removed = np.arange(found.n_units) % 2 == 0
    model = slim(found, removed)
    node = next(node for node in model.graph if node.op_type == "RandomNormalLike")
    node.attributes["seed"] = ir.AttrFloat32("seed", 7.0)
    with pytest.raises(VerifyFailed, match=r"It draws random numbers \(RandomNormalLike"):
        verify(found, removed, model)
