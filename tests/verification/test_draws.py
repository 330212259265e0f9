"""The inputs that networks are compared on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import VerifyFailed
from slimnet.graph.net import Net
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.verification.draws import draws, other_sizes
from slimnet.verification.verify import verify
from tests.networks.graphs import net

OPEN = """(float[N,6] x) => (y) <float[6,8] w, float[8,3] v, int64[2] target = {-1,3}>
    { a = MatMul(x, w) c = Relu(a) d = MatMul(c, v) y = Reshape(d, target) }"""
CONV = (
    """(float[N,3,H,W] x) => (y) <float[8,3,3,3] w, float[2,8,1,1] v> { a = Conv(x, w) b = Relu(a) y = Conv(b, v) }"""
)


def sized(text: str, **shapes: tuple[int, ...]) -> Net:
    """A network with open axes, to be traced at these sizes."""
    return replace(net(text), inputs=shapes)


def halved(found):
    return np.arange(found.n_units) % 2 == 0


def test_every_open_axis_is_tried_at_two_sizes():
    found = trace(sized(CONV, x=(1, 3, 9, 12)))
    result = verify(found, halved(found))
    assert result.inputs == ["normal", "0 to 1", "0 to 255", "x=3x3x9x12", "x=1x3x18x24"]


def test_sizes_that_the_network_cannot_run_are_left_out():
    """It is open in its file and fixed in truth: what was computed from the size stands in it as a number."""
    found = trace(net(OPEN.replace("-1,3", "1,3"), n=1))
    assert verify(found, halved(found)).inputs == ["normal", "0 to 1", "0 to 255"]


def test_a_file_that_breaks_at_another_batch_size_fails():
    found = trace(net(OPEN, n=1))
    model = slim(found, halved(found))
    assert verify(found, halved(found), model).exact
    model.graph.initializers["target"].const_value = ir.tensor(np.array([1, 3]), name="target")
    with pytest.raises(VerifyFailed, match="the slim network does not run on inputs x=3x6"):
        verify(found, halved(found), model)


def test_a_file_that_differs_for_pixels_only_fails():
    found = trace(net(OPEN, n=1))
    model = slim(found, halved(found))
    relu = next(node for node in model.graph if node.op_type == "Relu")
    low, high = (
        ir.val(name, const_value=ir.tensor(np.float32(v), name=name)) for name, v in (("low", 0), ("high", 40))
    )
    for bound in (low, high):
        model.graph.register_initializer(bound)
    clip = ir.node("Clip", [relu.outputs[0], low, high])
    model.graph.insert_after(relu, clip)
    relu.outputs[0].replace_all_uses_with(clip.outputs[0])
    clip.replace_input_with(0, relu.outputs[0])
    with pytest.raises(VerifyFailed, match="for inputs 0 to 255"):
        verify(found, halved(found), model)


def test_a_network_that_is_nan_for_normal_inputs_is_compared_on_others():
    text = OPEN.replace("a = MatMul(x, w)", "l = Sqrt(x) a = MatMul(l, w)")
    found = trace(net(text, n=1))
    result = verify(found, halved(found))
    assert (result.exact, result.proven) == (True, ["w"])


def test_tokens_have_no_ranges():
    text = """(int64[N,T] ids) => (y) <float[9,8] words, float[8,4] v>
        { a = Gather(words, ids) b = Relu(a) y = MatMul(b, v) }"""
    found = trace(sized(text, ids=(1, 5)))
    shown = [draw.what for draw in draws(found, None, 2)]
    assert shown == ["normal", "normal", "ids=3x5", "ids=1x10", "ids=1x6"]
    assert all(draw.feed["ids"].max() < 9 for draw in draws(found, None, 2))


def test_axes_of_one_symbol_grow_together():
    text = "(float[N,T,4] a, float[N,T,4] b, float[T,4] c) => (y) { d = Add(a, b) y = Add(d, c) }"
    shapes = {"a": (1, 100, 4), "b": (1, 100, 4), "c": (100, 4)}
    found = list(other_sizes(sized(text, **shapes).model, shapes))
    assert found == [("batch", {"a": (3, 101, 4), "b": (3, 101, 4), "c": (101, 4)})]
