"""Networks inside the branches of an If and the bodies of Loop and Scan."""

import numpy as np
import pytest

from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from tests.networks.graphs import assert_same, exact, net, pinned, run, units

#: A layer outside, two inside each branch, and one behind.
BRANCHES = """(float[2,3,6,6] x, bool c) => (y)
    <float[8,3,1,1] w, float[8] b, float[6,8,3,3] t1, float[5,6,1,1] t2, float[5,8,3,3] e1, float[4,5,1,1] last>
    { h = Conv(x, w, b) r = Relu(h)
      z = If (c) <
        then_branch = a () => (float[2,5,4,4] p) { p1 = Conv(r, t1) p2 = Relu(p1) p = Conv(p2, t2) },
        else_branch = o () => (float[2,5,4,4] q) { q1 = Conv(r, e1) q = Relu(q1) }
      >
      y = Conv(z, last) }"""


def test_layers_in_branches():
    """What is put out by both goes on behind the If; what is read by both goes in."""
    assert units(exact(net(BRANCHES))) == {"w:0 b:0 t1:1 e1:1": 8, "t1:0 t2:1": 6, "t2:0 e1:0 last:1": 5}


def test_both_branches_are_compared():
    found = trace(net(BRANCHES))
    removed = np.arange(found.n_units) % 3 == 0
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    outputs = []
    for taken in (True, False):
        feed = {"x": x, "c": np.array(taken)}
        assert_same(found, removed, feed)
        outputs.append(run(slim(found, removed), feed)[0])
    assert not np.allclose(*outputs)


def test_a_channel_that_is_zero_in_one_branch_only_is_not_zero_behind():
    """Sigmoid makes one half of a masked channel, which the sum behind would see."""
    model = net("""(float[2,3] x, bool c) => (float[2,1] y) <float[3,6] w, int64[1] k = {1}>
        { h = MatMul(x, w)
          z = If (c) <
            then_branch = a () => (float[2,6] p) { p = Relu(h) },
            else_branch = o () => (float[2,6] q) { q = Sigmoid(h) }
          >
          y = ReduceSum(z, k) }""")
    assert units(exact(model)) == {}


def test_a_branch_that_does_not_fit_pins():
    """A network may choose by the size of its input; what is not taken need not be possible."""
    model = net("""(float[1,3,4,4] x, bool c) => (y) <float[8,3,1,1] w, float[5,8,9,9] t, float[5,8,1,1] e, float[2,5,1,1] v>
        { h = Conv(x, w)
          z = If (c) <
            then_branch = a () => (float[1,5,S,S] p) { p = Conv(h, t) },
            else_branch = o () => (float[1,5,S,S] q) { q = Conv(h, e) }
          >
          y = Conv(z, v) }""")
    found = trace(model)
    assert units(found) == {}
    assert "subgraph" in pinned(found)["w:0"]


def test_layers_in_the_body_of_a_loop():
    """What it carries stays; what is inside of one turn goes. Weights outside are read in every turn."""
    found = exact(
        net(
            """(float[2,6] x) => (float[2,4] y)
            <float[6,6] start, float[6,8] w, float[8,6] v, float[6,7] u, float[7,4] o, int64 times = {3}, bool go>
            { h = MatMul(x, start)
              z, all = Loop (times, go, h) <
                body = b (int64 i, bool c, float[2,6] s) => (bool d, float[2,6] n, float[2,8] m) {
                  d = Identity(c) k = MatMul(s, w) m = Relu(k) n = MatMul(m, v) }
              >
              g = MatMul(z, u) r = Relu(g) y = MatMul(r, o) }""",
            go=True,
        )
    )
    assert units(found) == {"u:1 o:0": 7}
    assert pinned(found)["w:1"] == "leaves the body of a loop"


def test_channels_inside_one_turn_of_a_loop_go():
    found = exact(
        net(
            """(float[2,6] x) => (float[2,6] y) <float[6,8] w, float[8] b, float[8,6] v, int64 times = {3}, bool go>
            { y = Loop (times, go, x) <
                body = l (int64 i, bool c, float[2,6] s) => (bool d, float[2,6] n) {
                  d = Identity(c) k = Gemm(s, w, b) m = Relu(k) n = MatMul(m, v) }
              > }""",
            go=True,
        )
    )
    assert units(found) == {"w:1 b:0 v:0": 8}


def test_channels_inside_a_scan_go():
    found = exact(
        net("""(float[5,2,6] x, float[2,4] s) => (float[2,4] t, float[5,2,3] y)
            <float[6,8] w, float[4,8] r, float[8,4] v, float[8,3] o>
            { t, y = Scan <num_scan_inputs = 1,
                body = b (float[2,4] s0, float[2,6] x0) => (float[2,4] s1, float[2,3] y1) {
                  a = MatMul(x0, w) e = MatMul(s0, r) k = Add(a, e) m = Tanh(k) s1 = MatMul(m, v) y1 = MatMul(m, o) }
              > (s, x) }""")
    )
    assert units(found) == {"w:1 r:1 v:0 o:0": 8}


def test_a_state_that_grows_pins():
    found = trace(
        net(
            """(float[2,6] x) => (float[2,M] y) <float[6,8] w, float[8,6] v, int64 times = {3}, bool go>
            { y = Loop (times, go, x) <
                body = l (int64 i, bool c, float[2,N] s) => (bool d, float[2,K] n) {
                  d = Identity(c) k = MatMul(x, w) m = Relu(k) p = MatMul(m, v) n = Concat<axis=1>(s, p) }
              > }""",
            go=True,
        )
    )
    assert units(found) == {}


def test_computed_shapes_inside_a_branch_are_written_down():
    found = exact(
        net("""(float[2,3,2,2] x, bool c) => (float[2,5] y)
            <float[6,3,1,1] w, float[24,5] f, int64[1] k = {0}, int64[1] one = {1}, int64[1] m = {-1}>
            { h = Conv(x, w)
              y = If (c) <
                then_branch = a () => (float[2,5] p) {
                  s = Shape(h) n = Slice(s, k, one) t = Concat<axis=0>(n, m) g = Reshape(h, t) p = MatMul(g, f) },
                else_branch = o () => (float[2,5] q) { u = Flatten(h) q = MatMul(u, f) }
              > }""")
    )
    assert units(found) == {"w:0 f:0x4": 6}


def test_inexact_removal_in_a_branch():
    model = net("""(float[2,6] x, bool c) => (float[2,3] y) <float[6,8] w, float[8] scale, float[8] bias, float[8,3] v>
        { h = MatMul(x, w)
          y = If (c) <
            then_branch = a () => (float[2,3] p) { n = LayerNormalization(h, scale, bias) p = MatMul(n, v) },
            else_branch = o () => (float[2,3] q) { r = Relu(h) q = MatMul(r, v) }
          > }""")
    assert units(trace(model)) == {}
    assert sum(units(exact(model, allow_inexact=True)).values()) == 8


@pytest.mark.parametrize(
    ("ends", "inexact"),
    [
        ("p = LayerNormalization(h, scale, bias)", True),
        ("p = Softmax(h)", True),
        ("n = LayerNormalization(h, scale, bias) p = Relu(n)", True),
        ("g = MatMul(x, wide) p = Slice(g, k, end, one, step)", False),
        ("g = MatMul(x, wide) n = Slice(g, k, end, one, step) p = Relu(n)", False),
        ("sq = Unsqueeze(h, two) e = LRN<size=3>(sq) p = Squeeze(e, two)", False),
        ("t = Add(bias, scale) p = Mul(h, t)", False),
    ],
)
def test_a_branch_may_end_where_surgery_adds_nodes(ends, inexact):
    """What it puts out goes on behind the If, and has to be what was added."""
    model = net(f"""(float[2,6] x, bool c) => (float[2,3] y)
        <float[6,8] w, float[6,16] wide, float[8] scale, float[8] bias, float[8,3] v, int64[1] k = {{0}}, int64[1] end = {{16}},
         int64[1] one = {{1}}, int64[2] two = {{2, 3}}, int64[1] step = {{2}}>
        {{ h = MatMul(x, w)
          z = If (c) <
            then_branch = a () => (float[2,8] p) {{ {ends} }},
            else_branch = o () => (float[2,8] q) {{ q = Relu(h) }}
          >
          y = MatMul(z, v) }}""")
    found = exact(model, plans=5, allow_inexact=inexact)
    assert sum(count for name, count in units(found).items() if "v:0" in name) == 8


@pytest.mark.parametrize("opset", [11, 17, 20])
def test_operators_in_a_branch_have_the_version_of_the_file(opset):
    """Where the sizes of a Split stand depends on it."""
    split = {11: "s, r = Split<axis=1>(h)", 17: "s, r = Split<axis=1>(h)", 20: "s, r = Split<axis=1, num_outputs=2>(h)"}
    model = net(f"""(float[2,6] x, bool c) => (float[2,6] y) <float[6,8] w, float[4,6] v, float[8,6] u>
        {{ h = MatMul(x, w)
          y = If (c) <
            then_branch = a () => (float[2,6] p) {{ {split[opset]} m = Mul(s, r) p = MatMul(m, v) }},
            else_branch = o () => (float[2,6] q) {{ q = MatMul(h, u) }}
          > }}""", opset)  # fmt: skip
    assert sum(units(exact(model)).values()) == 4


def test_a_weight_inside_a_branch_that_was_not_lifted_stays():
    model = net("""(float[2,6] x, bool c) => (float[2,3] y) <float[6,4] w, float[4,3] v>
        { y = If (c) <
            then_branch = a () => (float[2,3] p) <float[4,3] own = {1,2,3,4,5,6,7,8,9,1,2,3}> {
                h = MatMul(x, w) p = MatMul(h, own) },
            else_branch = o () => (float[2,3] q) { g = MatMul(x, w) q = MatMul(g, v) }
          > }""")
    assert units(exact(model)) == {}


def test_branches_of_the_slim_network_are_smaller():
    found = trace(net(BRANCHES))
    small = slim(found, np.arange(found.n_units) % 2 == 0)
    shapes = {name: tuple(value.shape) for name, value in small.graph.initializers.items()}
    assert shapes["t1"] == (3, 4, 3, 3)
    assert shapes["e1"] == (3, 4, 3, 3) or shapes["e1"] == (2, 4, 3, 3)
