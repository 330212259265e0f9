"""The fused Attention operator."""

import math

import numpy as np
import pytest

from slimnet.graph.surgery import slim
from tests.networks.graphs import exact, net, pinned, units


def folded(heads: int = 2, kv: int = 2, dims: int = 3, extra: str = "", mask: str = "", weights: str = "", **values):
    """Projections to Attention with the heads folded into the last axis."""
    q, k = heads * dims, kv * dims
    return net(
        f"""(float[N,5,4] x) => (y) <float[4,{q}] wq, float[4,{k}] wk, float[4,{k}] wv, float[{q},2] o{weights}>
        {{ q = MatMul(x, wq)
           k = MatMul(x, wk)
           v = MatMul(x, wv)
           a = Attention<q_num_heads={heads}, kv_num_heads={kv}{extra}>(q, k, v{mask})
           y = MatMul(a, o) }}""",
        opset=23,
        **values,
    )


def unfolded(text: str = "a = Attention(qt, kt, vt)", opset: int = 23):
    return net(
        f"""(float[2,5,4] x) => (y)
        <float[4,6] wq, float[4,6] wk, float[4,6] wv, int64[4] s, int64[3] t, float[6,2] o>
        {{ q = MatMul(x, wq)
           k = MatMul(x, wk)
           v = MatMul(x, wv)
           qr = Reshape(q, s)
           kr = Reshape(k, s)
           vr = Reshape(v, s)
           qt = Transpose<perm=[0,2,1,3]>(qr)
           kt = Transpose<perm=[0,2,1,3]>(kr)
           vt = Transpose<perm=[0,2,1,3]>(vr)
           {text}
           m = Transpose<perm=[0,2,1,3]>(a)
           r = Reshape(m, t)
           y = MatMul(r, o) }}""",
        opset=opset,
        s=[2, 5, 2, 3],
        t=[2, 5, 6],
    )


HEADS = {"wq:1x3 wk:1x3 wv:1x3 o:0x3": 2}
DIMS = {"wq:1x2 wk:1x2": 3, "wv:1x2 o:0x2": 3}


@pytest.mark.parametrize(("prefer", "expected"), [("heads", HEADS), ("head-dims", DIMS)])
def test_heads_or_head_dims(prefer, expected):
    assert units(exact(folded(), prefer=prefer)) == expected
    assert units(exact(unfolded(), prefer=prefer)) == expected


def test_the_scale_is_written_down():
    found = exact(folded(), prefer="head-dims")
    thin = slim(found, np.arange(found.n_units) == found.groups[0].units[0])
    node = next(n for n in thin.graph if n.op_type == "Attention")
    assert node.attributes["scale"].as_float() == pytest.approx(1 / math.sqrt(3))


def test_a_given_scale_stays():
    assert units(exact(folded(extra=", scale=0.25"), prefer="head-dims")) == DIMS


def test_causal_and_capped():
    assert units(exact(folded(extra=", is_causal=1"), prefer="heads")) == HEADS
    assert units(exact(folded(extra=", softcap=2.0"), prefer="head-dims")) == DIMS


@pytest.mark.parametrize("prefer", ["heads", "head-dims"])
def test_grouped_queries(prefer):
    """Four heads of queries on two of keys: the queries of one key head go together."""
    expected = {
        "heads": {"wq:1x6 wk:1x3 wv:1x3 o:0x6": 2},
        "head-dims": {"wq:1x4 wk:1x2": 3, "wv:1x2 o:0x4": 3},
    }
    assert units(exact(folded(4, 2), prefer=prefer)) == expected[prefer]


@pytest.mark.parametrize("shape", ["5,5", "1,5,5", "2,5,5", "1,1,5,5", "1,2,5,5", "2,2,5,5"])
def test_a_constant_mask_follows_the_heads(shape):
    per_head = shape.split(",")[-3:][0] == "2" and len(shape) > 3
    axis = len(shape.split(",")) - 3
    found = exact(folded(mask=", bias", weights=f", float[{shape}] bias"), prefer="heads")
    assert units(found) == ({f"wq:1x3 wk:1x3 wv:1x3 bias:{axis} o:0x3": 2} if per_head else HEADS)


def test_a_boolean_mask():
    mask = [[j <= i for j in range(5)] for i in range(5)]
    assert units(exact(folded(mask=", m", weights=", bool[5,5] m", m=mask), prefer="head-dims")) == DIMS


def test_a_mask_from_the_input():
    found = exact(
        net(
            """(float[N,5,4] x, float[5,5] m) => (y) <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          a = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v, m)
          y = MatMul(a, o) }""",
            opset=23,
        ),
        prefer="heads",
    )
    assert units(found) == HEADS


def test_a_mask_per_head_from_the_input_keeps_the_heads():
    found = exact(
        net(
            """(float[N,5,4] x, float[1,2,5,5] m) => (y) <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          a = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v, m)
          y = MatMul(a, o) }""",
            opset=23,
        ),
        prefer="heads",
    )
    assert units(found) == DIMS


def test_values_of_another_width():
    found = exact(
        net(
            """(float[N,5,4] x) => (y) <float[4,6] wq, float[4,6] wk, float[4,8] wv, float[8,2] o>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          a = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)
          y = MatMul(a, o) }""",
            opset=23,
        ),
        prefer="head-dims",
    )
    assert units(found) == {"wq:1x2 wk:1x2": 3, "wv:1x2 o:0x2": 4}


def test_attention_with_a_cache_pins():
    found = exact(
        net(
            """(float[1,5,4] x, float[1,2,3,3] pk, float[1,2,3,3] pv) => (y, nk, nv)
        <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          a, nk, nv = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v, , pk, pv)
          y = MatMul(a, o) }""",
            opset=23,
        )
    )
    assert units(found) == {}
    assert pinned(found)["wq:1"] == "Attention with a cache"


def test_scores_as_an_output_pin():
    found = exact(
        net(
            """(float[1,5,4] x) => (y, s) <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          a, nk, nv, s = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)
          y = MatMul(a, o) }""",
            opset=23,
        )
    )
    assert units(found) == {}


def test_sigmoid_queries_and_keys_pin():
    """Neither side of the product becomes zero; the values still may go."""
    found = exact(
        net(
            """(float[N,5,4] x) => (y) <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o>
        { p = MatMul(x, wq)
          q = Sigmoid(p)
          l = MatMul(x, wk)
          k = Sigmoid(l)
          v = MatMul(x, wv)
          a = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)
          y = MatMul(a, o) }""",
            opset=23,
        ),
        prefer="head-dims",
    )
    assert units(found) == {"wv:1x2 o:0x2": 3}


@pytest.mark.parametrize("extra", ["", ", is_causal=1"])
def test_channels_as_tokens_pin(extra):
    """Attention among the channels themselves: without one of them the softmax gives other weights."""
    found = exact(
        net(
            f"""(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6,1] v>
        {{ h = Conv(x, w)
           a = Attention<q_num_heads=2, kv_num_heads=2{extra}>(h, h, h)
           y = Conv(a, v) }}""",
            opset=23,
        )
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is attended over"


def test_channels_as_queries_may_go():
    text = """(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6,1] v>
        {{ h = Conv(x, w)
           a = Attention<q_num_heads=2, kv_num_heads=2{}>(h, x, x)
           y = Conv(a, v) }}"""
    assert units(exact(net(text.format(""), opset=23))) == {"w:0 v:1": 6}
    found = exact(net(text.format(", is_causal=1"), opset=23))
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is masked by position"


def test_the_scale_computed_from_a_live_width_is_frozen():
    """1 / sqrt(d), read off Shape and multiplied to the scores."""
    found = exact(
        net("""(float[N,5,4] x) => (y) <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o, float one={1},
          int64[1] two = {2}, int64[1] three = {3}>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          sh = Shape(q)
          d = Slice(sh, two, three)
          df = Cast<to=1>(d)
          root = Sqrt(df)
          scale = Div(one, root)
          qs = Mul(q, scale)
          kt = Transpose<perm=[0,2,1]>(k)
          w = MatMul(qs, kt)
          z = Softmax(w)
          c = MatMul(z, v)
          y = MatMul(c, o) }""")
    )
    assert units(found) == {"wq:1 wk:1": 6, "wv:1 o:0": 6}


def test_a_computed_scale_for_attention_of_the_dynamo_exporter():
    found = exact(
        net("""(float[2,5,4] x) => (y) <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,2] o>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          d = Shape<start=2, end=3>(q)
          df = CastLike(d, q)
          root = Sqrt(df)
          w = Einsum<equation="btd,bsd->bts">(q, k)
          ws = Div(w, root)
          z = Softmax(ws)
          c = MatMul(z, v)
          y = MatMul(c, o) }""")
    )
    assert units(found) == {"wq:1 wk:1": 6, "wv:1 o:0": 6}
