"""Recovery: what can be made up for is made up for, what does not help is undone, and slim equals mask as always."""

from __future__ import annotations

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.recovery.recover import recover, split
from slimnet.recovery.weights import load_weights, save_weights, with_weights
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.verify import verify
from tests.networks.graphs import net

#: The first layer's later half are sums of its first half, and the second layer reads them: by its kind.
READERS = {
    "conv": ("1,4,7,6", "8,4,1,1", "float[5,8,3,3] v", "a = Conv(x, w) y = Conv<pads=[1,1,0,0], strides=[2,1]>(a, v)"),
    "conv, bias": ("1,4,7,6", "8,4,3,3", "float[5,8,1,1] v, float[5] b", "a = Conv(x, w) y = Conv(a, v, b)"),
    "1-D": ("1,4,9", "8,4,1", "float[5,8,3] v", "a = Conv(x, w) y = Conv<dilations=[2]>(a, v)"),
    "3-D": ("1,4,4,5,3", "8,4,1,1,1", "float[5,8,2,2,2] v", "a = Conv(x, w) y = Conv(a, v)"),
    "transposed": ("1,4,5,4", "8,4,1,1", "float[8,3,3,3] v", "a = Conv(x, w) y = ConvTranspose<strides=[2,2]>(a, v)"),
    "norm": (
        "1,4,7,6",
        "8,4,1,1",
        "float[5,8,3,3] v, float[5] scale, float[5] b, float[5] m, float[5] var",
        "a = Conv(x, w) c = Conv(a, v) y = BatchNormalization(c, scale, b, m, var)",
    ),
    "sum": ("1,4,7,6", "8,4,1,1", "float[5,8,1,1] v, float[5,4,1,1] s",
            "a = Conv(x, w) c = Conv(a, v) d = Conv(x, s) y = Add(d, c)"),
}  # fmt: skip
PRODUCTS = {
    "matmul": ("3,4", "float[8,5] v", "a = MatMul(x, w) y = MatMul(a, v)"),
    "matmul, bias": ("2,3,4", "float[8,5] v, float[5] b", "a = MatMul(x, w) c = MatMul(a, v) y = Add(b, c)"),
    "gemm": ("3,4", "float[8,5] v, float[5] b", "a = MatMul(x, w) y = Gemm(a, v, b)"),
    "gemm turned": ("3,4", "float[5,8] v", "a = MatMul(x, w) y = Gemm<transB=1>(a, v)"),
    "turned before": ("3,4", "float[5,8] v", "a = MatMul(x, w) t = Transpose<perm=[1,0]>(v) y = MatMul(a, t)"),
}


def redundant(case: str):
    """The network, with the later half of the first layer's channels to remove."""
    mix = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    if case in READERS:
        shape, w, weights, body = READERS[case]
        sizes = tuple(map(int, w.split(",")))
        half = np.random.default_rng(2).standard_normal((4, *sizes[1:])).astype(np.float32)
        first = np.concatenate([half, np.tensordot(mix, half, 1)])
    else:
        shape, weights, body = PRODUCTS[case]
        w = "4,8"
        half = np.random.default_rng(2).standard_normal((4, 4)).astype(np.float32)
        first = np.concatenate([half, half @ mix], axis=1)
    network = net(f"(float[{shape}] x) => (y) <float[{w}] w, {weights}> {{ {body} }}", w=first)
    found = trace(network)
    (group,) = [group for group in found.groups if any(member.tensor == "w" for member in group.members)]
    removed = np.zeros(found.n_units, bool)
    removed[group.units[4:]] = True
    return found, removed


def inputs(network, count: int = 12):
    return [random_inputs(network, network.inputs, seed) for seed in range(count)]


def outputs(model, feeds):
    session = DEFAULT.session(model)
    return np.concatenate([session.run(feed)[0].ravel() for feed in feeds])


@pytest.mark.parametrize("case", [*READERS, *PRODUCTS])
def test_channels_that_are_sums_of_others_are_made_up_for(case):
    found, removed = redundant(case)
    result = recover(found, removed, inputs(found.net, 20))
    fresh = [random_inputs(found.net, found.net.inputs, seed) for seed in range(100, 104)]
    dense = outputs(found.net.model, fresh)
    scale = np.abs(dense).max()
    assert np.abs(outputs(slim(found, removed), fresh) - dense).max() > 0.05 * scale
    assert np.abs(outputs(slim(found, removed, weights=result.weights), fresh) - dense).max() < 1e-4 * scale
    assert result.after.distance < 1e-4 < result.before.distance


def test_the_order_of_units_changes_nothing():
    found, removed = redundant("conv")
    order = np.random.default_rng(0).permutation(8)
    weights = found.net.params()
    other = net(READERS_TEXT["conv"], w=weights["w"][order], v=weights["v"][:, order])
    again = trace(other)
    feeds = inputs(found.net)
    one = recover(found, removed, feeds)
    two = recover(again, removed[order], feeds)
    assert np.allclose(one.after.distance, two.after.distance, atol=1e-6)
    both = [outputs(slim(t, r, weights=w.weights), feeds) for t, r, w in
            ((found, removed, one), (again, removed[order], two))]  # fmt: skip
    assert np.allclose(*both, atol=1e-4 * np.abs(both[0]).max())


READERS_TEXT = {case: f"(float[{shape}] x) => (y) <float[{w}] w, {weights}> {{ {body} }}"
                for case, (shape, w, weights, body) in READERS.items()}  # fmt: skip

RESIDUAL = """(float[1,4,6,6] x) => (y) <float[8,4,3,3] w, float[8] b, float[6,8,3,3] v, float[6,4,1,1] s,
    float[7,6,1,1] u, float[7,5] f>
    { a = Conv<pads=[1,1,1,1]>(x, w, b) c = Relu(a) d = Conv<pads=[1,1,1,1]>(c, v) e = Conv(x, s) g = Add(d, e)
      h = Relu(g) k = Conv(h, u) m = GlobalAveragePool(k) n = Flatten(m) y = MatMul(n, f) }"""


@pytest.fixture
def residual():
    found = trace(net(RESIDUAL))
    return found, np.arange(found.n_units) % 3 == 0


def test_a_network_comes_nearer_and_slim_still_equals_mask(residual):
    found, removed = residual
    result = recover(found, removed, inputs(found.net, 60))
    assert result.after.distance < 0.6 * result.before.distance
    assert (result.inputs, result.held) == (54, 6)
    fitted = trace(type(found.net)(with_weights(found.net.model, result.weights), "net", found.net.inputs))
    assert verify(fitted, removed).exact


def test_weights_that_are_removed_stay_as_they_are(residual):
    found, removed = residual
    result = recover(found, removed, inputs(found.net, 30))
    for name, array in result.weights.items():
        for axis in range(array.ndim):
            if found.units_on(name, axis) is not None:
                gone = np.flatnonzero(~found.kept(name, axis, removed))
                assert np.array_equal(array.take(gone, axis), found.net.params()[name].take(gone, axis))


def test_more_sweeps_are_never_worse(residual):
    found, removed = residual
    feeds = inputs(found.net, 30)
    distances = [recover(found, removed, feeds, sweeps=sweeps).after.distance for sweeps in (1, 2, 3)]
    assert distances == sorted(distances, reverse=True)


def test_what_does_not_help_is_undone(residual, monkeypatch):
    """A fit that looks well by layers but is not by the outputs."""
    found, removed = residual
    from slimnet.recovery import recover as module

    real = module.fit
    monkeypatch.setattr(module, "fit", lambda *a, **k: harmful(real(*a, **k)))
    result = recover(found, removed, inputs(found.net, 30))
    assert result.weights == {}
    assert result.after == result.before


def harmful(found):
    return type(found)(-3 * found.weight, found.bias + 9, 1.0, found.before, found.after)


def test_only_the_named_weights_change():
    found, removed = redundant("conv, bias")
    assert list(recover(found, removed, inputs(found.net, 30), only={"v"}).weights) == ["v"]
    assert list(recover(found, removed, inputs(found.net, 30)).weights) == ["v", "b"]


def test_weights_of_two_readers_stay(residual):
    text = RESIDUAL.replace("k = Conv(h, u)", "j = Conv(c, v) k = Conv(h, u)").replace("y) <", "y, float[1,6,4,4] j) <")
    found = trace(net(text))
    result = recover(found, np.arange(found.n_units) % 3 == 0, inputs(found.net, 30))
    assert "v" not in result.weights


def test_few_and_constant_inputs_give_numbers(residual):
    found, removed = residual
    for feeds in (inputs(found.net, 2), inputs(found.net, 3), [{"x": np.ones((1, 4, 6, 6), np.float32)}] * 5):
        result = recover(found, removed, feeds)
        assert all(np.isfinite(array).all() for array in result.weights.values())
        assert result.after.distance <= result.before.distance


def test_a_network_for_one_sample_is_run_on_batches_and_gives_the_same(residual, monkeypatch):
    found, removed = residual
    feeds = inputs(found.net, 20)
    from slimnet.recovery import recover as module

    batched = recover(found, removed, feeds)
    monkeypatch.setattr(module, "takes_batches", lambda *_: False)
    single = recover(found, removed, feeds)
    assert np.allclose(batched.after.distance, single.after.distance, rtol=1e-3)


def test_one_input_is_refused_as_nothing_could_judge_the_result(residual):
    found, removed = residual
    with pytest.raises(BadInput, match="recovery needs two inputs or more"):
        recover(found, removed, inputs(found.net, 1))


def test_a_network_whose_cut_is_for_one_sample_alone_is_run_on_single_ones():
    """The dense network computes the shape of its first state for any batch; in the slim one it is a constant."""
    text = """(float[1,5,4] x) => (y) <float[4,6] k, float[1,32,6] w, float[1,32,8] r, float[8,3] v, int64[1] one = {1},
        int64[1] width = {8}, int64 second = {0}, float zero = {0}, int64[1] flat = {1}> {
        a = MatMul(x, k) b = Relu(a) t = Transpose<perm=[1,0,2]>(b) sizes = Shape(x)
        n = Gather(sizes, second) m = Unsqueeze(n, axis) shape = Concat<axis=0>(one, m, width)
        h = Expand(zero, shape) q, last, cell = LSTM<hidden_size=8>(t, w, r, , , h, h) p = Squeeze(q, flat)
        z = Transpose<perm=[1,0,2]>(p) y = MatMul(z, v) }"""
    found = trace(net(text.replace("float zero", "int64[1] axis = {0}, float zero")))
    removed = np.zeros(found.n_units, bool)
    for group in found.groups:
        removed[group.units[::2]] = True
    assert removed.sum() > 3
    result = recover(found, removed, inputs(found.net, 24))
    assert result.after.distance < result.before.distance


def test_fitted_weights_come_back_from_their_file(residual, tmp_path):
    found, removed = residual
    result = recover(found, removed, inputs(found.net, 30))
    save_weights(tmp_path / "w.safetensors", found, removed, result.weights)
    loaded = load_weights(tmp_path / "w.safetensors", found, removed)
    assert loaded.keys() == result.weights.keys()
    assert all(np.array_equal(loaded[name], result.weights[name]) for name in loaded)


def test_every_tenth_input_is_held_back_and_two_at_least():
    feeds = [{"x": np.array([k])} for k in range(20)]
    fitted, held = split(feeds)
    assert [int(f["x"][0]) for f in held] == [9, 19]
    assert len(fitted) == 18
    assert len(split(feeds[:5])[1]) == 2


def test_inputs_of_different_lengths_are_batched_with_their_like():
    found = trace(net("(float[1,N,4] x) => (y) <float[4,8] w, float[8,3] v> "
                      "{ a = MatMul(x, w) h = Relu(a) y = MatMul(h, v) }", n=3))  # fmt: skip
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((1, 2 + k % 5, 4)).astype(np.float32)} for k in range(40)]
    for given in (feeds, sorted(feeds, key=lambda feed: feed["x"].shape)):
        result = recover(found, np.arange(found.n_units) % 2 == 0, given)
        assert result.after.distance < result.before.distance
        assert (result.inputs, result.held) == (36, 4)
