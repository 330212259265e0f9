import numpy as np
import pytest

from slimnet.calibration import activations
from slimnet.calibration.activations import activation_statistics
from slimnet.calibration.taps import taps
from slimnet.common.errors import BadInput
from slimnet.data.samples import Samples, evenly
from slimnet.graph.net import Net
from slimnet.graph.trace import trace
from slimnet.methods import DataMethod, create
from tests.networks.backends import Simulated
from tests.networks.graphs import net, run

CHAIN = """(float[n,2,4,4] x) => (y) <float[5,2,3,3] w, float[5] b, float[20,3] v>
    { a = Conv(x, w, b) c = Relu(a) d = Flatten(c) y = MatMul(d, v) }"""


def samples(*shape: int, seed: int = 0) -> Samples:
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return Samples(x, np.zeros(len(x), np.int64))


def seen(dense: Net) -> list[list[str]]:
    """Names of the values that are looked at, for each group."""
    return [[part.value for part in parts] for parts in taps(trace(dense))]


def value(dense: Net, name: str, x: np.ndarray) -> np.ndarray:
    """An inner value, for an input of which the network takes all samples at once."""
    model = dense.model.clone()
    model.graph.outputs[:] = [v for node in model.graph for v in node.outputs if v.name == name]
    return run(model, {"x": x})[0]


# -- what is counted -------------------------------------------------------------------------------------------------


def test_active_fraction_and_means_are_those_of_the_activations():
    dense, data = net(CHAIN), samples(11, 2, 4, 4)
    want = value(dense, "c", data.x)
    for batch in (4, 64):
        (found,) = activation_statistics(trace(dense), data, above=0.3, batch=batch).values()
        np.testing.assert_allclose(found.active, (want > 0.3).mean(axis=(0, 2, 3)))
        np.testing.assert_allclose(found.pooled, want.mean(axis=(2, 3)), rtol=1e-5, atol=1e-7)


def test_the_example_of_the_specification():
    """Maps [[0, 1], [2, 0]] and [[0, 0], [3, 1e-5]] of one unit: 3 of 8 entries are larger than 1e-4."""
    text = """(float[2,1,2,2] x) => (y) <float[2,1,1,1] w, float[1,2,1,1] v>
        { a = Conv(x, w) b = Relu(a) y = Conv(b, v) }"""
    x = np.array([[[[0, 1], [2, 0]]], [[[0, 0], [3, 1e-5]]]], np.float32)
    (found,) = activation_statistics(trace(net(text, w=1.0)), Samples(x, np.zeros(2, np.int64))).values()
    assert found.active.tolist() == [0.375, 0.375]


def test_a_negative_activation_is_as_active_as_a_positive_one():
    """The threshold is on the absolute activation (Huang et al. 2021, Table 1): Tanh has two active sides."""
    dense, data = net(CHAIN.replace("Relu", "Tanh")), samples(11, 2, 4, 4)
    want = value(dense, "c", data.x)
    (found,) = activation_statistics(trace(dense), data, above=0.3).values()
    np.testing.assert_allclose(found.active, (np.abs(want) > 0.3).mean(axis=(0, 2, 3)))
    assert (found.active > 1.2 * (want > 0.3).mean(axis=(0, 2, 3))).all()


def test_a_dead_unit_has_the_lowest_scores():
    bias = np.zeros(5)
    bias[3] = -100
    traced = trace(net(CHAIN, b=bias))
    for name in ("apoz", "entropy"):
        method = create(name)
        assert isinstance(method, DataMethod)
        method.statistics = activation_statistics(traced, samples(20, 2, 4, 4), **method.measurement_options())
        scores = method.score(traced.params(), traced.groups)[0]
        assert scores.argmin() == 3
        assert scores[3] == 0


def test_all_values_of_a_residual_stream_count():
    text = """(float[n,2,4,4] x) => (y) <float[6,2,1,1] w, float[6,6,1,1] v, float[3,6,1,1] u>
        { a = Conv(x, w) b = Relu(a) c = Conv(b, v) d = Add(b, c) e = Relu(d) y = Conv(e, u) }"""
    dense, data = net(text), samples(7, 2, 4, 4)
    assert seen(dense) == [["b", "e"]]
    (found,) = activation_statistics(trace(dense), data).values()
    both = np.stack([value(dense, name, data.x) for name in "be"])
    np.testing.assert_allclose(found.active, (both > 1e-4).mean(axis=(0, 1, 3, 4)))
    np.testing.assert_allclose(found.pooled, both.mean(axis=(0, 3, 4)), rtol=1e-5)


def test_units_that_lie_side_by_side_are_told_apart():
    """Two layers' channels in one value: each group reads its part."""
    text = """(float[n,2,4,4] x) => (y) <float[3,2,1,1] w, float[4,2,1,1] v, float[3,7,1,1] u>
        { a = Conv(x, w) b = Conv(x, v) c = Concat<axis=1>(a, b) d = Relu(c) y = Conv(d, u) }"""
    dense, data = net(text), samples(5, 2, 4, 4)
    want = (value(dense, "d", data.x) > 1e-4).mean(axis=(0, 2, 3))
    first, second = activation_statistics(trace(dense), data).values()
    np.testing.assert_allclose(first.active, want[:3])
    np.testing.assert_allclose(second.active, want[3:])


def test_a_fixed_batch_size_is_kept_to():
    dense, data = net(CHAIN.replace("n,", "4,", 1)), samples(11, 2, 4, 4)
    (found,) = activation_statistics(trace(dense), data).values()
    assert found.pooled.shape == (8, 5)
    with pytest.raises(BadInput, match="fewer than one batch of 4"):
        activation_statistics(trace(dense), samples(3, 2, 4, 4))


def test_a_value_whose_first_axis_counts_no_samples_is_one_part_of_each():
    """Sequence first: [time, batch, units]."""
    text = """(float[1,6,3] x) => (y) <float[3,8] w, float[8,2] v>
        { t = Transpose<perm=[1,0,2]>(x) a = MatMul(t, w) b = Relu(a) c = MatMul(b, v)
          y = Transpose<perm=[1,0,2]>(c) }"""
    dense, data = net(text), samples(4, 6, 3)
    want = np.stack([value(dense, "b", data.x[k : k + 1]) for k in range(4)])[:, :, 0]
    (found,) = activation_statistics(trace(dense), data).values()
    np.testing.assert_allclose(found.pooled, want.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.active, (want > 1e-4).mean(axis=(0, 1)))


def test_half_precision():
    text = (
        """(float16[n,4] x) => (y) <float16[4,6] w, float16[6,2] v> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""
    )
    (found,) = activation_statistics(trace(net(text)), samples(9, 4)).values()
    assert ((found.active > 0) & (found.active < 1)).all()


def test_memory_is_bounded_by_smaller_batches(monkeypatch):
    backend = Simulated()
    monkeypatch.setattr(activations, "_ELEMENTS", 3 * 5 * 2 * 2)
    (found,) = activation_statistics(trace(net(CHAIN)), samples(7, 2, 4, 4), backend=backend).values()
    assert backend.batches == [3, 3, 1]
    assert len(found.pooled) == 7


def test_samples_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="samples of shape 3x4x4 do not fit net, which takes x=2x2x4x4"):
        activation_statistics(trace(net(CHAIN)), samples(5, 3, 4, 4))
    two = net("(float[n,3] x, float[n,3] z) => (y) <float[3,4] w, float[4,2] v>"
              "{ a = Add(x, z) b = MatMul(a, w) y = MatMul(b, v) }")  # fmt: skip
    with pytest.raises(BadInput, match="takes x=2x3 and z=2x3"):
        activation_statistics(trace(two), samples(5, 3))


def test_a_limited_number_of_samples_is_evenly_spaced():
    data = Samples(np.arange(10, dtype=np.float32), np.arange(10))
    assert evenly(data, 5).y.tolist() == [0, 2, 4, 6, 8]
    assert evenly(data, 100).y.tolist() == list(range(10))
    (found,) = activation_statistics(trace(net(CHAIN)), samples(9, 2, 4, 4), limit=3).values()
    assert len(found.pooled) == 3


# -- which values are looked at --------------------------------------------------------------------------------------

AROUND = """(float[n,2,4,4] x) => (y)
    <float[6,2,1,1] w, float[6] scale, float[6] shift, float[6] mean, float[6] var, float[3,6,1,1] u, float h = {{0.5}}>
    {{ a = Conv(x, w) {} y = Conv(z, u) }}"""


@pytest.mark.parametrize(
    ("nodes", "want"),
    [
        ("z = Relu(a)", "z"),
        ("z = Identity(a)", "a"),
        ("b = BatchNormalization(a, scale, shift, mean, var) c = Relu(b) z = MaxPool<kernel_shape=[2,2]>(c)", "c"),
        ("b = MaxPool<kernel_shape=[2,2]>(a) z = Tanh(b)", "z"),
        ("b = Relu(a) z = Tanh(b)", "b"),
        ("b = Sigmoid(a) z = Mul(a, b)", "z"),
        ("b = HardSigmoid(a) c = Mul(b, h) z = Mul(c, a)", "z"),
        ("b = Div(a, h) c = Erf(b) d = Add(c, h) e = Mul(a, d) z = Mul(e, h)", "e"),
        ("b = Relu(a) z = Mul(b, h)", "b"),
    ],
)
def test_the_first_nonlinearity_counts(nodes, want):
    assert seen(net(AROUND.format(nodes))) == [[want]]


def test_a_gate_of_another_layer_is_no_activation_of_this_one():
    """Squeeze and excite: the product with the gate is still made of what came out of the ReLU."""
    text = """(float[n,2,4,4] x) => (y) <float[6,2,1,1] w, float[3,6,1,1] s, float[6,3,1,1] e, float[3,6,1,1] u>
        { a = Conv(x, w) b = Relu(a) p = GlobalAveragePool(b) q = Conv(p, s) r = Relu(q) t = Conv(r, e)
          g = Sigmoid(t) z = Mul(b, g) y = Conv(z, u) }"""
    wide, narrow = sorted(seen(net(text)), key=len, reverse=True)
    assert wide == ["b", "g"]
    assert narrow == ["r"]


def test_depthwise_layers_make_units_too():
    text = """(float[n,2,4,4] x) => (y) <float[6,2,1,1] w, float[6,1,3,3] d, float[3,6,1,1] u>
        { a = Conv(x, w) b = Relu(a) c = Conv<group=6>(b, d) e = Relu(c) y = Conv(e, u) }"""
    assert seen(net(text)) == [["b", "e"]]


def test_a_recurrent_layer_is_seen_at_its_output():
    text = """(float[5,2,3] x) => (y) <float[1,16,3] w, float[1,16,4] r, float[1,4,5] fc>
        { h, h1, c1 = LSTM<hidden_size=4>(x, w, r) y = MatMul(h1, fc) }"""
    ((first, *_),) = seen(net(text))
    assert first in ("h", "h1")
