"""Operators that move elements: index arithmetic on labels."""

import numpy as np
import pytest

from slimnet.graph.net import Net
from slimnet.graph.surgery import slim
from tests.networks.graphs import exact, net, pinned, units

H = "h = Conv(x, w)"


def moved(body: str, width: int = 6, weights: str = "", opset: int = 20, **values) -> Net:
    """From a convolution of 6 channels (h) to another one, of `width` channels (m)."""
    return net(
        f"""(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,{width},1,1] v{weights}>
        {{ {H}
           {body}
           y = Conv(m, v) }}""",
        opset=opset,
        **values,
    )


# -- concat and split ------------------------------------------------------------------------------------------------


def test_concat_lays_channels_side_by_side():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] a, float[4,3,1] b, float[2,10,1] v>
        { p = Conv(x, a)
          q = Conv(x, b)
          c = Concat<axis=1>(p, q)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0 v:1": 6, "b:0 v:1": 4}


def test_concat_on_another_axis_ties_the_channels():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] a, float[6,3,1] b, float[2,6,1] v>
        { p = Conv(x, a)
          q = Conv(x, b)
          c = Concat<axis=-1>(p, q)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0 b:0 v:1": 6}


def test_concat_with_the_input_pins_only_the_inputs_part():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] a, float[2,9,1] v>
        { p = Conv(x, a)
          c = Concat<axis=1>(x, p)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0 v:1": 6}
    assert pinned(found)["v:1"] == "joins an axis of input x, which keeps its size"


def test_concat_of_one_tensor_with_itself():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] a, float[2,12,1] v>
        { p = Conv(x, a)
          c = Concat<axis=1>(p, p)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0 v:1x2": 6}


SPLITS = {
    "input": (20, "a, b = Split<axis=1>(h, sizes)"),
    "attribute": (11, "a, b = Split<axis=1, split=[2,4]>(h)"),
}


@pytest.mark.parametrize("how", SPLITS)
def test_split_in_given_sizes(how):
    opset, split = SPLITS[how]
    weights = "int64[2] sizes = {2, 4}" if how == "input" else "int64[1] unused = {0}"
    found = exact(
        net(
            f"""(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,2,1] u, float[2,4,1] v, {weights}>
        {{ {H}
           {split}
           c = Conv(a, u)
           d = Conv(b, v)
           y = Add(c, d) }}""",
            opset=opset,
        )
    )
    assert units(found) == {"w:0 u:1": 2, "w:0 v:1": 4}


@pytest.mark.parametrize(("opset", "attributes"), [(11, ""), (13, ""), (20, ", num_outputs=2")])
@pytest.mark.parametrize("together", [True, False])
def test_split_in_equal_parts(opset, attributes, together):
    """The parts need not stay equal."""
    join = "y = Add(c, d)" if not together else "p = Add(a, b) y = Conv(p, u)"
    apart = "" if together else "c = Conv(a, u) d = Conv(b, v)"
    v = "" if together else ", float[2,3,1] v"
    found = exact(
        net(
            f"""(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,3,1] u{v}>
        {{ {H}
           a, b = Split<axis=1{attributes}>(h)
           {apart}
           {join} }}""",
            opset=opset,
        )
    )
    assert units(found) == ({"w:0x2 u:1": 3} if together else {"w:0 u:1": 3, "w:0 v:1": 3})


def test_split_in_unequal_parts_by_number():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[5,3,1] w, float[2,3,1] u, float[2,2,1] v>
        { h = Conv(x, w)
          a, b = Split<axis=1, num_outputs=2>(h)
          c = Conv(a, u)
          d = Conv(b, v)
          y = Add(c, d) }""")
    )
    assert units(found) == {"w:0 u:1": 3, "w:0 v:1": 2}


def test_split_of_which_a_part_is_an_output():
    found = exact(
        net("""(float[N,3,4] x) => (y, b) <float[6,3,1] w, float[2,3,1] u>
        { h = Conv(x, w)
          a, b = Split<axis=1, num_outputs=2>(h)
          y = Conv(a, u) }""")
    )
    assert units(found) == {"w:0 u:1": 3}
    assert pinned(found)["w:0"].startswith("is an output of the network, one of 2;")


# -- slice -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "step", "kept"),
    [
        (0, 4, 1, [0, 1, 2, 3]),
        (2, 100, 1, [2, 3, 4, 5]),
        (-4, -1, 1, [2, 3, 4]),
        (1, -2, 1, [1, 2, 3]),
        (-100, 3, 1, [0, 1, 2]),
        (0, 6, 2, [0, 2, 4]),
        (1, 6, 2, [1, 3, 5]),
        (-1, -100, -1, [5, 4, 3, 2, 1, 0]),
        (4, 0, -2, [4, 2]),
        (-2, -7, -1, [4, 3, 2, 1, 0]),
        (100, -100, -3, [5, 2]),
    ],
)
def test_slice(start, end, step, kept):
    weights = ", int64[1] s, int64[1] e, int64[1] k = {1}, int64[1] t"
    found = exact(moved("m = Slice(h, s, e, k, t)", len(kept), weights, s=start, e=end, t=step))
    assert units(found)["w:0 v:1"] == len(kept)
    members = {m.tensor: m.index[:, 0].tolist() for m in max(found.groups, key=lambda g: len(g.members)).members}
    assert [members["w"][members["v"].index(k)] for k in range(len(kept))] == kept


@pytest.mark.parametrize(("start", "end", "count"), [(1, 4, 3), (-3, 100, 3), (0, -1, 5)])
def test_slice_of_opset_9(start, end, count):
    found = exact(moved(f"m = Slice<axes=[1], starts=[{start}], ends=[{end}]>(h)", count, opset=9))
    assert units(found)["w:0 v:1"] == count


def test_slice_without_axes_and_with_several():
    found = exact(moved("m = Slice(h, s, e)", 3, ", int64[4] s, int64[4] e", s=[0, 1, 0, 1], e=[9, 4, 9, 3]))
    assert units(found)["w:0 v:1"] == 3
    found = exact(
        moved("m = Slice(h, s, e, k)", 3, ", int64[2] s, int64[2] e, int64[2] k", s=[1, 2], e=[-1, 5], k=[2, -3])
    )
    assert units(found)["w:0 v:1"] == 3


def test_slice_with_steps_on_the_image_and_bounds_on_the_channels():
    weights = ", int64[2] s, int64[2] e, int64[2] k, int64[2] t"
    found = exact(moved("m = Slice(h, s, e, k, t)", 3, weights, s=[1, 0], e=[4, 4], k=[1, 2], t=[1, 2]))
    assert units(found) == {"w:0 v:1": 3, "w:0": 3}


def test_both_halves_of_a_slice():
    """A chunk written as two slices."""
    found = exact(
        net("""(float[N,3,4] x) => (y)
        <float[6,3,1] w, float[2,3,1] v, int64[1] zero = {0}, int64[1] half = {3}, int64[1] end = {6}, int64[1] k = {1}>
        { h = Conv(x, w)
          a = Slice(h, zero, half, k)
          b = Slice(h, half, end, k)
          s = Sigmoid(b)
          m = Mul(a, s)
          y = Conv(m, v) }""")
    )
    assert units(found) == {"w:0x2 v:1": 3}


def test_slice_down_to_nothing_of_a_removable_part():
    """If all that a slice takes were removed it would be empty, so something of it stays."""
    found = exact(moved("m = Slice(h, s, e, k)", 2, ", int64[1] s, int64[1] e, int64[1] k", s=1, e=3, k=1), plans=6)
    pieces = [axis for axis in found.axes if axis.layout == "other"]
    assert [len(axis.units) for axis in pieces] == [2]


# -- gather and scatter ----------------------------------------------------------------------------------------------


def test_gather_of_channels():
    found = exact(moved("m = Gather<axis=1>(h, i)", 4, ", int64[4] i", i=[5, 0, -1, 2]))
    assert units(found) == {"w:0": 3, "w:0 i:0 v:1": 2, "w:0 i:0x2 v:1x2": 1}


def test_a_permutation_of_channels():
    found = exact(moved("m = Gather<axis=1>(h, i)", 6, ", int64[6] i", i=[3, 1, 5, 0, 4, 2]))
    assert units(found) == {"w:0 i:0 v:1": 6}


def test_a_scalar_index_pins_what_it_picks():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[4,2] v, int64 i = {2}, float[2,6,1] u>
        { h = Conv(x, w)
          p = Gather<axis=1>(h, i)
          q = MatMul(p, v)
          r = Conv(h, u)
          one = Constant<value_ints=[1]>()
          s = ReduceSum<keepdims=0>(r, one)
          y = Concat<axis=-1>(s, q) }""")
    )
    assert units(found) == {"w:0 u:1": 5, "u:0": 2}
    assert pinned(found)["w:0"] == "is picked by its position"


def test_indices_on_a_grid():
    """Relative position bias: a table of heads, gathered by a constant grid and moved in front."""
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[7,6] table, int64[4,4] i, float[6,3,1] q, float[6,3,1] v, int64[1] last={3}>
        { a = Conv(x, q)
          b = Conv(x, v)
          u = Unsqueeze(a, last)
          g = Gather(table, i)
          t = Transpose<perm=[2,0,1]>(g)
          s = Add(u, t)
          p = Softmax(s)
          z = Unsqueeze(b, last)
          o = MatMul(p, z)
          one = Constant<value_ints=[1]>()
          y = ReduceSum(o, one) }""")
    )
    assert units(found) == {"q:0 v:0 table:1": 6}


def test_a_grid_of_indices_into_a_live_axis():
    found = exact(
        net(
            """(float[N,3,4] x) => (y) <float[6,3,1] w, int64[2,3] i, float[3,2] v>
        { h = Conv(x, w)
          g = Gather<axis=1>(h, i)
          t = Transpose<perm=[0,1,3,2]>(g)
          m = MatMul(t, v)
          one = Constant<value_ints=[1]>()
          y = ReduceSum(m, one) }""",
            i=[[0, 1, 2], [3, 4, 5]],
        )
    )
    assert units(found) == {"w:0x2 i:1 v:0": 3}


def test_an_embedding():
    found = exact(
        net("""(int64[N,5] labels) => (y) <float[11,6] table, float[5,6] position, float[6,2] v>
        { e = Gather(table, labels)
          h = Add(e, position)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"table:1 position:1 v:0": 6}
    assert pinned(found)["table:0"] == "reads this axis as a whole"


def test_indices_from_the_input_pin_a_live_axis():
    found = exact(
        net("""(float[N,3,4] x, int64[2] i) => (y) <float[6,3,1] w, float[2,2,1] v>
        { h = Conv(x, w)
          g = Gather<axis=1>(h, i)
          y = Conv(g, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "reads this axis as a whole"


def test_gather_elements_pins():
    found = exact(
        net("""(float[2,3,4] x) => (y) <float[6,3,1] w, int64[2,2,4] i, float[2,2,1] v>
        { h = Conv(x, w)
          g = GatherElements<axis=1>(h, i)
          y = Conv(g, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "has no rule"


def test_gather_nd():
    found = exact(
        net(
            """(float[4,3] x) => (y) <float[3,6] w, int64[5,1] i, float[6,2] v>
        { h = MatMul(x, w)
          g = GatherND(h, i)
          y = MatMul(g, v) }""",
            i=[[0], [1], [1], [3], [-1]],
        )
    )
    assert units(found) == {"w:1 v:0": 6}
    found = exact(
        net("""(float[4,3] x) => (y) <float[3,6] w, int64[5,2] i, float[5,2] v>
        { h = MatMul(x, w)
          g = GatherND(h, i)
          y = MatMul(g, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "reads this axis as a whole"


def test_gather_nd_of_as_many_rows_as_the_values_say():
    found = exact(
        net("""(float[4,3] x) => (y) <float[3,6] w>
        { h = MatMul(x, w)
          b = Greater(x, x)
          n = Not(b)
          z = NonZero(n)
          i = Transpose<perm=[1,0]>(z)
          y = GatherND(h, i) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "the shape of its indices is not known"


def test_scatter_nd_overwrites_positions():
    """A class token written into the first row; and channels overwritten at constant positions."""
    found = exact(
        net("""(float[4,3] x) => (y) <float[3,6] w, float[1,6] z, int64[1,1] i = {0}, float[6,2] v>
        { h = MatMul(x, w)
          g = ScatterND(h, i, z)
          y = MatMul(g, v) }""")
    )
    assert units(found) == {"w:1 z:1 v:0": 6}
    found = exact(
        net(
            """(float[3,4] x) => (y) <float[6,3] w, float[2,3] u, int64[2,1] i, float[2,6] v>
        { h = MatMul(w, x)
          c = MatMul(u, x)
          g = ScatterND(h, i, c)
          y = MatMul(v, g) }""",
            i=[[4], [1]],
        )
    )
    assert units(found) == {"w:0 v:1": 4, "w:0 u:0 i:0 v:1": 2}


# -- pad -------------------------------------------------------------------------------------------------------------


def test_the_option_a_shortcut():
    """Subsample, pad the channels with zeros, add: the padded channels go with those of the branch."""
    found = exact(
        net(
            """(float[N,3,4,4] x) => (y)
        <float[4,3,1,1] w, float[8,4,1,1] b, float[2,8,1,1] v, int64[8] pads,
         int64[2] s = {0, 0}, int64[2] e = {4, 4}, int64[2] k = {2, 3}, int64[2] t = {2, 2}>
        { h = Conv(x, w)
          a = Slice(h, s, e, k, t)
          p = Pad(a, pads)
          c = Conv<strides=[2,2]>(h, b)
          m = Add(p, c)
          y = Conv(m, v) }""",
            pads=[0, 2, 0, 0, 0, 2, 0, 0],
        )
    )
    assert units(found) == {"w:0 b:0 b:1 v:1": 4, "b:0 v:1": 4}


def test_zeros_around_the_image_pass():
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    assert units(exact(moved("m = Pad(h, pads)", 6, ", int64[8] pads", pads=pads))) == {"w:0 v:1": 6}
    assert units(exact(moved('m = Pad<mode="reflect">(h, pads)', 6, ", int64[8] pads", pads=pads))) == {"w:0 v:1": 6}
    assert units(exact(moved("m = Pad<pads=[0,0,1,1,0,0,1,1], value=1.5>(h)", 6, opset=9))) == {"w:0 v:1": 6}


def test_channels_padded_with_other_things():
    pads = [0, 1, 0, 0, 0, 2, 0, 0]
    found = exact(moved("m = Pad(h, pads, one)", 9, ", int64[8] pads, float one = {1}", pads=pads))
    assert units(found)["w:0 v:1"] == 6
    found = exact(moved('m = Pad<mode="edge">(h, pads)', 9, ", int64[8] pads", pads=pads))
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is padded with its own values, or cropped"


def test_a_constant_border_is_no_zero():
    text = """(float[N,3,4] x) => (y) <float[6,3,1] w, int64[6] pads, float one, int64[1] k = {{1}}>
        {{ h = Conv(x, w)
           p = Pad(h, pads, one)
           y = ReduceSum(p, k) }}""".format()
    assert units(exact(net(text, pads=[0, 0, 1, 0, 0, 0], one=1))) == {}
    assert units(exact(net(text, pads=[0, 0, 1, 0, 0, 0], one=0))) == {"w:0": 6}


def test_pad_with_axes_and_cropping():
    found = exact(moved("m = Pad(h, pads, , k)", 6, ", int64[4] pads, int64[2] k", pads=[1, 0, 0, 1], k=[-1, 2]))
    assert units(found) == {"w:0 v:1": 6}
    found = exact(moved("m = Pad(h, pads, , k)", 8, ", int64[2] pads, int64[1] k", pads=[0, 2], k=-3))
    assert units(found)["w:0 v:1"] == 6
    found = exact(moved("m = Pad(h, pads)", 5, ", int64[8] pads", pads=[0, -1, 0, 0, 0, 0, 0, 0]))
    assert units(found) == {}


# -- the rest --------------------------------------------------------------------------------------------------------


def test_transpose():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[6,2] v>
        { h = Conv(x, w)
          t = Transpose<perm=[0,2,1]>(h)
          y = MatMul(t, v) }""")
    )
    assert units(found) == {"w:0 v:0": 6}
    found = exact(
        net("""(float[5,3] x) => (y) <float[3,6] w, float[2,6] v>
        { h = MatMul(x, w)
          t = Transpose(h)
          y = MatMul(v, t) }""")
    )
    assert units(found) == {"w:1 v:1": 6}


@pytest.mark.parametrize("opset", [11, 20])
def test_squeeze_and_unsqueeze(opset):
    squeeze, unsqueeze = (
        ("Squeeze<axes=[-1]>(g)", "Unsqueeze<axes=[2,3]>(s)") if opset == 11 else ("Squeeze(g, k)", "Unsqueeze(s, j)")
    )
    weights = "" if opset == 11 else ", int64[2] k = {-1, 2}, int64[2] j = {2, 3}"
    squeeze = squeeze.replace("[-1]", "[2,-1]")
    found = exact(moved(f"g = GlobalAveragePool(h) s = {squeeze} m = {unsqueeze}", 6, weights, opset=opset))
    assert units(found) == {"w:0 v:1": 6}


def test_squeeze_of_whatever_has_length_one():
    """After pruning to one channel a Squeeze without axes would drop the channel axis too."""
    found = exact(
        net("""(float[2,3,4,4] x) => (y) <float[2,3,1,1] w, float[2,5] v>
        { h = Conv(x, w)
          g = GlobalAveragePool(h)
          s = Squeeze(g)
          y = MatMul(s, v) }"""),
        plans=4,
    )
    assert units(found) == {"w:0 v:0": 2}


def test_expand():
    found = exact(
        net(
            """(float[N,3] x) => (y) <float[3,6] w, int64[3] s, float[6,2] v>
        { h = MatMul(x, w)
          e = Expand(h, s)
          y = MatMul(e, v) }""",
            s=[4, 1, 6],
        )
    )
    assert units(found) == {"w:1 v:0": 6}
    found = exact(
        net(
            """(float[N,3] x) => (y) <float[3,6] w, int64[3] s, float[6,2] v>
        { h = MatMul(x, w)
          e = Expand(h, s)
          y = MatMul(e, v) }""",
            s=[4, 2, 1],
        )
    )
    assert units(found) == {"w:1 v:0": 6}


def test_expand_of_one_to_a_removable_width():
    found = exact(
        net(
            """(float[N,3] x) => (y) <float[3,6] w, float[3,1] u, int64[2] s, float[6,2] v>
        { h = MatMul(x, w)
          k = MatMul(x, u)
          e = Expand(k, s)
          m = Add(h, e)
          y = MatMul(m, v) }""",
            s=[1, 6],
        )
    )
    assert units(found) == {"w:1 v:0": 6}


def test_expanded_channels_are_no_zero():
    found = exact(
        net(
            """(float[N,3] x) => (y) <float[3,6] w, float[3,1] u, int64[2] s, int64[1] one = {1}>
        { h = MatMul(x, w)
          k = MatMul(x, u)
          e = Expand(k, s)
          m = Add(h, e)
          y = ReduceSum(m, one) }""",
            s=[1, 6],
        )
    )
    assert units(found) == {}


def test_tile():
    found = exact(moved("m = Tile(h, r)", 12, ", int64[4] r", r=[1, 2, 1, 1]))
    assert units(found) == {"w:0 v:1x2": 6}
    found = exact(moved("m = Tile(h, r)", 6, ", int64[4] r", r=[2, 1, 1, 3]))
    assert units(found) == {"w:0 v:1": 6}


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_pixel_shuffle(mode):
    found = exact(
        net(f"""(float[N,3,2,2] x) => (y) <float[12,3,1,1] w, float[12] b, float[2,3,1,1] v>
        {{ h = Conv(x, w, b)
           d = DepthToSpace<blocksize=2, mode="{mode}">(h)
           y = Conv(d, v) }}""")
    )
    assert units(found) == {"w:0x4 b:0x4 v:1": 3}


def test_space_to_depth():
    found = exact(
        net("""(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,24,1,1] v>
        { h = Conv(x, w)
          d = SpaceToDepth<blocksize=2>(h)
          y = Conv(d, v) }""")
    )
    assert units(found) == {"w:0 v:1x4": 6}


def test_constant_of_shape_as_a_weight():
    found = exact(
        net(
            """(float[N,3,4] x) => (y) <float[6,3,1] w, int64[3] s, float[2,6,1] v>
        { h = Conv(x, w)
          k = ConstantOfShape<value = float[1] {0.5}>(s)
          m = Add(h, k)
          y = Conv(m, v) }""",
            s=[1, 6, 4],
        )
    )
    assert set(units(found)) == {"w:0 k:1 v:1"}


def test_a_large_constant_of_shape_as_a_weight():
    """Too large to be computed: it is counted in its shape, and masked by a product."""
    found = exact(
        net(
            """(float[1,3,4] x) => (y) <float[2048,3,1] w, int64[2] s, float[2,1024,1] v>
        { h = Conv(x, w)
          k = ConstantOfShape<value = float[1] {0.5}>(s)
          last = Constant<value_ints=[2]>()
          c = Unsqueeze(k, last)
          m = Conv(h, c)
          y = Conv(m, v) }""",
            s=[1024, 2048],
        ),
        plans=1,
    )
    assert units(found) == {"w:0 k:1": 2048, "k:0 v:1": 1024}
    removed = np.arange(found.n_units) % 2 == 0
    assert slim(found, removed).graph.initializers["w"].shape[0] == 1024


def test_resizing_by_sizes_and_scales():
    found = exact(moved('m = Resize<mode="nearest">(h, , , z)', 6, ", int64[4] z", n=1, z=[1, 6, 8, 8]))
    assert units(found) == {"w:0 v:1": 6}
    found = exact(moved('m = Resize<mode="linear">(h, , f)', 6, ", float[4] f", f=[1, 1, 2, 2]))
    assert units(found) == {"w:0 v:1": 6}
    found = exact(moved("m = Upsample(h, f)", 6, ", float[4] f", opset=9, f=[1, 1, 2, 2]))
    assert units(found) == {"w:0 v:1": 6}


def test_resizing_the_channels_pins():
    found = exact(moved('m = Resize<mode="nearest">(h, , f)', 12, ", float[4] f", f=[1, 2, 1, 1]))
    assert units(found) == {}
    assert pinned(found)["w:0"] == "reads this axis as a whole"
