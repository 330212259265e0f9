"""Pooling and resizing pass the channels."""

import pytest

from tests.networks.graphs import exact, net, pinned, units


@pytest.mark.parametrize(
    "pool",
    [
        "MaxPool<kernel_shape=[2,2], strides=[2,2]>",
        "AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>",
        "LpPool<kernel_shape=[2,2]>",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
    ],
)
@pytest.mark.parametrize(("before", "free"), [("Relu", True), ("Sigmoid", False)])
def test_pooling_keeps_channels_and_zeros(pool, before, free):
    text = f"""(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, int64[1] one = {{1}}>
        {{ h = Conv(x, w)
           r = {before}(h)
           p = {pool}(r)
           y = ReduceSum(p, one) }}"""
    assert units(exact(net(text))) == ({"w:0": 6} if free else {})


def test_indices_of_a_pooling_count_all_channels():
    text = """(float[2,3,4,4] x) => (y, i) <float[6,3,1,1] w, float[2,6,1,1] v>
        { h = Conv(x, w)
          p, i = MaxPool<kernel_shape=[2,2]>(h)
          y = Conv(p, v) }"""
    assert units(exact(net(text))) == {}
    found = exact(net(text.replace(", i) <", ") <")))
    assert units(found) == {"w:0 v:1": 6}


UNPOOLED = """(float[2,3,4,4] x) => (float[2,2,4,4] y) <float[6,3,1,1] w, float[6,6,1,1] u, float[2,6,1,1] v,
    int64[4] size = {2, 6, 4, 4}>
    { h = Conv(x, w)
      p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)
      r = Conv(p, u)
      b = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(r, i)
      y = Conv(b, v) }"""


@pytest.mark.parametrize("size", ["", ", size"])
def test_unpooling_goes_with_the_channels_of_the_pooling(size):
    """As in SegNet: positions are counted in all channels, anew in the slim network."""
    found = exact(net(UNPOOLED.replace("(r, i)", f"(r, i{size})")))
    assert units(found) == {"w:0 u:0 u:1 v:1": 6}


def test_unpooling_into_another_size_pins():
    """Then positions would fall into other channels."""
    text = UNPOOLED.replace("strides=[2,2]>(h)", "strides=[1,1]>(h)").replace("float[2,2,4,4] y", "float[2,2,6,6] y")
    found = exact(net(text))
    assert units(found) == {}
    assert "positions are not known to be those" in pinned(found)["u:0"]


def test_positions_that_anything_else_reads_pin():
    found = exact(
        net("""(float[2,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,6,1,1] v>
        { h = Conv(x, w)
          p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)
          f = Cast<to=1>(i)
          m = Add(p, f)
          y = Conv(m, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "reads positions in all channels, such as where a pooling found its maxima"


def upsampled(resize: str, weights: str, opset: int = 20, width: int = 6, **values):
    return net(
        f"""(float[2,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,{width},1,1] v, {weights}>
        {{ h = Conv(x, w)
           m = {resize}
           y = Conv(m, v) }}""",
        opset=opset,
        **values,
    )


@pytest.mark.parametrize(
    ("resize", "weights", "opset", "values"),
    [
        ('Resize<mode="nearest">(h, , , z)', "int64[4] z", 20, [2, 6, 8, 8]),
        ('Resize<mode="linear">(h, , z)', "float[4] z", 20, [1, 1, 2, 2]),
        ('Resize<mode="linear">(h, z, z)', "float[4] z", 11, [1, 1, 2, 2]),
        ('Resize<mode="nearest">(h, z)', "float[4] z", 10, [1, 1, 2, 2]),
        ("Upsample(h, z)", "float[4] z", 9, [1, 1, 2, 2]),
        ('Resize<mode="linear", axes=[2,3]>(h, , , z)', "int64[2] z", 20, [8, 8]),
        ('Resize<mode="linear", axes=[3,2]>(h, , z)', "float[2] z", 20, [2, 2]),
    ],
)
def test_resizing_the_image(resize, weights, opset, values):
    assert units(exact(upsampled(resize, weights, opset, z=values))) == {"w:0 v:1": 6}


def test_resizing_to_the_size_of_something_else():
    """Segmentation heads: the sizes are put together from two Shapes."""
    found = exact(
        net(
            """(float[N,3,H,8] x) => (y)
        <float[6,3,2,2] w, float[2,6,1,1] v, int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}>
        { h = Conv<strides=[2,2]>(x, w)
          s = Shape(x)
          image = Slice(s, two, four)
          t = Shape(h)
          front = Slice(t, zero, two)
          sizes = Concat<axis=0>(front, image)
          m = Resize<mode="linear">(h, , , sizes)
          y = Conv(m, v) }""",
            n=8,
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_resizing_the_channels_pins():
    found = exact(upsampled('Resize<mode="nearest">(h, , z)', "float[4] z", width=12, z=[1, 2, 1, 1]))
    assert units(found) == {}
    assert pinned(found)["w:0"] == "reads this axis as a whole"


def test_grid_sample_and_others_without_a_rule_pin():
    found = exact(
        net("""(float[2,3,4,4] x, float[2,4,4,2] g) => (y) <float[6,3,1,1] w, float[2,6,1,1] v>
        { h = Conv(x, w)
          m = GridSample(h, g)
          y = Conv(m, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "has no rule"


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "LpPool"])
def test_windows_side_by_side_are_removed_as_a_whole(pool):
    """Maxout: three linear pieces to each unit, pooled over the features."""
    found = exact(
        net(f"""(float[N,4] x) => (y) <float[4,12] w, float[12] b, float[4,2] v, int64[1] one = {{1}}>
        {{ h = Gemm(x, w, b)
           u = Unsqueeze(h, one)
           p = {pool}<kernel_shape=[3], strides=[3]>(u)
           s = Squeeze(p, one)
           y = MatMul(s, v) }}""")
    )
    assert units(found) == {"w:1x3 b:0x3 v:0": 4}


def test_windows_that_overlap_pin():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,12] w, int64[1] one = {1}>
        { h = MatMul(x, w)
          u = Unsqueeze(h, one)
          y = MaxPool<kernel_shape=[3], strides=[2]>(u) }""")
    )
    assert units(found) == {}
