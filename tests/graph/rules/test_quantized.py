"""Quantised weights: the zero of a mask is the zero point."""

import numpy as np
import pytest

from slimnet.graph.op import Role
from slimnet.graph.surgery import mask
from tests.networks.graphs import exact, net, pinned, roles, units


def quantized(scale: str = "float", zero: str = "uint8", axis: str = "", kind: str = "uint8", **values):
    return net(
        f"""(float[N,3,4] x) => (y) <{kind}[6,3,1] w, {scale} scale, {zero} z, float[2,6,1] v>
        {{ d = DequantizeLinear{axis}(w, scale, z)
           h = Conv(x, d)
           r = Relu(h)
           y = Conv(r, v) }}""",
        **values,
    )


def test_per_tensor():
    found = exact(quantized(z=2))
    assert units(found) == {"w:0 v:1": 6}
    weight = mask(found, np.arange(6) == 1).graph.initializers["w"].const_value.numpy()
    assert (weight[1] == 2).all()


def test_per_channel():
    found = exact(quantized("float[6]", "uint8[6]", "<axis=0>", z=np.arange(6)))
    assert units(found) == {"w:0 scale:0 z:0 v:1": 6}
    assert roles(found, "scale")[0] & Role.UNTOUCHED
    weight = mask(found, np.arange(6) == 4).graph.initializers["w"].const_value.numpy()
    assert (weight[4] == 4).all()


def test_per_channel_along_another_axis():
    """The zero points run along the input channels, so a masked filter holds several of them."""
    found = exact(quantized("float[3]", "uint8[3]", "<axis=1>", z=[1, 2, 3]))
    assert units(found) == {"w:0 v:1": 6}
    weight = mask(found, np.arange(6) == 4).graph.initializers["w"].const_value.numpy()
    assert weight[4].ravel().tolist() == [1, 2, 3]


def test_without_a_zero_point():
    found = exact(
        net("""(float[N,3,4] x) => (y) <int8[6,3,1] w, float[6] scale, float[2,6,1] v>
        { d = DequantizeLinear<axis=0>(w, scale)
          h = Conv(x, d)
          y = Conv(h, v) }""")
    )
    assert units(found) == {"w:0 scale:0 v:1": 6}


def test_a_negative_axis():
    found = exact(
        net("""(float[N,3] x) => (y) <int8[3,6] w, float[6] scale, int8[6] z, float[6,2] v>
        { d = DequantizeLinear<axis=-1>(w, scale, z)
          h = MatMul(x, d)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:1 scale:0 z:0 v:0": 6}


def test_a_quantised_weight_that_is_consumed():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, uint8[2,6,1] v, float[2] scale, uint8[2] z>
        { h = Conv(x, w)
          d = DequantizeLinear<axis=0>(v, scale, z)
          y = Conv(h, d) }""")
    )
    assert units(found) == {"w:0 v:1": 6}


def test_quantised_activations():
    found = exact(
        net(
            """(float[N,3,4] x) => (y) <float[6,3,1] w, float scale, uint8 z, int64[1] k = {1}>
        { h = Conv(x, w)
          q = QuantizeLinear(h, scale, z)
          d = DequantizeLinear(q, scale, z)
          y = ReduceSum(d, k) }""",
            scale=0.05,
            z=100,
        )
    )
    assert units(found) == {"w:0": 6}


@pytest.mark.parametrize("zero_point", ["", ", zero"])
def test_activations_without_a_zero_point_are_zero_where_their_codes_are(zero_point):
    """A sum over channels lets those go that are zero; a zero point left out is 0, as it is where it is written."""
    found = exact(
        net(f"""(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, float scale, uint8 zero = {{0}}, int64[1] axis = {{1}}>
        {{ h = Conv(x, w)
           q = QuantizeLinear(h, scale)
           d = DequantizeLinear(q, scale{zero_point})
           y = ReduceSum(d, axis) }}""")
    )
    assert units(found) == {"w:0": 6}


def test_weights_quantised_in_the_graph():
    """QDQ of training: float weight, quantise, dequantise."""
    found = exact(
        net(
            """(float[N,3,4] x) => (y) <float[6,3,1] w, float[6] scale, int8[6] z, float[2,6,1] v>
        { q = QuantizeLinear<axis=0>(w, scale, z)
          d = DequantizeLinear<axis=0>(q, scale, z)
          h = Conv(x, d)
          y = Conv(h, v) }""",
            z=0,
            scale=0.05,
        )
    )
    assert sum(units(found).values()) == 6


def test_a_quantised_bias():
    found = exact(
        net(
            """(float[N,3,4] x) => (y)
        <int8[6,3,1] w, int32[6] b, float[6] scale, int8[6] z, float[6] bscale, int32[6] bz, float[2,6,1] v>
        { d = DequantizeLinear<axis=0>(w, scale, z)
          e = DequantizeLinear<axis=0>(b, bscale, bz)
          h = Conv(x, d, e)
          y = Conv(h, v) }""",
            bz=0,
        )
    )
    assert units(found) == {"w:0 scale:0 z:0 b:0 bscale:0 bz:0 v:1": 6}


def test_a_quantised_bias_is_masked_too():
    """Otherwise a sum over the channels would see it."""
    found = exact(
        net("""(float[N,3,4] x) => (y)
        <int8[6,3,1] w, int32[6] b, float[6] scale, int8[6] z, float[6] bscale, int64[1] k = {1}>
        { d = DequantizeLinear<axis=0>(w, scale, z)
          e = DequantizeLinear<axis=0>(b, bscale)
          h = Conv(x, d, e)
          y = ReduceSum(h, k) }""")
    )
    assert units(found) == {"w:0 scale:0 z:0 b:0 bscale:0": 6}


def test_a_bias_quantised_as_a_whole():
    found = exact(
        net("""(float[N,3,4] x) => (y)
        <int8[6,3,1] w, int32[6] b, float scale, int8 z = {0}, int64[1] k = {1}>
        { d = DequantizeLinear(w, scale, z)
          e = DequantizeLinear(b, scale)
          h = Conv(x, d, e)
          y = ReduceSum(h, k) }""")
    )
    assert sum(units(found).values()) == 6


def test_blockwise_quantisation_pins():
    found = exact(
        net(
            """(float[N,4] x) => (y) <int8[4,6] w, float[2,6] scale, int8[2,6] z, float[6,2] v>
        { d = DequantizeLinear<axis=0, block_size=2>(w, scale, z)
          h = MatMul(x, d)
          y = MatMul(h, v) }""",
            opset=21,
        )
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "blockwise quantisation"


def test_a_cast_of_quantised_numbers_takes_the_zero_point_for_a_number():
    """A removed channel is 100 after the Cast, not 0, and would be missing in the sum."""
    found = exact(
        net("""(float[1,5,6] x) => (float[1,5,1] y)
        <float[6,12] w, float qs = {0.1}, uint8 qz = {100}, int64[1] axis = {2}>
        { a = MatMul(x, w)  q = QuantizeLinear(a, qs, qz)  b = Cast<to=1>(q)  y = ReduceSum(b, axis) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "is summed over although it does not become zero"


def test_the_integer_operators_have_no_rule_and_pin():
    found = exact(
        net("""(uint8[2,3,4,4] x) => (y) <uint8[6,3,1,1] w, uint8 xz = {3}, uint8 wz = {2}>
        { h = ConvInteger(x, w, xz, wz)
          y = Cast<to=1>(h) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "has no rule"


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_other_float_types(dtype):
    found = exact(
        net(f"""({dtype}[N,3] x) => (y) <{dtype}[3,6] w, {dtype}[6] b, {dtype}[6,2] v>
        {{ h = Gemm(x, w, b)
           r = Relu(h)
           y = MatMul(r, v) }}""")
    )
    assert units(found) == {"w:1 b:0 v:0": 6}


def test_a_weight_that_is_read_with_two_zero_points_is_pinned():
    """What stands for zero to one reader is a number to the other."""
    found = exact(
        net("""(float[N,4] x) => (y) <int8[4,6] w, float s = {0.1}, int8 three = {3}, int8 five = {5}, float[6,2] v>
        { a = DequantizeLinear(w, s, three)  b = DequantizeLinear(w, s, five)
          c = MatMul(x, a)  d = MatMul(x, b)  e = Mul(c, d)  y = MatMul(e, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "another node reads this weight with another zero point"
