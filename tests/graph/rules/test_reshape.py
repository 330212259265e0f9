"""Reshape and Flatten: grids, of which one axis is cut."""

import pytest

from tests.networks.graphs import exact, net, pinned, units


@pytest.mark.parametrize("flatten", ["Flatten(h)", "Flatten<axis=-2>(h)", "Reshape(h, s)"])
@pytest.mark.parametrize("target", [[0, -1], [-1, 48], [2, 48]])
def test_flatten_to_a_classifier(flatten, target):
    found = exact(
        net(
            f"""(float[2,3,8] x) => (y) <float[6,3,1] w, float[48,5] fc, int64[2] s>
        {{ h = Conv(x, w)
           f = {flatten}
           y = MatMul(f, fc) }}""",
            s=target,
        )
    )
    assert units(found) == {"w:0 fc:0x8": 6}


def test_flatten_of_channels_last():
    found = exact(
        net("""(float[N,8,3] x) => (y) <float[3,6] w, float[48,5] fc>
        { h = MatMul(x, w)
          f = Flatten(h)
          y = MatMul(f, fc) }""")
    )
    assert units(found) == {"w:1 fc:0x8": 6}
    members = {m.tensor: m.index.tolist() for m in found.groups[0].members}
    assert members["fc"][1] == [1, 7, 13, 19, 25, 31, 37, 43]


def test_unflatten_in_a_generator():
    found = exact(
        net(
            """(float[N,3] x) => (y) <float[3,48] w, float[48] b, int64[4] s, float[2,12,1,1] v>
        { h = Gemm(x, w, b)
          r = Reshape(h, s)
          y = Conv(r, v) }""",
            s=[-1, 12, 2, 2],
        )
    )
    assert units(found) == {"w:1x4 b:0x4 v:1": 12}


@pytest.mark.parametrize("allowzero", [0, 1])
def test_reshape_that_changes_nothing(allowzero):
    target = [2, 6, 8] if allowzero else [0, 0, 0]
    found = exact(
        net(
            f"""(float[2,3,8] x) => (y) <float[6,3,1] w, float[2,6,1] v, int64[3] s>
        {{ h = Conv(x, w)
           r = Reshape<allowzero={allowzero}>(h, s)
           y = Conv(r, v) }}""",
            s=target,
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_reshape_with_ones_in_between():
    found = exact(
        net(
            """(float[2,3,8] x) => (y) <float[6,3,1] w, float[2,6,1,1] v, int64[5] s, int64[4] t>
        { h = Conv(x, w)
          r = Reshape(h, s)
          q = Reshape(r, t)
          y = Conv(q, v) }""",
            s=[1, 2, 6, 1, 8],
            t=[2, -1, 2, 4],
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_reshape_with_zero_and_minus_one_meeting_channels():
    """0 copies the width, -1 infers it; neither needs an edit."""
    found = exact(
        net(
            """(float[N,3,2,4] x) => (y) <float[6,3,1,1] w, float[2,6,1] v, int64[3] s, int64[3] t>
        { h = Conv(x, w)
          r = Reshape(h, s)
          q = Reshape(r, t)
          y = Conv(q, v) }""",
            s=[0, 0, -1],
            t=[0, -1, 8],
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_target_with_a_fixed_batch_and_an_inferred_image():
    found = exact(
        net(
            """(float[2,3,2,4] x) => (y) <float[6,3,1,1] w, float[2,6,1] v, int64[3] s>
        { h = Conv(x, w)
          r = Reshape(h, s)
          y = Conv(r, v) }""",
            s=[2, 6, -1],
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_channel_shuffle():
    """ShuffleNet: [g, c/g] becomes [c/g, g]; the same offset goes in every group."""
    found = exact(
        net(
            """(float[2,3,2,2] x) => (y)
        <float[8,3,1,1] w, float[2,8,1,1] v, int64[5] s, int64[4] t>
        { h = Conv(x, w)
          a = Reshape(h, s)
          b = Transpose<perm=[0,2,1,3,4]>(a)
          c = Reshape(b, t)
          y = Conv(c, v) }""",
            s=[2, 2, 4, 2, 2],
            t=[2, 8, 2, 2],
        )
    )
    assert units(found) == {"w:0x2 v:1x2": 4}
    members = {m.tensor: m.index.tolist() for m in found.groups[0].members}
    assert members == {"w": [[0, 4], [1, 5], [2, 6], [3, 7]], "v": [[0, 1], [2, 3], [4, 5], [6, 7]]}


def test_channel_shuffle_between_grouped_convs():
    found = exact(
        net(
            """(float[2,3,2,2] x) => (y)
        <float[8,3,1,1] w, float[8,4,1,1] g, float[8,4,1,1] f, float[2,8,1,1] v, int64[5] s, int64[4] t>
        { h = Conv(x, w)
          k = Conv<group=2>(h, g)
          a = Reshape(k, s)
          b = Transpose<perm=[0,2,1,3,4]>(a)
          c = Reshape(b, t)
          l = Conv<group=2>(c, f)
          y = Conv(l, v) }""",
            s=[2, 2, 4, 2, 2],
            t=[2, 8, 2, 2],
        )
    )
    assert sum(units(found).values()) > 1
    assert any("g:0" in key and "f:1" in key for key in units(found))


ATTENTION = """(float[N,5,4] x) => (y)
    <float[4,{width}] qkv, float[{width}] b, float[{inner},4] o, int64[5] s, int64[3] t, int64[1] axis, float root>
    {{ p = MatMul(x, qkv)
       f = Add(p, b)
       g = Reshape(f, s)
       a = Transpose<perm=[2,0,3,1,4]>(g)
       q, k, v = Split<axis=0, num_outputs=3>(a)
       qs = Squeeze(q, axis)
       ks = Squeeze(k, axis)
       vs = Squeeze(v, axis)
       kt = Transpose<perm=[0,1,3,2]>(ks)
       w = MatMul(qs, kt)
       d = Div(w, root)
       z = Softmax(d)
       c = MatMul(z, vs)
       m = Transpose<perm=[0,2,1,3]>(c)
       r = Reshape(m, t)
       y = MatMul(r, o) }}"""


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("heads", {"qkv:1x9 b:0x9 o:0x3": 2}),
        ("head-dims", {"qkv:1x6 b:0x6 o:0x2": 3}),
    ],
)
def test_attention_with_q_k_and_v_fused(prefer, expected):
    """[3, h, d]: whole heads, or the same dims in all heads of all three."""
    model = net(ATTENTION.format(width=18, inner=6), s=[0, 5, 3, 2, 3], t=[0, 5, -1], axis=0, root=3**0.5)
    assert units(exact(model, prefer=prefer)) == expected


def test_attention_with_three_projections():
    text = """(float[N,5,4] x) => (y)
        <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,4] o, int64[4] s, int64[3] t>
        { q = MatMul(x, wq)
          k = MatMul(x, wk)
          v = MatMul(x, wv)
          qr = Reshape(q, s)
          kr = Reshape(k, s)
          vr = Reshape(v, s)
          qt = Transpose<perm=[0,2,1,3]>(qr)
          kt = Transpose<perm=[0,2,3,1]>(kr)
          vt = Transpose<perm=[0,2,1,3]>(vr)
          w = MatMul(qt, kt)
          z = Softmax(w)
          c = MatMul(z, vt)
          m = Transpose<perm=[0,2,1,3]>(c)
          r = Reshape(m, t)
          y = MatMul(r, o) }"""
    model = net(text, s=[0, 5, 2, 3], t=[0, 5, 6])
    assert units(exact(model, prefer="heads")) == {"wq:1x3 wk:1x3 wv:1x3 o:0x3": 2}
    assert units(exact(model, prefer="head-dims")) == {"wq:1x2 wk:1x2": 3, "wv:1x2 o:0x2": 3}


def test_without_a_preference_the_axis_that_can_be_cut_wins():
    """One head cannot be cut, its dims can; and the other way round."""
    model = net(ATTENTION.format(width=9, inner=3), s=[0, 5, 3, 1, 3], t=[0, 5, -1], axis=0, root=3**0.5)
    assert units(exact(model)) == {"qkv:1x3 b:0x3 o:0": 3}
    model = net(ATTENTION.format(width=12, inner=4), s=[0, 5, 3, 4, 1], t=[0, 5, -1], axis=0, root=1)
    assert units(exact(model)) == {"qkv:1x3 b:0x3 o:0": 4}


def test_a_grid_that_meets_a_fixed_axis():
    """Heads are summed with something fixed per head: only the dims may go."""
    found = exact(
        net(
            """(float[2,5,4] x, float[2,5,2,1] z) => (y) <float[4,6] w, float[6,3] v, int64[4] s, int64[3] t>
        { h = MatMul(x, w)
          g = Reshape(h, s)
          a = Mul(g, z)
          r = Reshape(a, t)
          y = MatMul(r, v) }""",
            s=[2, 5, 2, 3],
            t=[2, 5, 6],
        )
    )
    assert units(found) == {"w:1x2 v:0x2": 3}


def test_windows_cut_from_the_image_pass():
    """Swin: [H/w, w, W/w, w] beside the channels."""
    found = exact(
        net(
            """(float[1,4,4,3] x) => (y) <float[3,6] w, float[6,2] v, int64[6] s, int64[3] t>
        { h = MatMul(x, w)
          a = Reshape(h, s)
          b = Transpose<perm=[0,1,3,2,4,5]>(a)
          c = Reshape(b, t)
          y = MatMul(c, v) }""",
            s=[1, 2, 2, 2, 2, 6],
            t=[4, 4, 6],
        )
    )
    assert units(found) == {"w:1 v:0": 6}


def test_patches_that_swallow_the_channels():
    """Swin's patch merging: four neighbours' channels side by side."""
    found = exact(
        net(
            """(float[1,4,4,3] x) => (y) <float[3,6] w, float[24,2] v, int64[6] s, int64[4] t>
        { h = MatMul(x, w)
          a = Reshape(h, s)
          b = Transpose<perm=[0,1,3,2,4,5]>(a)
          c = Reshape(b, t)
          y = MatMul(c, v) }""",
            s=[1, 2, 2, 2, 2, 6],
            t=[1, 2, 2, 24],
        )
    )
    assert units(found) == {"w:1 v:0x4": 6}


def test_channels_merged_with_the_image_and_split_elsewhere():
    """A reshape whose borders do not divide each other, 6x4 into 4x6: three channels are two rows."""
    found = exact(
        net(
            """(float[2,3,4] x) => (y) <float[6,3,1] w, float[2,4,1] v, int64[3] s>
        { h = Conv(x, w)
          a = Reshape(h, s)
          y = Conv(a, v) }""",
            s=[2, 4, 6],
        )
    )
    assert units(found) == {"w:0x3 v:1x2": 2}


def test_merged_with_the_batch_and_split_again():
    found = exact(
        net(
            """(float[2,5,3] x) => (y) <float[3,6] w, float[6,2] v, int64[2] s, int64[3] t>
        { a = Reshape(x, s)
          h = MatMul(a, w)
          b = Reshape(h, t)
          y = MatMul(b, v) }""",
            s=[-1, 3],
            t=[2, 5, 6],
        )
    )
    assert units(found) == {"w:1 v:0": 6}


def test_reshape_of_opset_9_takes_its_target_as_input_too():
    found = exact(
        net(
            """(float[2,3,4] x) => (y) <float[6,3,1] w, float[24,2] v, int64[2] s>
        { h = Conv(x, w)
          f = Reshape(h, s)
          y = MatMul(f, v) }""",
            opset=9,
            s=[2, 24],
        )
    )
    assert units(found) == {"w:0 v:0x4": 6}


def test_a_target_from_the_input_pins():
    found = exact(
        net("""(float[2,3,4] x, int64[2] s) => (float[A,B] y) <float[6,3,1] w>
        { h = Conv(x, w)
          y = Reshape(h, s) }"""),
        plans=0,
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "its target shape is computed while the network runs"


def test_a_weight_reshaped_into_heads():
    """A matrix stored flat, used as [h, d, 4] in an Einsum."""
    found = exact(
        net(
            """(float[5,4] x) => (y) <float[6,4] w, int64[3] s, float[6,2] v, int64[2] t>
        { r = Reshape(w, s)
          h = Einsum<equation="td,hed->the">(x, r)
          f = Reshape(h, t)
          y = MatMul(f, v) }""",
            s=[2, 3, 4],
            t=[5, 6],
        ),
        prefer="heads",
    )
    assert units(found) == {"w:0x3 v:0x3": 2}


def test_a_vector_reshaped_for_broadcasting():
    found = exact(
        net(
            """(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, float[6] b, int64[4] s, float[2,6,1,1] v>
        { h = Conv(x, w)
          r = Reshape(b, s)
          a = Add(h, r)
          y = Conv(a, v) }""",
            s=[1, 6, 1, 1],
        )
    )
    assert units(found) == {"w:0 b:0 v:1": 6}
    found = exact(
        net(
            """(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, float[6] b, int64[4] s, float[2,6,1,1] v>
        { h = Conv(x, w)
          r = Reshape(b, s)
          a = Add(h, r)
          y = Conv(a, v) }""",
            s=[1, -1, 1, 1],
        )
    )
    assert units(found) == {"w:0 b:0 v:1": 6}


def test_a_table_that_layers_share_does_not_decide_how_their_heads_are_cut():
    """Rotary positions: the same offset in every head of every layer would free the table too, which is next to nothing."""
    layer = """{x}{k} = MatMul({x}, w{k})
          s{k} = Reshape({x}{k}, heads)
          r{k} = Mul(s{k}, table)
          f{k} = Reshape(r{k}, folded)
          {y} = MatMul(f{k}, v{k})"""
    found = exact(
        net(f"""(float[N,5,16] x) => (y) <float[16,12] w1, float[12,16] v1, float[16,12] w2, float[12,16] v2,
        float[5,1,4] table, int64[4] heads = {{0, 0, 3, 4}}, int64[3] folded = {{0, 0, 12}}>
        {{ {layer.format(x="x", y="m", k=1)}
          {layer.format(x="m", y="y", k=2)} }}""")
    )
    assert units(found) == {"w1:1x4 v1:0x4": 3, "v1:1 w2:0": 16, "w2:1x4 v2:0x4": 3}
