"""Elementwise operators, alone and with broadcasting."""

import re

import pytest

from slimnet.graph.net import Net
from tests.networks.graphs import exact, net, pinned, units

UNARY_KEEPING_ZERO = (
    *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "HardSwish", "ThresholdedRelu", "Softsign", "Tanh"),
    *("Sin", "Sinh", "Atan", "Asinh", "Erf", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Identity"),
)
UNARY_LOSING_ZERO = ("Sigmoid", "HardSigmoid", "Exp", "Softplus", "Cos", "Cosh")


def summed(body: str, weights: str = "") -> Net:
    """From one product (a) or two (a and b) to c, which is summed over the live axis: exact only if c becomes zero."""
    return _between(body, weights + ", int64[1] one = {1}", "ReduceSum(c, one)")


def layered(body: str, weights: str = "") -> Net:
    """The same in front of another weight, whose zeros make everything before it exact."""
    return _between(body, weights + ", float[6,2] u", "MatMul(c, u)")


def _between(body: str, weights: str, last: str) -> Net:
    second = "b = MatMul(x, v)" if re.search(r"\bb\b", body) else ""
    v = ", float[3,6] v" if second else ""
    return net(f"""(float[N,3] x) => (y) <float[3,6] w{v}{weights}>
        {{ a = MatMul(x, w)
           {second}
           {body}
           y = {last} }}""")


@pytest.mark.parametrize("op", UNARY_KEEPING_ZERO)
def test_zero_stays_zero(op):
    assert units(exact(summed(f"c = {op}(a)"), plans=1)) == {"w:1": 6}


@pytest.mark.parametrize("op", UNARY_LOSING_ZERO)
def test_zero_is_lost(op):
    found = exact(summed(f"c = {op}(a)"), plans=1)
    assert units(found) == {}
    assert pinned(found)["w:1"] == "is summed over although it does not become zero"
    assert units(exact(layered(f"c = {op}(a)"), plans=1)) == {"w:1 u:0": 6}


@pytest.mark.parametrize("op", ["Asin", "Atanh", "Tan"])
def test_zero_stays_zero_on_a_bounded_domain(op):
    assert units(exact(summed(f"p = Tanh(a) c = {op}(p)"), plans=1)) == {"w:1": 6}


def test_the_inverse_cosines():
    assert units(exact(summed("p = Tanh(a) c = Acos(p)"), plans=1)) == {}
    assert units(exact(layered("p = Tanh(a) c = Acos(p)"), plans=1)) == {"w:1 u:0": 6}
    assert units(exact(layered("p = Cosh(a) c = Acosh(p)"), plans=1)) == {"w:1 u:0": 6}
    assert pinned(exact(layered("p = Relu(a) c = Acosh(p)"), plans=0))["w:1"] == "is not finite at zero"


def test_zero_once_lost_stays_lost():
    assert units(exact(summed("s = Sigmoid(a)\n c = Relu(s)"))) == {}


@pytest.mark.parametrize("op", ["Log", "Reciprocal"])
def test_what_is_not_finite_at_zero_is_pinned(op):
    found = exact(layered(f"p = Exp(a) c = {op}(p)"))
    assert units(found) == {"w:1 u:0": 6}
    found = exact(layered(f"p = Relu(a) c = {op}(p)"), plans=0)
    assert units(found) == {}
    assert pinned(found)["w:1"] == "is not finite at zero"


@pytest.mark.parametrize("op", ["Add", "Sub", "Max", "Min", "Mean", "Sum", "Mul"])
def test_equal_shapes_go_together(op):
    assert units(exact(layered(f"c = {op}(a, b)"))) == {"w:1 v:1 u:0": 6}


@pytest.mark.parametrize("op", ["Add", "Sub", "Max", "Mean"])
def test_a_sum_is_zero_where_both_sides_are(op):
    assert units(exact(summed(f"c = {op}(a, b)"))) == {"w:1 v:1": 6}
    assert units(exact(summed(f"s = Sigmoid(b) c = {op}(a, s)"))) == {}


def test_a_product_is_zero_where_one_side_is():
    assert units(exact(summed("s = Sigmoid(b) c = Mul(a, s)"))) == {"w:1 v:1": 6}
    assert units(exact(summed("s = Sigmoid(b) t = Sigmoid(a) c = Mul(t, s)"))) == {}


def test_a_vector_goes_along():
    assert units(exact(summed("c = Add(a, k)", ", float[6] k"))) == {"w:1 k:0": 6}
    assert units(exact(summed("c = Mul(a, k)", ", float[1,6] k"))) == {"w:1 k:1": 6}


def test_a_scalar_is_no_zero():
    assert units(exact(summed("c = Mul(a, k)", ", float k"))) == {"w:1": 6}
    assert units(exact(summed("c = Add(a, k)", ", float[1] k"))) == {}
    assert units(exact(layered("c = Add(a, k)", ", float k"))) == {"w:1 u:0": 6}


def test_a_full_matrix_goes_along_and_its_other_axis_stays():
    found = exact(layered("c = Add(a, k)", ", float[2,6] k"))
    assert units(found) == {"w:1 k:1 u:0": 6}
    assert pinned(found)["k:0"] == "joins an axis that is fixed: of an input, or of positions"


def test_what_is_repeated_by_broadcasting_keeps_its_channels():
    """Squeeze and excitation: the gate has the channels and is repeated over the image."""
    found = exact(
        net("""(float[N,3,4,4] x) => (y)
        <float[6,3,1,1] w, float[2,6,1,1] d, float[6,2,1,1] e, float[2,6,1,1] v>
        { h = Conv(x, w)
          p = GlobalAveragePool(h)
          q = Conv(p, d)
          r = Relu(q)
          s = Conv(r, e)
          g = HardSigmoid(s)
          m = Mul(g, h)
          y = Conv(m, v) }""")
    )
    assert units(found) == {"w:0 d:1 e:0 v:1": 6, "d:0 e:1": 2}


def test_an_outer_sum_keeps_both_axes_apart():
    found = exact(
        net("""(float[3] x) => (y) <float[3,4] w, float[3,5] v, float[5,2] u, float[2,4] t>
        { a = MatMul(x, w)
          b = MatMul(x, v)
          one = Constant<value_ints=[1]>()
          c = Unsqueeze(a, one)
          d = Mul(c, b)
          e = MatMul(d, u)
          y = MatMul(t, e) }""")
    )
    assert units(found) == {"w:1 t:1": 4, "v:1 u:0": 5}


def test_an_input_of_full_length_pins():
    found = exact(
        net("""(float[N,3] x, float[N,6] z) => (y) <float[3,6] w, float[6,2] u>
        { a = MatMul(x, w)
          c = Add(a, z)
          y = MatMul(c, u) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "joins an axis of input z, which keeps its size"


@pytest.mark.parametrize(("low", "high", "keeps"), [(0, 6, True), (-1, 1, True), (1, 6, False), (-6, -1, False)])
def test_clip_keeps_zero_if_it_may(low, high, keeps):
    found = exact(summed("c = Clip(a, low, high)", f", float low = {{{low}}}, float high = {{{high}}}"))
    assert units(found) == ({"w:1": 6} if keeps else {})


def test_clip_without_a_bound():
    assert units(exact(summed("c = Clip(a, , high)", ", float high = {3}"))) == {"w:1": 6}
    assert units(exact(summed("c = Clip(a)"))) == {"w:1": 6}
    assert units(exact(summed("c = Clip(a, low)", ", float low = {1}"))) == {}


def test_clip_of_opset_6():
    text = "(float[N,3] x) => (y) <float[3,6] w> {{ a = MatMul(x, w) c = Clip<min={}, max=6.0>(a) y = ReduceSum<axes=[1]>(c) }}"
    assert units(exact(net(text.format("0.0"), opset=9))) == {"w:1": 6}
    assert units(exact(net(text.format("0.5"), opset=9))) == {}


def test_a_divisor_is_not_masked():
    """Division by a weight: the mask leaves it alone, slim cuts it."""
    assert units(exact(layered("c = Div(a, scale)", ", float[6] scale"))) == {"w:1 scale:0 u:0": 6}


def test_a_divisor_that_would_become_zero_pins():
    found = exact(layered("p = Abs(b) c = Div(a, p)"), plans=1)
    assert units(found) == {}
    assert pinned(found)["w:1"] == "is divided by, and would be zero"
    assert units(exact(layered("p = Exp(b) c = Div(a, p)"))) == {"w:1 v:1 u:0": 6}


def test_a_divisor_behind_another_node_is_not_masked_either():
    """BatchNorm written out: the variance goes through Add and Sqrt before it divides."""
    found = exact(layered("p = Add(var, eps) q = Sqrt(p) c = Div(a, q)", ", float[6] var, float eps = {0.001}"))
    assert units(found) == {"w:1 var:0 u:0": 6}


def test_a_divisor_without_an_epsilon():
    found = exact(layered("q = Sqrt(var) c = Div(a, q)", ", float[6] var"))
    assert units(found) == {"w:1 var:0 u:0": 6}


def test_weight_normalisation():
    """A weight divided by its own norm is left alone by masks; its gain is masked instead."""
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] v, float[6,1,1] g, float[2,6,1] u, int64[2] axes = {1, 2}>
        { n = ReduceL2(v, axes)
          q = Div(v, n)
          w = Mul(q, g)
          h = Conv(x, w)
          y = Conv(h, u) }""")
    )
    assert units(found) == {"v:0 g:0 u:1": 6}


def test_a_filter_of_norm_one_never_becomes_zero():
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[6,3,1] v, int64[2] axes = {1, 2}, int64[1] one = {1}>
        { n = ReduceL2(v, axes)
          w = Div(v, n)
          h = Conv(x, w)
          y = ReduceSum(h, one) }""")
    )
    assert units(found) == {}
    assert pinned(found)["v:0"] == "is summed over although it does not become zero"


def test_pow():
    assert units(exact(summed("c = Pow(a, two)", ", float two = {2}"))) == {"w:1": 6}
    assert units(exact(summed("p = Exp(a) c = Pow(p, k)", ", float k = {-0.5}"))) == {}
    assert units(exact(layered("p = Exp(a) c = Pow(p, k)", ", float k = {-0.5}"))) == {"w:1 u:0": 6}
    assert units(exact(layered("p = Abs(a) c = Pow(p, k)", ", float k = {-0.5}"), plans=0)) == {}
    assert units(exact(summed("c = Pow(a, zero)", ", float zero = {0}"))) == {}


def test_pow_with_an_exponent_per_channel():
    found = exact(layered("p = Exp(a) c = Pow(p, scale)", ", float[6] scale"))
    assert units(found) == {"w:1 scale:0 u:0": 6}
    found = exact(summed("p = Exp(a) c = Pow(p, scale)", ", float[6] scale"))
    assert units(found) == {}


def test_prelu_with_a_slope_per_channel():
    assert units(exact(summed("c = PRelu(a, k)", ", float[6] k"))) == {"w:1 k:0": 6}
    assert units(exact(summed("c = PRelu(a, k)", ", float[1] k"))) == {"w:1": 6}


def test_where_is_zero_where_both_branches_are():
    assert units(exact(summed("z = Less(a, b) c = Where(z, a, b)"))) == {"w:1 v:1": 6}
    assert units(exact(summed("s = Sigmoid(b) z = Less(a, b) c = Where(z, a, s)"))) == {}
    assert units(exact(layered("s = Sigmoid(b) z = Less(a, b) c = Where(z, a, s)"))) == {"w:1 v:1 u:0": 6}


def test_where_with_a_scalar():
    assert units(exact(summed("z = Less(a, b) c = Where(z, a, k)", ", float k = {1}"))) == {}
    assert units(exact(layered("z = Less(a, b) c = Where(z, a, k)", ", float k = {1}"))) == {"w:1 v:1 u:0": 6}


def test_logic_keeps_no_zero():
    assert units(exact(summed("z = LessOrEqual(a, b) c = Cast<to=1>(z)"))) == {}
    assert units(exact(layered("z = LessOrEqual(a, b) n = Not(z) c = Cast<to=1>(n)"))) == {"w:1 v:1 u:0": 6}


def test_logic_between_channels():
    found = exact(layered("p = Less(a, b) q = Greater(a, x0) z = Xor(p, q) c = Cast<to=1>(z)", ", float x0 = {0}"))
    assert units(found) == {"w:1 v:1 u:0": 6}


def test_dropout_and_its_mask():
    assert units(exact(summed("c = Dropout(a)"))) == {"w:1": 6}
    assert units(exact(summed("d, m = Dropout(a) c = Cast<to=1>(m)"))) == {}


def test_isnan_and_isinf():
    assert units(exact(summed("z = IsNaN(a) c = Cast<to=1>(z)"))) == {"w:1": 6}
    assert units(exact(summed("z = IsInf(a) c = Cast<to=1>(z)"))) == {"w:1": 6}


def test_castlike_takes_only_the_type():
    assert units(exact(summed("c = CastLike(a, x)"))) == {"w:1": 6}


def test_an_op_without_a_rule_pins():
    found = exact(layered("c = EyeLike(a)"))
    assert units(found) == {}
    assert pinned(found)["w:1"] == "has no rule"
