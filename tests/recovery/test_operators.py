"""What an operator computes is its features times its weight, laid out as matrices."""

from __future__ import annotations

import numpy as np
import pytest

from slimnet.recovery.operators import OPERATORS
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from tests.networks.graphs import net

CASES = {
    "conv": "(float[2,4,9,7] x) => (y) <float[6,4,3,3] w> { y = Conv(x, w) }",
    "strides, pads": "(float[2,4,9,7] x) => (y) <float[6,4,3,2] w> "
    "{ y = Conv<strides=[2,1], pads=[1,0,2,1], dilations=[1,2]>(x, w) }",
    "same upper": "(float[2,4,9,7] x) => (y) <float[6,4,3,4] w> "
    '{ y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) }',
    "same lower": "(float[2,4,9,7] x) => (y) <float[6,4,3,4] w> "
    '{ y = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, w) }',
    "groups": "(float[2,4,9,7] x) => (y) <float[6,2,3,3] w> { y = Conv<group=2, pads=[1,1,1,1]>(x, w) }",
    "depthwise": "(float[2,4,9,7] x) => (y) <float[4,1,3,3] w> { y = Conv<group=4>(x, w) }",
    "1-D": "(float[2,4,9] x) => (y) <float[6,4,3] w> { y = Conv<strides=[2]>(x, w) }",
    "3-D": "(float[1,2,5,6,4] x) => (y) <float[3,2,2,3,1] w> { y = Conv<pads=[1,0,0,0,1,0]>(x, w) }",
    "transposed": "(float[2,4,5,3] x) => (y) <float[4,6,3,3] w> "
    "{ y = ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,2]>(x, w) }",
    "transposed groups": "(float[2,4,5,3] x) => (y) <float[4,3,2,3] w> "
    "{ y = ConvTranspose<group=2, dilations=[2,1], strides=[1,2]>(x, w) }",
    "transposed 1-D": "(float[2,4,5] x) => (y) <float[4,6,4] w> { y = ConvTranspose<strides=[2], pads=[1,1]>(x, w) }",
    "matmul": "(float[2,3,4] x) => (y) <float[4,6] w> { y = MatMul(x, w) }",
    "matmul from the left": "(float[2,4,3] x) => (y) <float[6,4] w> { y = MatMul(w, x) }",
    "gemm": "(float[5,4] x) => (y) <float[4,6] w> { y = Gemm(x, w) }",
    "gemm turned": "(float[5,4] x) => (y) <float[6,4] w> { y = Gemm<transB=1>(x, w) }",
}


@pytest.mark.parametrize("case", CASES)
def test_features_times_matrices_are_the_output(case):
    network = net(CASES[case])
    feed = random_inputs(network, network.inputs)
    (y,) = DEFAULT.session(network.model).run(feed)
    (node,) = network.model.graph
    layer = OPERATORS[node.op_type](node, y.ndim, lambda place: node.inputs[place].is_initializer())
    weight = node.inputs[layer.weight].const_value.numpy()
    matrices = layer.operator.matrices(weight)
    assert np.array_equal(layer.operator.weight(matrices, weight.shape), weight)
    rng = np.random.default_rng(0)
    at = rng.permutation(layer.operator.places(y.shape))[:7]
    given = layer.operator.features(feed["x"], y.shape, at) @ matrices.transpose(0, 2, 1)
    assert np.allclose(given, layer.operator.targets(y, at), atol=1e-5)


def test_every_position_is_one_row():
    network = net(CASES["groups"])
    (y,) = DEFAULT.session(network.model).run(random_inputs(network, network.inputs))
    (node,) = network.model.graph
    layer = OPERATORS["Conv"](node, 4, lambda place: True)
    rows = layer.operator.targets(y, np.arange(layer.operator.places(y.shape)))
    assert rows.size == y.size
    assert np.array_equal(np.sort(rows.ravel()), np.sort(y.ravel()))


def test_what_is_no_plain_product_is_left_alone():
    (node,) = net("(float[5,4] x) => (y) <float[4,6] w> { y = Gemm<alpha=0.5>(x, w) }").model.graph
    assert OPERATORS["Gemm"](node, 2, lambda place: place == 1) is None
    (node,) = net("(float[5,4] x, float[4,6] z) => (y) { y = MatMul(x, z) }").model.graph
    assert OPERATORS["MatMul"](node, 2, lambda place: False) is None
