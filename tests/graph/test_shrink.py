"""Shrinking: what is zero already goes, exactly; what leaves a constant is told, folded or given up on request."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose

from slimnet.graph.net import Net
from slimnet.graph.shrink import absorb, shrinkable
from slimnet.graph.surgery import slim
from slimnet.pipeline.shrink import _probe
from slimnet.runtime.onnxruntime import DEFAULT
from tests.networks.graphs import feeds, net, run
from tests.networks.named import HEADS

rng = np.random.default_rng(0)


def weights(*shape: int, zero: tuple[int, ...] = (), axis: int = 0) -> np.ndarray:
    """Random weights with some slices set to zero."""
    array = rng.standard_normal(shape).astype(np.float32)
    array[(slice(None),) * axis + (list(zero),)] = 0
    return array


def widths(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by the name it began with."""
    return {name: tuple(v.const_value.shape.numpy()) for name, v in model.graph.initializers.items() if v.const_value}


def shrunk(net: Net, assume_masked: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes after shrinking, once the outputs have been shown to be the same on two inputs."""
    found = shrinkable(net, assume_masked)
    small = slim(found.trace, found.removed)
    for seed in range(2):
        feed = feeds(net, seed)
        for want, got in zip(run(net.model, feed), run(small, feed), strict=True):
            assert_allclose(got, want, atol=1e-5 * max(1, np.abs(want).max()))
    return widths(small)


CHAIN = """(float[2,3,6,6] x) => (y) <float[8,3,3,3] w, float[6,8,3,3] v, float[4,6,1,1] u>
    { a = Conv(x, w) b = Relu(a) c = Conv(b, v) d = Relu(c) y = Conv(d, u) }"""


def test_slices_that_nobody_reads_go():
    left = shrunk(net(CHAIN, v=weights(6, 8, 3, 3, zero=(1, 5), axis=1)))
    assert left["w"] == (6, 3, 3, 3)
    assert left["v"] == (6, 6, 3, 3)


def test_filters_that_give_zero_go():
    left = shrunk(net(CHAIN, w=weights(8, 3, 3, 3, zero=(0, 2, 4))))
    assert left["w"] == (5, 3, 3, 3)
    assert left["v"] == (6, 5, 3, 3)


def test_what_follows_from_what_has_gone_goes_too():
    """Filter 3 of v reads channels 0 and 1 of w only, which are zero; so what u reads of it is zero as well."""
    v = weights(6, 8, 3, 3)
    v[3, 2:] = 0
    left = shrunk(net(CHAIN, w=weights(8, 3, 3, 3, zero=(0, 1)), v=v))
    assert left == {"w": (6, 3, 3, 3), "v": (5, 6, 3, 3), "u": (4, 5, 1, 1)}


def test_what_is_read_by_nobody_once_its_reader_has_gone_goes_too():
    """The other way round: u ignores filter 3 of v, the only one that reads channel 7 of w."""
    v = weights(6, 8, 3, 3)
    v[:3, 7] = v[4:, 7] = 0
    left = shrunk(net(CHAIN, v=v, u=weights(4, 6, 1, 1, zero=(3,), axis=1)))
    assert left == {"w": (7, 3, 3, 3), "v": (5, 7, 3, 3), "u": (4, 5, 1, 1)}


def test_a_network_without_zeros_has_nothing_to_lose():
    found = shrinkable(net(CHAIN))
    assert not found.removed.any()
    assert found.constant == {}


NORMED = """(float[2,3,6,6] x) => (y)
    <float[8,3,3,3] w, float[8] bias, float[8] scale, float[8] shift, float[8] mean, float[8] var, float[6,8,3,3] v>
    { a = Conv(x, w, bias) b = BatchNormalization(a, scale, shift, mean, var) c = Relu(b) y = Conv(c, v) }"""
ZERO = (2, 6)


def test_a_bias_that_is_zero_too_does_not_matter():
    bias = weights(8, zero=ZERO)
    text = """(float[2,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] bias, float[6,8,3,3] v>
        { a = Conv(x, w, bias) b = Relu(a) y = Conv(b, v) }"""
    assert shrunk(net(text, w=weights(8, 3, 3, 3, zero=ZERO), bias=bias))["bias"] == (6,)


def test_a_batch_norm_that_scales_and_shifts_by_zero_makes_zeros():
    left = shrunk(net(NORMED, scale=weights(8, zero=ZERO), shift=weights(8, zero=ZERO)))
    assert left["w"] == (6, 3, 3, 3)
    assert left["mean"] == (6,)


@pytest.mark.parametrize("which", ["bias", "shift", "mean"])
def test_filters_that_leave_a_constant_are_listed(which):
    """Zero filters alone are not enough: bias, mean or shift make a constant of them."""
    zeros = {name: np.zeros(8, np.float32) for name in ("bias", "shift", "mean") if name != which}
    found = shrinkable(net(NORMED, w=weights(8, 3, 3, 3, zero=ZERO), **zeros))
    assert not found.removed.any()
    assert found.constant == {"w": 2}


def test_on_request_they_go_and_the_outputs_change():
    masked = net(NORMED, w=weights(8, 3, 3, 3, zero=ZERO))
    found = shrinkable(masked, assume_masked=True)
    small = slim(found.trace, found.removed)
    assert widths(small)["w"] == (6, 3, 3, 3)
    assert found.constant == {}
    feed = feeds(masked)
    assert not np.allclose(run(masked.model, feed)[0], run(small, feed)[0], atol=1e-3)


RESIDUAL = """(float[2,3,6,6] x) => (y) <float[8,3,1,1] w, float[8,8,3,3] v, float[4,8,1,1] u>
    { a = Conv(x, w) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, v) d = Add(c, b) e = Relu(d) y = Conv(e, u) }"""


def test_a_residual_channel_goes_only_if_all_of_its_producers_are_zero():
    one = shrinkable(net(RESIDUAL, w=weights(8, 3, 1, 1, zero=(1, 2))))
    assert not one.removed.any()
    left = shrunk(net(RESIDUAL, w=weights(8, 3, 1, 1, zero=(1, 2)), v=weights(8, 8, 3, 3, zero=(2, 3))))
    assert left["w"] == (7, 3, 1, 1)
    assert left["v"] == (7, 7, 3, 3)


def test_depthwise_filters_go():
    text = """(float[2,3,6,6] x) => (y) <float[8,3,1,1] w, float[8,1,3,3] d, float[4,8,1,1] u>
        { a = Conv(x, w) b = Relu(a) c = Conv<group=8>(b, d) e = Relu(c) y = Conv(e, u) }"""
    left = shrunk(net(text, d=weights(8, 1, 3, 3, zero=(0, 7))))
    assert left == {"w": (6, 3, 1, 1), "d": (6, 1, 3, 3), "u": (4, 6, 1, 1)}


GROUPED = """(float[1,3,4,4] x) => (y) <float[8,3,1,1] w, float[12,4,1,1] g, float[5,12,1,1] u>
    { a = Conv(x, w) b = Relu(a) c = Conv<group=2>(b, g) d = Relu(c) y = Conv(d, u) }"""
TRANSPOSED = """(float[1,3,4,4] x) => (y) <float[8,3,1,1] w, float[8,6,1,1] g, float[5,12,1,1] u>
    { a = Conv(x, w) b = Relu(a) c = ConvTranspose<group=2>(b, g) d = Relu(c) y = Conv(d, u) }"""


@pytest.mark.parametrize("text", [GROUPED, TRANSPOSED])
def test_a_grouped_convolution_without_zeros_keeps_everything(text):
    assert not shrinkable(net(text)).removed.any()


def test_offsets_of_a_grouped_convolution_go_when_every_group_has_done_with_them():
    """Offset 1 is unread in both groups; offset 2 gets nothing in one of them, then in both."""
    g = weights(12, 4, 1, 1, zero=(1,), axis=1)
    assert shrunk(net(GROUPED, g=g, w=weights(8, 3, 1, 1, zero=(6,))))["w"] == (6, 3, 1, 1)
    assert shrunk(net(GROUPED, g=g, w=weights(8, 3, 1, 1, zero=(2, 6))))["w"] == (4, 3, 1, 1)


def test_offsets_of_a_grouped_transposed_convolution_go():
    assert shrunk(net(TRANSPOSED, w=weights(8, 3, 1, 1, zero=(1, 5))))["w"] == (6, 3, 1, 1)
    assert shrunk(net(TRANSPOSED, w=weights(8, 3, 1, 1, zero=(1, 6))))["w"] == (8, 3, 1, 1)
    assert shrunk(net(TRANSPOSED, u=weights(5, 12, 1, 1, zero=(0, 6), axis=1)))["g"] == (8, 5, 1, 1)


@pytest.mark.parametrize(("activation", "goes"), [("Relu", True), ("Tanh", True), ("Sigmoid", False), ("Exp", False)])
def test_only_what_keeps_zero_lets_a_zero_pass(activation, goes):
    text = f"""(float[2,4] x) => (y) <float[4,8] w, float[8,3] v>
        {{ a = MatMul(x, w) b = {activation}(a) y = MatMul(b, v) }}"""
    masked = net(text, w=weights(4, 8, zero=(3,), axis=1))
    assert shrinkable(masked).removed.any() == goes
    assert shrunk(masked)["w"] == ((4, 7) if goes else (4, 8))


def test_hidden_units_of_an_lstm_go():
    """A unit whose gates, recurrence and bias are zero stays at zero: its cell starts there and gets 0.5 * tanh(0)."""
    text = """(float[5,2,3] x) => (y) <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[1,4,5] fc>
        { h, h1, c1 = LSTM<hidden_size=4>(x, w, r, b) s = Squeeze(h1) y = MatMul(s, fc) }"""
    text = text.replace("s = Squeeze(h1) y", "y").replace("MatMul(s", "MatMul(h1")
    w, r, b = weights(1, 16, 3), weights(1, 16, 4), weights(1, 32)
    gates = [2, 6, 10, 14]
    w[:, gates] = r[:, gates] = b[:, gates] = b[:, [16 + g for g in gates]] = 0
    left = shrunk(net(text, w=w, r=r, b=b))
    assert left["w"] == (1, 12, 3)
    assert left["r"] == (1, 12, 3)


def test_hidden_units_of_an_lstm_that_nobody_reads_go():
    text = """(float[5,2,3] x) => (y) <float[1,16,3] w, float[1,16,4] r, float[1,4,5] fc>
        { h, h1, c1 = LSTM<hidden_size=4>(x, w, r) y = MatMul(h1, fc) }"""
    left = shrunk(net(text, r=weights(1, 16, 4, zero=(1,), axis=2), fc=weights(1, 4, 5, zero=(1,), axis=1)))
    assert left["w"] == (1, 12, 3)
    assert left["fc"] == (1, 3, 5)


def test_attention_heads_go():
    head = tuple(range(4, 8))
    left = shrunk(net(HEADS, wo=weights(12, 8, zero=head)))
    assert left["wv"] == (8, 8)
    assert left["wo"] == (8, 8)


def test_quantised_weights_are_zero_at_their_zero_point():
    text = """(float[2,4] x) => (y) <int8[4,6] w, float ws = {0.1}, int8 wz = {3}, float[6,2] v>
        { f = DequantizeLinear(w, ws, wz) a = MatMul(x, f) b = Relu(a) y = MatMul(b, v) }"""
    at_zero_point = np.array(rng.integers(-100, 100, (4, 6)), np.int8)
    at_zero_point[:, 2] = 3
    assert shrunk(net(text, w=at_zero_point))["w"] == (4, 5)
    at_zero_point[:, 2] = 0
    assert not shrinkable(net(text, w=at_zero_point)).removed.any()


def test_weights_that_are_quantised_by_channel_are_zero_at_their_zero_points():
    text = """(float[2,4] x) => (y) <int8[4,6] w, float[6] scale, int8[6] wz = {0,1,2,3,4,5}, float[6,2] v>
        { f = DequantizeLinear<axis=-1>(w, scale, wz) a = MatMul(x, f) b = Relu(a) y = MatMul(b, v) }"""
    quantised = np.array(rng.integers(10, 100, (4, 6)), np.int8)
    quantised[:, 2], quantised[:, 4] = 2, 0
    assert shrunk(net(text, w=quantised))["w"] == (4, 5)


def test_weights_of_quantised_operators_are_zero_at_their_zero_point():
    text = """(uint8[1,3,4,4] x) => (y)
        <uint8[6,3,1,1] w, uint8[2,6,1,1] v, float s = {0.1}, uint8 xz = {3}, uint8 wz = {9}, uint8 zero = {0}>
        { a = QLinearConv(x, s, xz, w, s, wz, s, zero)  y = QLinearConv(a, s, zero, v, s, wz, s, zero) }"""
    w = np.array(rng.integers(10, 100, (6, 3, 1, 1)), np.uint8)
    w[1], w[4] = 9, 0
    assert shrunk(net(text, w=w, v=np.full((2, 6, 1, 1), 11, np.uint8)))["w"] == (5, 3, 1, 1)


def test_weights_that_are_quantised_by_blocks_keep_everything():
    text = """(float[2,4] x) => (y) <int8[4,6] w, float[2,6] scale, int8[2,6] z, float[6,2] v>
        { f = DequantizeLinear<axis=0, block_size=2>(w, scale, z) a = MatMul(x, f) b = Relu(a) y = MatMul(b, v) }"""
    assert not shrinkable(net(text, opset=21)).removed.any()


def test_copies_of_which_one_is_zero_are_cut_like_those_of_which_none_is():
    """The second copy of channel 1 is multiplied by zero, which must not change how the groups of the norm are cut."""
    text = """(float[2,3,2,2] x) => (y) <float[6,3,1,1] w, float[12,1,1] v, float[2] scale, float[2] b, float[4,12,1,1] u,
            int64[4] twice = {1,2,1,1}, int64[3] groups = {0,2,-1}, int64[4] back = {0,12,2,2}>
        { a = Conv(x, w)  c = Tile(a, twice)  d = Mul(c, v)  e = Reshape(d, groups)
          f = InstanceNormalization(e, scale, b)  g = Reshape(f, back)  y = Conv(g, u) }"""
    assert not shrinkable(net(text, v=weights(12, 1, 1, zero=(7,)))).removed.any()


def test_a_channel_that_stays_alone_is_read_by_what_is_before_it():
    """DepthToSpace makes one channel of the four filters of v: a unit that cannot go, although nothing else reads it."""
    text = """(float[2,3,2,2] x) => (y) <float[6,3,1,1] w, float[4,6,1,1] v, float[16,2] u>
        { a = Conv(x, w)  b = Relu(a)  c = Conv(b, v)  d = DepthToSpace<blocksize=2>(c)  e = Flatten(d)  y = MatMul(e, u) }"""
    dense = net(text, w=weights(6, 3, 1, 1, zero=(2,)))
    assert shrunk(dense)["w"] == (5, 3, 1, 1)


def test_no_layer_is_emptied():
    from slimnet.pipeline.config import RunConfig
    from slimnet.pipeline.shrink import shrink as job

    report = job(net(CHAIN, w=np.zeros((8, 3, 3, 3), np.float32)), RunConfig(bench_seconds=0, prove=False))
    assert report.content["groups"][0]["after"] == 1
    assert report.content["verify"]["dense_error"] == 0


# -- absorbing -------------------------------------------------------------------------------------------------------


def absorbed(net: Net) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes after absorbing and shrinking, and the number of channels folded; the outputs are the same.

    New tensors are typed like those there were, as whoever reads the graph expects.
    """
    folded, count = absorb(net, _probe(net, DEFAULT))
    assert all(value.dtype == value.const_value.dtype for value in folded.model.graph.initializers.values())
    feed = feeds(net, 5)
    for want, got in zip(run(net.model, feed), run(folded.model, feed), strict=True):
        assert_allclose(got, want, atol=1e-4 * max(1, np.abs(want).max()))
    return shrunk(folded), count


@pytest.mark.parametrize("bias", ["", ", c"])
@pytest.mark.parametrize("norm", [False, True])
def test_a_constant_is_absorbed_by_a_convolution_without_padding(bias, norm):
    after = "b = BatchNormalization(a, scale, shift, mean, var)" if norm else "b = Identity(a)"
    text = f"""(float[2,3,6,6] x) => (y)
        <float[8,3,3,3] w, float[8] bias, float[8] scale, float[8] shift, float[8] mean, float[8] var,
         float[6,8,3,3] v, float[6] c>
        {{ a = Conv(x, w, bias) {after} d = Sigmoid(b) y = Conv(d, v{bias}) }}"""
    left, count = absorbed(net(text, w=weights(8, 3, 3, 3, zero=ZERO)))
    assert count == 2
    assert left["w"] == (6, 3, 3, 3)
    assert left["v"] == (6, 6, 3, 3)


@pytest.mark.parametrize("how", ["pads=[1,1,1,1]", 'auto_pad="SAME_UPPER"'])
def test_a_convolution_with_padding_absorbs_nothing(how):
    """At the border a constant channel is no constant: it is zero outside."""
    text = f"""(float[2,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] bias, float[6,8,3,3] v>
        {{ a = Conv(x, w, bias) b = Relu(a) y = Conv<{how}>(b, v) }}"""
    masked = net(text, w=weights(8, 3, 3, 3, zero=ZERO))
    folded, count = absorb(masked, _probe(masked, DEFAULT))
    assert count == 0
    assert not shrinkable(folded).removed.any()
    assert shrinkable(folded).constant == {"w": 2}


@pytest.mark.parametrize("bias", ["", ", c", ", row", ", one", ", full"])
@pytest.mark.parametrize("attributes", ["", "<alpha=0.5>", "<beta=3.0>", "<alpha=2.0, beta=0.25>", "<transB=1>"])
def test_a_constant_is_absorbed_by_gemm(bias, attributes):
    if "beta" in attributes and not bias:
        attributes = attributes.replace(", beta=0.25", "").replace("<beta=3.0>", "")
    v = "float[5,8] v" if "transB" in attributes else "float[8,5] v"
    text = f"""(float[2,4] x) => (y)
        <float[4,8] w, float[8] b, {v}, float[5] c, float[1,5] row, float[1] one, float[2,5] full>
        {{ a = Gemm(x, w, b) d = Relu(a) y = Gemm{attributes}(d, v{bias}) }}"""
    left, count = absorbed(net(text, w=weights(4, 8, zero=ZERO, axis=1), b=1.0))
    assert count == 2
    assert left["w"] == (4, 6)


def test_a_constant_is_absorbed_by_a_matrix_product_and_its_bias():
    """What exporters write for nn.Linear on more than two dimensions."""
    text = """(float[2,3,4] x) => (y) <float[4,8] w, float[8] b, float[8,5] v, float[5] c>
        { a = MatMul(x, w) s = Add(a, b) d = Relu(s) m = MatMul(d, v) y = Add(m, c) }"""
    masked = net(text, w=weights(4, 8, zero=ZERO, axis=1), b=1.0)
    left, count = absorbed(masked)
    assert count == 2
    assert left["w"] == (4, 6)


def test_every_reader_of_a_constant_absorbs_it():
    text = """(float[2,3,6,6] x) => (y, z) <float[8,3,3,3] w, float[8] bias, float[6,8,3,3] v, float[4,8,1,1] u>
        { a = Conv(x, w, bias) b = Relu(a) y = Conv(b, v) z = Conv(b, u) }"""
    left, count = absorbed(net(text, w=weights(8, 3, 3, 3, zero=ZERO), bias=1.0))
    assert count == 4
    assert left["w"] == (6, 3, 3, 3)


@pytest.mark.parametrize("second", ["", "<pads=[1,1,1,1]>"])
def test_a_weight_that_two_layers_share_is_left_alone(second):
    """One layer's constant must not be taken from the other's weight."""
    text = f"""(float[2,3,6,6] x) => (y, z) <float[8,3,1,1] w, float[8] bias, float[4,8,3,3] v>
        {{ a = Conv(x, w, bias) b = Relu(a) y = Conv(b, v) c = Tanh(a) z = Conv{second}(c, v) }}"""
    masked = net(text, w=weights(8, 3, 1, 1, zero=ZERO), bias=1.0)
    folded, count = absorb(masked, _probe(masked, DEFAULT))
    assert count == 0
    feed = feeds(masked, 3)
    for want, got in zip(run(masked.model, feed), run(folded.model, feed), strict=True):
        assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "rest", ["y = Relu(m)", "y = Add(m, m)", "y = Add(c, m)", "y = Add(m, wide)", "y = Mul(m, c)", ""]
)
def test_a_matrix_product_absorbs_whatever_comes_after_it(rest):
    text = f"""(float[2,3,4] x) => (y) <float[4,8] w, float[8] b, float[8,5] v, float[5] c, float[3,5] wide>
        {{ a = MatMul(x, w) s = Add(a, b) d = Relu(s) {"m" if rest else "y"} = MatMul(d, v) {rest} }}"""
    left, count = absorbed(net(text, w=weights(4, 8, zero=ZERO, axis=1), b=1.0))
    assert count == 2
    assert left["w"] == (4, 6)


def test_a_bias_that_is_computed_gets_a_sum_of_its_own():
    text = """(float[2,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] bias, float[6,8,3,3] v, float[6,3] t, float[3] one>
        { a = Conv(x, w, bias) b = Relu(a) m = ReduceMax<keepdims=0>(x) o = Mul(one, m) c = MatMul(t, o)
          d = Conv(b, v, c) y = Relu(d) }"""
    left, count = absorbed(net(text, w=weights(8, 3, 3, 3, zero=ZERO), bias=1.0))
    assert count == 2
    assert left["w"] == (6, 3, 3, 3)


def test_weights_that_are_nowhere_zero_are_left_alone():
    dense = net(NORMED)
    same, count = absorb(dense, _probe(dense, DEFAULT))
    assert count == 0
    assert same is dense


def test_absorbing_leaves_the_given_network_alone():
    masked = net(NORMED, w=weights(8, 3, 3, 3, zero=ZERO))
    before = {name: array.copy() for name, array in masked.params().items()}
    absorb(masked, _probe(masked, DEFAULT))
    assert all(np.array_equal(before[name], array) for name, array in masked.params().items())


def test_what_is_constant_in_one_branch_only_is_not_absorbed():
    text = """(float[N,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v, float low = {-1000}> {
        a = MatMul(x, w) h = Add(a, b) s = ReduceSum<keepdims=0>(x) c = Less(s, low)
        k = If(c) <then_branch = t () => (float[N,8] p) { p = Relu(h) },
                   else_branch = e () => (float[N,8] q) { q = Tanh(h) }> y = MatMul(k, v) }"""
    dense = net(text, w=weights(6, 8, zero=(1, 4), axis=1), b=np.array([1, 2, 1, 1, -3, 1, 1, 1], np.float32))
    _, folded = absorb(dense, _probe(dense))
    assert folded == 0
    same = text.replace("Tanh(h)", "Relu(h)")
    dense = net(same, w=weights(6, 8, zero=(1, 4), axis=1), b=np.array([1, 2, 1, 1, -3, 1, 1, 1], np.float32))
    assert absorbed(dense)[1] == 2


def test_a_layer_inside_a_branch_absorbs_nothing():
    text = """(float[N,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v, float[8,5] u, float zero = {0}> {
        a = MatMul(x, w) h = Add(a, b) s = ReduceSum<keepdims=0>(x) c = Less(s, zero)
        y = If(c) <then_branch = t () => (float[N,5] p) { p = MatMul(h, v) },
                   else_branch = e () => (float[N,5] q) { q = MatMul(h, u) }> }"""
    dense = net(text, w=weights(6, 8, zero=(1, 4), axis=1))
    assert absorb(dense, _probe(dense))[1] == 0
