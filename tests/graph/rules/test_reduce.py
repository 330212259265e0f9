"""Sums do not see zeros; means, extrema and positions do."""

import pytest

from tests.networks.graphs import exact, net, pinned, units

SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
OTHERS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp")


def over_channels(op: str, opset: int = 20):
    axes = "" if opset >= 18 else "<axes=[1]>"
    argument = ", axes" if opset >= 18 else ""
    return net(
        f"""(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] axes = {{1}}>
        {{ h = Conv(x, w)
           r = Relu(h)
           y = {op}{axes}(r{argument}) }}""",
        opset=opset,
    )


@pytest.mark.parametrize("op", SUMS)
@pytest.mark.parametrize("opset", [12, 20])
def test_a_sum_over_channels_that_become_zero(op, opset):
    assert units(exact(over_channels(op, opset))) == {"w:0": 6}


@pytest.mark.parametrize("op", SUMS)
def test_a_sum_over_channels_that_keep_a_value(op):
    found = exact(
        net(f"""(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] axes = {{1}}>
        {{ h = Conv(x, w)
           r = Sigmoid(h)
           y = {op}(r, axes) }}""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is summed over although it does not become zero"


@pytest.mark.parametrize("op", OTHERS)
def test_other_reductions_over_channels_pin(op):
    found = exact(over_channels(op))
    assert units(found) == {}
    assert pinned(found)["w:0"] == f"goes through {op}; --allow-inexact would remove it"


@pytest.mark.parametrize("op", OTHERS)
def test_other_reductions_over_channels_inexactly(op):
    assert units(exact(over_channels(op), allow_inexact=True)) == {"w:0": 6}


@pytest.mark.parametrize("op", [*SUMS, *OTHERS])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_over_other_axes_pass_the_channels(op, keepdims):
    k = ", 1" if keepdims else ""
    found = exact(
        net(
            f"""(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] axes = {{-1}}, float[2,6{k}] v, int64[2] flat>
        {{ h = Conv(x, w)
           a = Exp(h)
           m = {op}<keepdims={keepdims}>(a, axes)
           f = Reshape(m, flat)
           t = Reshape(v, flat)
           y = Gemm<transB=1>(f, t) }}""",
            flat=[-1, 6],
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_log_sum_loses_zero():
    text = """(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] axes = {2}, int64[1] one = {1}>
        { h = Conv(x, w)
          m = ReduceLogSumExp(h, axes)
          y = ReduceSum(m, one) }"""
    assert units(exact(net(text))) == {}
    assert units(exact(net(text.replace("LogSumExp", "Mean")))) == {"w:0": 6}


def test_the_logarithm_of_a_sum_of_zeros_is_not_finite():
    text = """(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6] v, int64[1] axes = {{2}}>
        {{ h = Conv(x, w)
           a = {}(h)
           m = ReduceLogSum<keepdims=0>(a, axes)
           y = Gemm<transB=1>(m, v) }}"""
    found = exact(net(text.format("Abs")), plans=1)
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is not finite at zero"
    assert units(exact(net(text.format("Exp")))) == {"w:0 v:1": 6}


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
def test_reducing_everything(op):
    found = exact(
        net(f"""(float[N,3,4] x) => (y) <float[6,3,1] w>
        {{ h = Conv(x, w)
           r = Relu(h)
           y = {op}<keepdims=0>(r) }}"""),
        allow_inexact=True,
    )
    assert units(found) == {"w:0": 6}


def test_reducing_nothing():
    found = exact(
        net(
            """(float[N,3,4] x) => (float[N,2,4] y) <float[6,3,1] w, float[2,6,1] v, int64[0] none>
        { h = Conv(x, w)
          r = ReduceMean<noop_with_empty_axes=1>(h, none)
          y = Conv(r, v) }""",
            none=[],
        )
    )
    assert units(found) == {"w:0 v:1": 6}


def test_a_mean_over_several_live_axes():
    """Channels and positions of a table are averaged together."""
    found = exact(
        net("""(float[N,3,1] x) => (y) <float[6,3,1] w, float[1,6,5] k, int64[2] axes = {1, 2}>
        { h = Conv(x, w)
          m = Mul(h, k)
          y = ReduceMean(m, axes) }"""),
        allow_inexact=True,
    )
    assert units(found) == {"w:0 k:1": 6}
    assert pinned(found)["k:2"] == "no layer's weights produce it"


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_a_position_on_the_axis_pins(op):
    text = """(float[N,3,4] x) => (y) <float[6,3,1] w>
        {{ h = Conv(x, w)
           y = {}<axis={}>(h) }}"""
    found = exact(net(text.format(op, 1)))
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is searched for a position"


def test_a_position_on_another_axis_passes():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[6,2] v>
        { h = Conv(x, w)
          p = ArgMax<axis=-1, keepdims=0>(h)
          f = Cast<to=1>(p)
          y = MatMul(f, v) }""")
    )
    assert units(found) == {"w:0 v:0": 6}


def test_cumsum():
    text = """(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6,1] v, int64 axis = {{{}}}>
        {{ h = Conv(x, w)
           c = CumSum(h, axis)
           y = Conv(c, v) }}"""
    assert units(exact(net(text.format(2)))) == {"w:0 v:1": 6}
    found = exact(net(text.format(1)))
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is summed up along"


def test_topk_and_others_without_a_rule_pin():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] k = {2}>
        { h = Conv(x, w)
          y, i = TopK<axis=1>(h, k) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "has no rule"
