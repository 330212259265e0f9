"""Convolutions and matrix products."""

import numpy as np
import pytest

from slimnet.common.errors import VerifyFailed
from slimnet.graph.op import Role
from slimnet.graph.trace import trace
from slimnet.verification.verify import verify
from tests.networks.graphs import exact, net, pinned, roles, units


def test_conv_ties_filters_and_bias_to_the_next_convs_channels():
    found = exact(
        net("""(float[N,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] b, float[5,8,1,1] v>
        { h = Conv(x, w, b)
          r = Relu(h)
          y = Conv(r, v) }""")
    )
    assert units(found) == {"w:0 b:0 v:1": 8}
    assert pinned(found) == {
        "w:1": "joins an axis of input x, which keeps its size",
        "v:0": "is an output of the network",
    }
    assert roles(found, "w") == {0: Role.OUT}
    assert roles(found, "v") == {1: Role.IN}


def test_a_bias_alone_keeps_no_zero():
    """The bias of a convolution that has none of its own comes from an Add, and is cut with it."""
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[6,1] b, float[2,6,1] v>
        { h = Conv(x, w)
          a = Add(h, b)
          y = Conv(a, v) }""")
    )
    assert units(found) == {"w:0 b:0 v:1": 6}


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_conv_goes_with_its_input(multiplier):
    m = 6 * multiplier
    found = exact(
        net(f"""(float[N,3,6,6] x) => (y) <float[6,3,1,1] w, float[{m},1,3,3] d, float[{m}] b, float[2,{m},1,1] v>
        {{ h = Conv(x, w)
           k = Conv<group=6>(h, d, b)
           y = Conv(k, v) }}""")
    )
    times = "x2" if multiplier == 2 else ""
    assert units(found) == {f"w:0 d:0{times} b:0{times} v:1{times}": 6}


def test_depthwise_transposed_conv_goes_with_its_input():
    found = exact(
        net("""(float[N,3,5,5] x) => (y) <float[6,3,1,1] w, float[6,2,3,3] d, float[12] b, float[2,12,1,1] v>
        { h = Conv(x, w)
          k = ConvTranspose<group=6>(h, d, b)
          y = Conv(k, v) }""")
    )
    assert units(found) == {"w:0 d:0 b:0x2 v:1x2": 6}


def test_transposed_conv_has_its_channels_the_other_way_round():
    found = exact(
        net("""(float[N,3,5,5] x) => (y) <float[6,3,1,1] w, float[6,8,3,3] t, float[8] b, float[2,8,1,1] v>
        { h = Conv(x, w)
          k = ConvTranspose<strides=[2,2]>(h, t, b)
          y = Conv(k, v) }""")
    )
    assert units(found) == {"w:0 t:0": 6, "t:1 b:0 v:1": 8}
    assert roles(found, "t") == {0: Role.IN, 1: Role.OUT}


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("heads", {"w:0x3 g:0x4 b:0x4 v:1x4": 2}),
        ("head-dims", {"w:0x2 g:1": 3, "g:0x2 b:0x2 v:1x2": 4}),
    ],
)
def test_grouped_conv_loses_whole_groups_or_the_same_offsets_in_each(prefer, expected):
    found = exact(
        net("""(float[N,3,6,6] x) => (y) <float[6,3,1,1] w, float[8,3,3,3] g, float[8] b, float[2,8,1,1] v>
        { h = Conv(x, w)
          k = Conv<group=2>(h, g, b)
          y = Conv(k, v) }"""),
        prefer=prefer,
    )
    assert units(found) == expected


def test_a_grouped_conv_is_cut_the_way_that_takes_most_weight_even_if_it_is_little_more():
    """A ResNeXt block: wide layers around a light grouped one. Channels of each group take a quarter of that besides."""
    found = trace(
        net("""(float[1,256,4,4] x) => (y) <float[128,256,1,1] w, float[128,4,3,3] g, float[256,128,1,1] v>
        { h = Conv(x, w) k = Conv<group=32, pads=[1,1,1,1]>(h, g) y = Conv(k, v) }""")
    )
    assert units(found) == {"w:0x32 g:1": 4, "g:0x32 v:1x32": 4}


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("heads", {"w:0x3 g:0x3 b:0x4 v:1x4": 2}),
        ("head-dims", {"w:0x2 g:0x2": 3, "g:1 b:0x2 v:1x2": 4}),
    ],
)
def test_grouped_transposed_conv(prefer, expected):
    found = exact(
        net("""(float[N,3,6,6] x) => (y) <float[6,3,1,1] w, float[6,4,3,3] g, float[8] b, float[2,8,1,1] v>
        { h = Conv(x, w)
          k = ConvTranspose<group=2>(h, g, b)
          y = Conv(k, v) }"""),
        prefer=prefer,
    )
    assert units(found) == expected


def test_a_grouped_conv_on_the_input_keeps_its_groups():
    found = exact(
        net("""(float[N,6,6,6] x) => (y) <float[8,3,3,3] g, float[2,8,1,1] v>
        { k = Conv<group=2>(x, g)
          y = Conv(k, v) }""")
    )
    assert units(found) == {"g:0x2 v:1x2": 4}


def test_grouped_convs_choose_together():
    found = exact(
        net("""(float[N,3,6,6] x) => (y)
        <float[8,3,1,1] w, float[8,2,3,3] g1, float[8,2,3,3] g2, float[2,8,1,1] v>
        { h = Conv(x, w)
          k = Conv<group=4>(h, g1)
          r = Relu(k)
          l = Conv<group=4>(r, g2)
          y = Conv(l, v) }"""),
        prefer="heads",
    )
    assert units(found) == {"w:0x2 g1:0x2 g2:0x2 v:1x2": 4}


def test_a_channelwise_filter_of_one_channel_stays():
    found = exact(
        net("""(float[N,1,4,4] x) => (y) <float[1,1,3,3] w, float[4,1,1,1] v, float[2,4,1,1] u>
        { a = Conv(x, w)
          b = Conv(a, v)
          y = Conv(b, u) }""")
    )
    assert units(found) == {"v:0 u:1": 4}


@pytest.mark.parametrize(("bias", "free"), [("", 6), (", b", 0)])
def test_a_bias_is_added_to_a_removed_batch_entry_too(bias, free):
    """Channels may have become the batch; what a sum over them sees of a removed one is the bias."""
    found = exact(
        net(f"""(float[1,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,1,3,3] v, float[2] b, int64[1] axis = {{0}}>
        {{ h = Conv(x, w)
           t = Transpose<perm=[1,0,2,3]>(h)
           c = Conv(t, v{bias})
           y = ReduceSum(c, axis) }}""")
    )
    assert sum(units(found).values()) == free


@pytest.mark.parametrize(("bias", "free"), [("", 6), (", b", 0)])
def test_a_kernel_of_one_element_passes_channels_along_its_spatial_axes(bias, free):
    """As where CoaT aggregates three tokens: a convolution over [N, token, channel]."""
    text = f"""(float[N,3,4] x) => (y) <float[4,6] w, float[1,3,1] v, float[1] b, float[6,2] u, int64[1] axis = {{2}}>
        {{ h = MatMul(x, w)
           c = Conv(h, v{bias})
           y = MatMul(c, u) }}"""
    assert units(exact(net(text))) == {"w:1 u:0": 6}
    summed = text.replace("MatMul(c, u)", "ReduceSum(c, axis)")
    assert sum(units(exact(net(summed))).values()) == free


def test_kernels_that_lie_side_by_side_lose_whole_windows():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[4,6] w, float[5,3,2] v, float[3,2] u>
        { h = MatMul(x, w)
          c = Conv<strides=[2]>(h, v)
          y = MatMul(c, u) }""")
    )
    assert units(found) == {"w:1x2 u:0": 3}


@pytest.mark.parametrize(
    "how", ["<strides=[3]>", "<strides=[2], pads=[1,1]>", "<strides=[2], pads=[2,0]>", "<strides=[2], dilations=[2]>"]
)
def test_kernels_that_overlap_or_are_padded_pin_what_they_slide_over(how):
    found = exact(
        net(f"""(float[N,3,4] x) => (y) <float[4,6] w, float[5,3,2] v>
        {{ h = MatMul(x, w)
           y = Conv{how}(h, v) }}""")
    )
    assert pinned(found)["w:1"] == "reads this axis as a whole"


#: Efficient channel attention: a convolution slides over the means of all channels, and gates them.
CHANNEL_ATTENTION = """(float[N,3,4,4] x) => (y) <float[8,3,1,1] w, float[1,1,3] k, float[2,8,1,1] v, int64[1] last = {{3}}>
    {{ h = Conv(x, w)
      r = {before}(h)
      p = GlobalAveragePool(r)
      s = Squeeze(p, last)
      t = Transpose<perm=[0,2,1]>(s)
      c = Conv<pads=[1,1]>(t, k)
      g = Sigmoid(c)
      b = Transpose<perm=[0,2,1]>(g)
      u = Unsqueeze(b, last)
      m = Mul(h, u)
      y = Conv(m, v) }}"""


@pytest.mark.parametrize("allow_inexact", [False, True])
def test_a_convolution_over_channels_sees_zeros_where_they_were(allow_inexact):
    """With inexact removal it sees the kept ones side by side, as a PyTorch module does."""
    found = exact(net(CHANNEL_ATTENTION.format(before="Relu")), allow_inexact=allow_inexact)
    assert units(found) == {"w:0 v:1": 8}
    assert found.is_inexact == allow_inexact


def test_a_convolution_over_channels_that_do_not_become_zero_pins_them():
    found = exact(net(CHANNEL_ATTENTION.format(before="Sigmoid")))
    assert pinned(found)["w:0"] == "is seen by its neighbours and does not become zero"


@pytest.mark.parametrize("what", ["Widen", "Inexact"])
def test_verification_notices_neighbours_that_moved_closer(what, monkeypatch):
    """The slim network without the zeros, or the masked one with them."""
    found = trace(net(CHANNEL_ATTENTION.format(before="Relu")), allow_inexact=what == "Inexact")
    found._graph.walk.edits[:] = [edit for edit in found._graph.walk.edits if type(edit).__name__ != what]
    removed = np.arange(found.n_units) == 3
    with pytest.raises(VerifyFailed):
        verify(found, removed, prove=False)


def test_a_convolution_over_channels_without_padding():
    """What comes out goes with the middle of its window; the channels at the edges have no output of their own."""
    text = """(float[N,3] x) => (y) <float[3,8] w, float[5,1,4] k, float[5,2] v, int64[1] one = {1}, int64[1] last = {2}>
        { h = MatMul(x, w)
          u = Unsqueeze(h, one)
          c = Conv<dilations=[2]>(u, k)
          s = ReduceMax<keepdims=0>(c, last)
          y = MatMul(s, v) }"""
    found = exact(net(text), allow_inexact=True)
    assert units(found) == {"w:1": 2, "k:0 v:0": 5}


def test_a_residual_stream_is_one_group():
    found = exact(
        net("""(float[N,3,4,4] x) => (y)
        <float[6,3,1,1] w, float[4,6,1,1] a, float[6,4,1,1] b, float[2,6,1,1] v>
        { h = Conv(x, w)
          p = Conv(h, a)
          q = Conv(p, b)
          s = Add(h, q)
          y = Conv(s, v) }""")
    )
    assert units(found) == {"w:0 a:1 b:0 v:1": 6, "a:0 b:1": 4}


def test_a_residual_with_the_input_is_pinned():
    found = exact(
        net("""(float[N,4,3,3] x) => (y) <float[6,4,1,1] a, float[4,6,1,1] b, float[2,4,1,1] v>
        { p = Conv(x, a)
          q = Conv(p, b)
          s = Add(x, q)
          y = Conv(s, v) }""")
    )
    assert units(found) == {"a:0 b:1": 6}
    assert pinned(found)["b:0"] == "joins an axis of input x, which keeps its size"


@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm(trans_b):
    w, v = ("7,4", "3,7") if trans_b else ("4,7", "7,3")
    found = exact(
        net(f"""(float[N,4] x) => (y) <float[{w}] w, float[7] b, float[{v}] v, float[3] c>
        {{ h = Gemm<transB={trans_b}>(x, w, b)
           r = Relu(h)
           y = Gemm<transB={trans_b}, alpha=0.5, beta=2.0>(r, v, c) }}""")
    )
    assert units(found) == {f"w:{1 - trans_b} b:0 v:{trans_b}": 7}


def test_gemm_with_a_transposed_activation():
    found = exact(
        net("""(float[4,N] x) => (y) <float[7,4] w, float[7,1] b, float[7,3] v>
        { h = Gemm(w, x, b)
          r = Relu(h)
          y = Gemm<transA=1>(r, v) }""")
    )
    assert units(found) == {"w:0 b:0 v:0": 7}
    assert roles(found, "w") == {0: Role.OUT}


def test_gemm_with_a_scalar_or_a_row_as_bias():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,7] w, float[1] b, float[7,6] v, float[1,6] c, float[6,2] u>
        { h = Gemm(x, w, b)
          k = Gemm(h, v, c)
          y = MatMul(k, u) }""")
    )
    assert units(found) == {"w:1 v:0": 7, "v:1 c:1 u:0": 6}


def test_a_scalar_bias_is_no_zero_between_two_activations():
    found = exact(
        net("""(float[3,4] x) => (y) <float[4,7] w, float[1] b>
        { h = Gemm(x, w, b)
          t = Transpose(h)
          y = MatMul(h, t) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "is summed over although neither side becomes zero"


def test_matmul_broadcasts_its_batch_axes():
    found = exact(
        net("""(float[N,3,5,4] x) => (y) <float[3,4,6] w, float[6,2] v>
        { h = MatMul(x, w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:2 v:0": 6}


def test_a_live_batch_axis():
    """Heads kept apart as a batch axis: they go with the heads of the next product."""
    found = exact(
        net("""(float[N,5,4] x) => (y) <float[3,4,6] w, float[3,6,2] v, int64[1] one = {1}>
        { u = Unsqueeze(x, one)
          h = MatMul(u, w)
          k = MatMul(h, v)
          y = ReduceSum(k, one) }""")
    )
    assert units(found) == {"w:0 v:0": 3, "w:2 v:1": 6}


def test_matmul_with_vectors():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,6] w, float[6] v>
        { h = MatMul(x, w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:1 v:0": 6}
    found = exact(
        net("""(float[4] x) => (y) <float[4,6] w, float[6,2] v>
        { h = MatMul(x, w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:1 v:0": 6}
    found = exact(
        net("""(float[4,N] x) => (y) <float[5,6,4] w, float[6] v, float[5,2] u>
        { h = MatMul(w, x)
          k = MatMul(v, h)
          t = Transpose(k)
          y = MatMul(t, u) }""")
    )
    assert units(found) == {"w:0 u:0": 5, "w:1 v:0": 6}


def test_weights_on_the_left():
    found = exact(
        net("""(float[4,N] x) => (y) <float[6,4] w, float[2,6] v>
        { h = MatMul(w, x)
          r = Relu(h)
          y = MatMul(v, r) }""")
    )
    assert units(found) == {"w:0 v:1": 6}


def test_a_product_of_two_weights_is_followed():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,3] a, float[3,6] b, float[6,2] v>
        { w = MatMul(a, b)
          h = MatMul(x, w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"a:1 b:0": 3, "b:1 v:0": 6}


@pytest.mark.parametrize(("activation", "free"), [("Relu", True), ("Sigmoid", False)])
def test_two_activations_are_contracted_only_if_one_becomes_zero(activation, free):
    found = exact(
        net(f"""(float[3,4] x) => (y) <float[4,6] q, float[4,6] k>
        {{ a = MatMul(x, q)
           b = MatMul(x, k)
           c = {activation}(a)
           d = {activation}(b)
           e = Transpose(d)
           y = MatMul(c, e) }}""")
    )
    assert units(found) == ({"q:1 k:1": 6} if free else {})
    if not free:
        assert pinned(found)["q:1"] == "is summed over although neither side becomes zero"


def test_one_zero_side_is_enough():
    found = exact(
        net("""(float[3,4] x) => (y) <float[4,6] q, float[4,6] k>
        { a = MatMul(x, q)
          b = MatMul(x, k)
          c = Sigmoid(a)
          e = Transpose(b)
          y = MatMul(c, e) }""")
    )
    assert units(found) == {"q:1 k:1": 6}


def test_a_sigmoid_before_a_weight_is_free_since_the_weight_becomes_zero():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,6] w, float[6,2] v>
        { h = MatMul(x, w)
          s = Sigmoid(h)
          y = MatMul(s, v) }""")
    )
    assert units(found) == {"w:1 v:0": 6}


def test_einsum():
    found = exact(
        net("""(float[N,5,4] x) => (y) <float[4,3,6] w, float[3,6,2] v>
        { h = Einsum<equation="btd,dhe->bthe">(x, w)
          y = Einsum<equation="bthe,heo->bto">(h, v) }""")
    )
    assert units(found) == {"w:1 v:0": 3, "w:2 v:1": 6}


def test_einsum_without_an_arrow_and_with_spaces():
    found = exact(
        net("""(float[5,4] x) => (y) <float[4,6] w, float[6,2] v>
        { h = Einsum<equation="ab , bc">(x, w)
          y = Einsum<equation="ab,bc -> ac">(h, v) }""")
    )
    assert units(found) == {"w:1 v:0": 6}


def test_einsum_of_two_activations_needs_a_zero():
    text = """(float[3,4] x) => (y) <float[4,6] q, float[4,6] k>
        {{ a = MatMul(x, q)
           b = MatMul(x, k)
           c = {}(a)
           d = {}(b)
           y = Einsum<equation="ic,jc->ij">(c, d) }}"""
    assert units(exact(net(text.format("Relu", "Sigmoid")))) == {"q:1 k:1": 6}
    assert units(exact(net(text.format("Sigmoid", "Sigmoid")))) == {}


def test_einsum_that_is_not_followed_is_pinned():
    found = exact(
        net("""(float[N,5,4] x) => (y) <float[4,6] w, float[6,2] v>
        { h = Einsum<equation="...d,de->...e">(x, w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "an Einsum with an ellipsis"


def test_einsum_diagonal_is_pinned():
    found = exact(
        net("""(float[4,4] x) => (y) <float[4,6] w, float[6,4] v>
        { h = MatMul(x, w)
          p = MatMul(v, h)
          y = Einsum<equation="aa->a">(p) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "takes a diagonal of this axis"


@pytest.mark.parametrize(
    ("prepare", "shape"),
    [
        ("t = Transpose(w)", "6,4"),
        ("t = Cast<to=1>(w)", "4,6"),
        ("t = Reshape(w, s)", "2,2,6"),
        ("t = Identity(w)", "4,6"),
    ],
)
def test_a_weight_behind_other_nodes_is_still_a_weight(prepare, shape):
    axis = 0 if shape == "6,4" else len(shape.split(",")) - 1
    found = exact(
        net(
            f"""(float[N,4] x) => (y) <float[{shape}] w, float[6,2] v, int64[2] s>
        {{ {prepare}
           h = MatMul(x, t)
           r = Relu(h)
           y = MatMul(r, v) }}""",
            s=[4, 6],
        )
    )
    assert units(found) == {f"w:{axis} v:0": 6}
    assert roles(found, "w") == {axis: Role.OUT}


def test_tied_weights_stay_tied():
    """The same matrix as encoder and decoder: its rows are out here and in there."""
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,6] w>
        { h = MatMul(x, w)
          r = Relu(h)
          t = Transpose(w)
          y = MatMul(r, t) }""")
    )
    assert units(found) == {"w:1": 6}
    assert roles(found, "w") == {1: Role.OUT | Role.IN}


def test_a_square_weight_used_twice():
    found = exact(
        net("""(float[N,3] x) => (y) <float[3,6] v, float[6,6] w, float[6,2] u>
        { a = MatMul(x, v)
          b = MatMul(a, w)
          c = Relu(b)
          d = MatMul(c, w)
          y = MatMul(d, u) }""")
    )
    assert units(found) == {"v:1 w:0 w:1 u:0": 6}
    assert roles(found, "w") == {0: Role.IN, 1: Role.OUT}


def test_a_state_beside_features_is_named_where_it_pins():
    """`cat([features, state])`: the layer's inputs that read the state stay, since the caller gives it whole."""
    found = exact(
        net("""(float[N,3] x, float[N,5] state) => (y, next) <float[3,6] w, float[11,8] u, float[8,2] v, float[8,5] s>
        { a = MatMul(x, w)
          r = Relu(a)
          h = Tanh(state)
          c = Concat<axis=1>(r, h)
          b = MatMul(c, u)
          y = MatMul(b, v)
          next = MatMul(b, s) }""")
    )
    assert units(found) == {"w:1 u:0": 6, "u:1 v:0 s:0": 8}
    assert pinned(found)["u:0"] == "joins an axis of input state, which keeps its size"


def test_positions_are_pinned_as_such():
    """The layers of an MLP-Mixer that mix tokens read as many as the image has patches."""
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[4,8] u, float[8,4] v, float[2,6,1] o>
        { h = Conv(x, w)
          a = MatMul(h, u)
          g = Gelu(a)
          b = MatMul(g, v)
          r = Add(h, b)
          y = Conv(r, o) }""")
    )
    assert units(found) == {"w:0 o:1": 6, "u:1 v:0": 8}
    assert pinned(found)["u:0"] == pinned(found)["v:1"] == "joins an axis that is fixed: of an input, or of positions"


def test_a_weight_that_is_scaled_while_the_network_runs_is_still_a_weight():
    """As where a style, or what a network sees of its input, modulates a convolution."""
    found = exact(
        net("""(float[1,3,4,4] x) => (y) <float[6,3,1,1] u, float[8,6,1,1] w, float[2,8,1,1] v>
        { h = Conv(x, u)
          g = GlobalAveragePool(h)
          m = Mul(w, g)
          c = Conv(h, m)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"u:0 w:1": 6, "w:0 v:1": 8}
    assert roles(found, "w") == {0: Role.OUT, 1: Role.IN}


def test_features_that_are_compared_with_others_by_a_convolution():
    """A siamese tracker: the features of what is looked for are the kernel that slides over those of the picture."""
    found = exact(
        net("""(float[1,3,4,4] x, float[1,3,2,2] z) => (y) <float[6,3,1,1] u, float[6,3,1,1] w>
        { h = Conv(x, u)
          k = Conv(z, w)
          y = Conv(h, k) }""")
    )
    assert units(found) == {"u:0 w:0": 6}
