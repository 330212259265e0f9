"""Normalisation: exact over single channels and whole groups, inexact over live channels."""

import numpy as np
import pytest

from slimnet.graph.op import Role
from slimnet.graph.surgery import mask
from tests.networks.graphs import exact, net, pinned, roles, units

BN = "float[6] scale, float[6] bias, float[6] mean, float[6] var"


def test_batch_norm_goes_with_its_channel_and_its_output_becomes_zero():
    found = exact(
        net(f"""(float[N,3,4] x) => (y) <float[6,3,1] w, {BN}, int64[1] one = {{1}}>
        {{ h = Conv(x, w)
           n = BatchNormalization(h, scale, bias, mean, var)
           y = ReduceSum(n, one) }}""")
    )
    assert units(found) == {"w:0 scale:0 bias:0 mean:0 var:0": 6}


def test_the_mask_leaves_running_statistics_alone():
    found = exact(
        net(f"""(float[N,3,4] x) => (y) <float[6,3,1] w, {BN}, float[2,6,1] v>
        {{ h = Conv(x, w)
           n = BatchNormalization(h, scale, bias, mean, var)
           y = Conv(n, v) }}""")
    )
    removed = np.arange(6) < 2
    weights = mask(found, removed).graph.initializers
    for name in ("w", "scale", "bias", "v"):
        array = np.moveaxis(weights[name].const_value.numpy(), 1 if name == "v" else 0, 0)
        assert not array[:2].any(), name
        assert array[2:].all(), name
    for name in ("mean", "var"):
        assert np.array_equal(weights[name].const_value.numpy(), found.net.params()[name])
    assert roles(found, "var")[0] & Role.UNTOUCHED


def test_batch_norm_on_a_matrix():
    found = exact(
        net(f"""(float[N,3] x) => (y) <float[3,6] w, {BN}, float[6,2] v>
        {{ h = MatMul(x, w)
           n = BatchNormalization(h, scale, bias, mean, var)
           y = MatMul(n, v) }}""")
    )
    assert units(found) == {"w:1 scale:0 bias:0 mean:0 var:0 v:0": 6}


def test_one_vector_shared_by_unrelated_batch_norms():
    """Exporters merge equal constants; every use is cut by itself."""
    found = exact(
        net(
            """(float[N,3,4] x) => (y)
        <float[6,3,1] w, float[6,6,1] v, float[2,6,1] u, float[6] ones, float[6] zeros>
        { h = Conv(x, w)
          n = BatchNormalization(h, ones, zeros, zeros, ones)
          k = Conv(n, v)
          m = BatchNormalization(k, ones, zeros, zeros, ones)
          y = Conv(m, u) }""",
            ones=1.0,
            zeros=0.0,
        )
    )
    assert units(found) == {
        "w:0 ones@n:1:0 zeros@n:2:0 zeros@n:3:0 ones@n:4:0 v:1": 6,
        "v:0 ones@m:1:0 zeros@m:2:0 zeros@m:3:0 ones@m:4:0 u:1": 6,
    }


def test_batch_norm_in_training_mode_pins():
    found = exact(
        net(f"""(float[N,3,4] x) => (y) <float[6,3,1] w, {BN}, float[2,6,1] v>
        {{ h = Conv(x, w)
           n, m, s = BatchNormalization<training_mode=1>(h, scale, bias, mean, var)
           y = Conv(n, v) }}""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "BatchNormalization in training mode"


def test_batch_norm_on_the_input_pins():
    found = exact(
        net("""(float[N,3,4] x) => (y)
        <float[3] scale, float[3] bias, float[3] mean, float[3] var, float[6,3,1] w, float[2,6,1] v>
        { n = BatchNormalization(x, scale, bias, mean, var)
          h = Conv(n, w)
          y = Conv(h, v) }""")
    )
    assert units(found) == {"w:0 v:1": 6}


def test_instance_norm():
    found = exact(
        net("""(float[N,3,5] x) => (y) <float[6,3,1] w, float[6] scale, float[6] bias, float[2,6,1] v>
        { h = Conv(x, w)
          n = InstanceNormalization(h, scale, bias)
          y = Conv(n, v) }""")
    )
    assert units(found) == {"w:0 scale:0 bias:0 v:1": 6}


@pytest.mark.parametrize("opset", [18, 21])
def test_group_norm_loses_whole_groups(opset):
    """Scale and bias are per group before opset 21, per channel since."""
    length, times = (3, "") if opset == 18 else (6, "x2")
    found = exact(
        net(
            f"""(float[N,3,5] x) => (float[N,2,5] y)
        <float[6,3,1] w, float[{length}] scale, float[{length}] bias, float[2,6,1] v>
        {{ h = Conv(x, w)
           n = GroupNormalization<num_groups=3>(h, scale, bias)
           y = Conv(n, v) }}""",
            opset=opset,
        )
    )
    assert units(found) == {f"w:0x2 scale:0{times} bias:0{times} v:1x2": 3}


def test_group_norm_as_the_exporter_writes_it():
    """Reshape to groups, InstanceNormalization over each, Reshape back, scale and bias per channel."""
    found = exact(
        net(
            """(float[2,3,4,4] x) => (y)
        <float[6,3,1,1] w, int64[3] s, int64[4] t, float[3] ones, float[3] zeros,
         float[6,1,1] scale, float[6,1,1] bias, float[2,6,1,1] v>
        { h = Conv(x, w)
          a = Reshape(h, s)
          i = InstanceNormalization(a, ones, zeros)
          b = Reshape(i, t)
          m = Mul(b, scale)
          n = Add(m, bias)
          y = Conv(n, v) }""",
            s=[0, 3, -1],
            t=[2, 6, 4, 4],
            ones=1.0,
            zeros=0.0,
        )
    )
    assert units(found) == {"w:0x2 ones:0 zeros:0 scale:0x2 bias:0x2 v:1x2": 3}


def test_group_norm_with_the_target_computed_from_the_shape():
    found = exact(
        net(
            """(float[N,3,4,4] x) => (y)
        <float[6,3,1,1] w, int64[3] s, float[3] ones, float[3] zeros, float[6,1,1] scale, float[2,6,1,1] v>
        { h = Conv(x, w)
          a = Reshape(h, s)
          i = InstanceNormalization(a, ones, zeros)
          t = Shape(h)
          b = Reshape(i, t)
          m = Mul(b, scale)
          y = Conv(m, v) }""",
            s=[0, 3, -1],
            ones=1.0,
            zeros=0.0,
        )
    )
    assert units(found) == {"w:0x2 ones:0 zeros:0 scale:0x2 v:1x2": 3}


LAYER_NORM = """(float[N,5,3] x) => (y) <float[3,6] w, float[6] scale, float[6] bias, float[6,2] v>
    {{ h = MatMul(x, w)
       n = {}
       y = MatMul(n, v) }}"""


@pytest.mark.parametrize(
    ("text", "opset", "expected"),
    [
        ("LayerNormalization(h, scale, bias)", 20, "w:1 scale:0 bias:0 v:0"),
        ("LayerNormalization(h, scale)", 20, "w:1 scale:0 v:0"),
        ("RMSNormalization(h, scale)", 23, "w:1 scale:0 v:0"),
        ("Softmax(h)", 20, "w:1 v:0"),
        ("LogSoftmax<axis=2>(h)", 20, "w:1 v:0"),
        ("Softmax<axis=2>(h)", 11, "w:1 v:0"),
        ("Hardmax(h)", 20, "w:1 v:0"),
    ],
)
def test_norms_over_live_channels_pin_unless_the_user_asks(text, opset, expected):
    model = net(LAYER_NORM.format(text), opset=opset)
    found = exact(model)
    assert units(found) == {}
    assert "--allow-inexact would remove it" in pinned(found)["w:1"]
    assert units(exact(model, allow_inexact=True)) == {expected: 6}


def test_layer_norm_over_two_axes():
    found = exact(
        net("""(float[N,5,3] x) => (y) <float[3,6] w, float[5,6] scale, float[5,6] bias, float[6,2] v>
        { h = MatMul(x, w)
          n = LayerNormalization<axis=1>(h, scale, bias)
          y = MatMul(n, v) }"""),
        allow_inexact=True,
    )
    assert units(found) == {"w:1 scale:1 bias:1 v:0": 6}


def test_softmax_over_another_axis_loses_zero():
    text = """(float[N,5,3] x) => (y) <float[3,6] w, int64[1] last = {2}>
        { h = MatMul(x, w)
          n = Softmax<axis=1>(h)
          y = ReduceSum(n, last) }"""
    assert units(exact(net(text))) == {}


def test_softmax_of_opset_11_normalises_over_all_axes_behind():
    found = exact(
        net(
            """(float[N,5,3] x) => (y) <float[3,6] w, float[6,2] v>
        { h = MatMul(x, w)
          n = Softmax<axis=1>(h)
          y = MatMul(n, v) }""",
            opset=11,
        )
    )
    assert units(found) == {}
    assert "goes through Softmax" in pinned(found)["w:1"]


@pytest.mark.parametrize("allow_inexact", [False, True])
def test_lrn_sees_zeros_where_neighbours_were(allow_inexact):
    found = exact(
        net("""(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,6,1,1] v>
        { i = LRN<size=3>(x)
          h = Conv(i, w)
          n = LRN<size=3>(h)
          y = Conv(n, v) }"""),
        allow_inexact=allow_inexact,
    )
    assert units(found) == {"w:0 v:1": 6}
    assert found.is_inexact == allow_inexact


def test_lp_norm_does_not_see_zeros():
    text = """(float[N,3,5] x) => (y) <float[6,3,1] w, float[2,6,1] v>
        {{ h = Conv(x, w)
           a = {}(h)
           n = LpNormalization<axis={}>(a)
           y = Conv(n, v) }}"""
    assert units(exact(net(text.format("Relu", 1)))) == {"w:0 v:1": 6}
    assert units(exact(net(text.format("Sigmoid", 1)))) == {}
    assert units(exact(net(text.format("Sigmoid", 2)))) == {"w:0 v:1": 6}
    assert units(exact(net(text.format("Relu", 2)))) == {"w:0 v:1": 6}


def test_mean_variance_normalization_has_no_rule_and_pins():
    found = exact(
        net("""(float[N,3,5,5] x) => (float[N,2,5,5] y) <float[6,3,1,1] w, float[2,6,1,1] v>
        { h = Conv(x, w)
          n = MeanVarianceNormalization(h)
          y = Conv(n, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "has no rule"


@pytest.mark.parametrize("opset", [18, 21])
def test_group_norm_of_one_group_is_like_layer_norm(opset):
    length, vectors = (1, "") if opset == 18 else (6, " scale:0 bias:0")
    network = net(
        f"""(float[N,3,5] x) => (float[N,2,5] y)
        <float[6,3,1] w, float[{length}] scale, float[{length}] bias, float[2,6,1] v>
        {{ h = Conv(x, w)
           n = GroupNormalization<num_groups=1>(h, scale, bias)
           y = Conv(n, v) }}""",
        opset=opset,
    )
    found = exact(network)
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is normalised over; --allow-inexact would remove it"
    assert units(exact(network, allow_inexact=True)) == {f"w:0{vectors} v:1": 6}


def test_group_norm_of_one_group_as_exporters_write_it():
    """The group is the channel of an instance norm over all channels and positions: PoolFormer's norm."""
    network = net("""(float[N,3,5,4] x) => (y) <float[6,3,1,1] w, float[2,6,1,1] v, float[6,1,1] gamma,
        float[6,1,1] beta, float[1] one = {1}, float[1] none = {0}, int64[3] group = {0, 1, -1}, int64[4] back = {-1, 6, 5, 4}>
        { h = Conv(x, w)
          f = Reshape(h, group)
          n = InstanceNormalization(f, one, none)
          b = Reshape(n, back)
          s = Mul(b, gamma)
          t = Add(s, beta)
          y = Conv(t, v) }""")
    found = exact(network)
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is normalised over; --allow-inexact would remove it"
    assert units(exact(network, allow_inexact=True)) == {"w:0 gamma:0 beta:0 v:1": 6}


@pytest.mark.parametrize("allow_inexact", [False, True])
def test_local_response_norm_as_the_exporter_writes_it(allow_inexact):
    """The squares of neighbouring channels are averaged by a pooling over [N, 1, channel, positions]."""
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[8,3,1] w, float[2,8,1] v, int64[4] wide = {0, 1, 8, 4},
        int64[3] back = {0, 8, 4}, int64[8] pads = {0, 0, 2, 0, 0, 0, 2, 0}, float alpha = {0.5}, float one = {1}, float beta = {0.75}>
        { h = Conv(x, w)
          q = Mul(h, h)
          u = Reshape(q, wide)
          p = Pad(u, pads)
          a = AveragePool<kernel_shape=[5,1], strides=[1,1]>(p)
          r = Reshape(a, back)
          s = Mul(r, alpha)
          o = Add(s, one)
          d = Pow(o, beta)
          n = Div(h, d)
          y = Conv(n, v) }"""),
        allow_inexact=allow_inexact,
    )
    assert units(found) == {"w:0 v:1": 8}
    assert found.is_inexact == allow_inexact
