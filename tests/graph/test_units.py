"""Groups, axes, pins, costs and plans, as the other parts of slimnet see them."""

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Use
from slimnet.graph.plan import Plan
from slimnet.graph.trace import trace
from slimnet.graph.units import Pin, Trace
from tests.networks.graphs import net, roles

CNN = """(float[1,3,8,8] x) => (y)
    <float[4,3,3,3] a, float[4] ab, float[4,1,3,3] d, float[6,4,1,1] b, float[6] scale, float[6] beta, float[6] mean,
     float[6] var, float[6,6,1,1] c, float[6] cs, float[6] cb, float[6] cm, float[6] cvar, float[6,5] fc, float[5] bias>
    { h = Conv<pads=[1,1,1,1]>(x, a, ab)
      k = Conv<pads=[1,1,1,1], group=4>(h, d)
      l = Conv(k, b)
      n = BatchNormalization(l, scale, beta, mean, var)
      r = Relu(n)
      o = Conv(r, c)
      p = BatchNormalization(o, cs, cb, cm, cvar)
      q = Relu(p)
      g = GlobalAveragePool(q)
      f = Flatten(g)
      y = Gemm(f, fc, bias) }"""


@pytest.fixture
def found() -> Trace:
    return trace(net(CNN))


def test_groups_are_named_after_what_produces_them(found):
    assert [group.name for group in found.groups] == ["a", "b", "c"]
    assert [len(group) for group in found.groups] == [4, 6, 6]
    assert np.array_equal(np.concatenate([group.units for group in found.groups]), np.arange(found.n_units))


def test_members_know_where_they_are_used(found):
    uses = {m.tensor: m.use for group in found.groups for m in group.members}
    assert uses["ab"] == Use("Conv", "B")
    assert uses["d"] == Use("Conv", "W", 4)
    assert uses["scale"] == Use("BatchNormalization", "scale")
    assert uses["fc"] == Use("Gemm", "B")


def test_groups_of_the_same_structure_are_of_one_kind():
    text = """(float[1,3] x) => (y) <float[3,4] a, float[4,8] b, float[8,6] c, float[6,2] d, float[2,2] e>
        { h = MatMul(x, a)
          i = MatMul(h, b)
          j = MatMul(i, c)
          k = Relu(j)
          l = MatMul(k, d)
          y = MatMul(l, e) }"""
    kinds = [group.kind for group in trace(net(text)).groups]
    assert len(set(kinds)) == 1
    kinds = [group.kind for group in trace(net(CNN)).groups]
    assert len(set(kinds)) == 3


def test_axes_say_what_the_runtime_sees(found):
    seen = {(axis.name, axis.layout, axis.grouped) for axis in found.axes}
    assert ("a out", "conv", 1) in seen
    assert ("d out", "depthwise", 4) in seen
    assert ("b out", "conv", 1) in seen
    assert ("fc in", "gemm", 1) in seen
    assert all((axis.units >= 0).all() for axis in found.axes)


def test_an_axis_where_channels_meet_what_is_fixed():
    found = trace(
        net("""(float[1,3,4] x) => (y) <float[6,3,1] a, float[2,9,1] v>
        { p = Conv(x, a)
          c = Concat<axis=1>(x, p)
          y = Conv(c, v) }""")
    )
    (axis,) = [axis for axis in found.axes if axis.name == "v in"]
    assert axis.units.tolist() == [-1, -1, -1, 0, 1, 2, 3, 4, 5]


def test_an_axis_that_the_first_unit_alone_is_on_is_one():
    """Its other indices are fixed; whoever rounds widths has to know of it."""
    sliced = trace(
        net("""(float[1,3,4,4] x) => (y, z)
        <float[4,3,1,1] a, float[2,4,1,1] b, float[2,4,1,1] c, int64[1] from = {0}, int64[1] to = {1}>
        { h = Conv(x, a) s = Slice(h, from, to, to) m = Concat<axis=1>(x, s) y = Conv(m, b) z = Conv(h, c) }""")
    )
    found = {axis.name: axis.units.tolist() for axis in sliced.axes}
    assert found["b in"] == [-1, -1, -1, 0]
    assert found["a out"] == [0, 1, 2, 3]


def test_only_what_would_be_empty_gets_a_unit_back(found):
    """The first one; what is not emptied is removed as asked."""
    first, second, third = (group.units for group in found.groups)
    removed = np.zeros(found.n_units, bool)
    removed[[*first[:2], *second, *third[:1]]] = True
    expected = removed.copy()
    expected[second[0]] = False
    assert found.never_empty(removed).tolist() == expected.tolist()


def test_costs_follow_the_removal(found):
    dense = {"h": 4 * 27 * 64, "k": 4 * 9 * 64, "l": 24 * 64, "o": 36 * 64, "y": 30}
    assert {node.outputs[0].name: n for node, n in found.macs().items()} == dense
    removed = np.isin(np.arange(found.n_units), [*found.groups[0].units[:1], *found.groups[1].units[:2]])
    slim = {"h": 3 * 27 * 64, "k": 3 * 9 * 64, "l": 12 * 64, "o": 24 * 64, "y": 30}
    assert {node.outputs[0].name: n for node, n in found.macs(removed).items()} == slim
    # Running statistics are no parameters.
    assert found.parameters() == 108 + 4 + 36 + 24 + 12 + 36 + 12 + 30 + 5
    assert found.parameters(removed) == 81 + 3 + 27 + 12 + 8 + 24 + 12 + 30 + 5


def test_costs_of_attention_and_recurrence():
    found = trace(
        net(
            """(float[1,5,4] x) => (y) <float[4,6] q, float[4,6] k, float[4,6] v>
        { a = MatMul(x, q)
          b = MatMul(x, k)
          c = MatMul(x, v)
          y = Attention<q_num_heads=2, kv_num_heads=2>(a, b, c) }""",
            opset=23,
        )
    )
    assert {node.op_type: n for node, n in found.macs().items()} == {"MatMul": 120, "Attention": 2 * 5 * 5 * 6}
    found = trace(
        net("""(float[5,2,3] x) => (y) <float[1,16,3] w, float[1,16,4] r>
        { y = LSTM<hidden_size=4>(x, w, r) }""")
    )
    assert list(found.macs().values()) == [5 * 2 * 16 * (3 + 4)]


def test_values_by_name(found):
    params = found.params()
    assert params["b"].shape == (6, 4, 1, 1)
    assert set(params) >= {m.tensor for group in found.groups for m in group.members}
    assert len(params) == len(list(params))


def test_a_running_variance_is_left_untouched(found):
    assert roles(found, "var")[0].name == "UNTOUCHED"
    assert roles(found, "scale")[0].name == "ALONG"


def test_a_plan_gives_back_its_removal(found, tmp_path):
    removed = np.arange(found.n_units) % 3 == 0
    plan = found.plan(removed, {"method": "none"})
    assert plan.kept["a"][0].tolist() == [1, 2]
    assert "x" not in plan.kept
    plan.save(tmp_path / "plan.json")
    assert np.array_equal(found.removed(Plan.load(tmp_path / "plan.json")), removed)
    assert found.plan(np.zeros(found.n_units, bool)).kept == {}


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"a": {0: [0, 1]}}, "keeps a part of a unit"),
        ({"a": {1: [0, 1]}}, "removes pinned indices"),
        ({"a": {0: [0, 9]}}, "has only 4 indices on axis 0"),
        ({"a": {7: [0]}}, "cannot be cut on axis 7"),
        ({"nonsense": {0: [0]}}, "nonsense cannot be cut"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(found, kept, message):
    indices = {tensor: {axis: np.array(i) for axis, i in axes.items()} for tensor, axes in kept.items()}
    with pytest.raises(BadInput, match=message):
        found.removed(Plan(indices, found.model_hash))


def test_a_plan_of_another_network_is_refused(found):
    other = trace(net("(float[1,3] x) => (y) <float[3,4] w, float[4,2] v> { h = MatMul(x, w) y = MatMul(h, v) }"))
    with pytest.raises(BadInput, match="made for another network"):
        found.removed(other.plan(np.arange(4) < 2))


def test_pins_say_how_many_units_which_node_and_why(found):
    assert found.pins == [
        Pin(3, "a", 1, "Conv", "h", "joins an axis of input x, which keeps its size"),
        Pin(5, "fc", 1, "output", "y", "is an output of the network"),
    ]
