"""The losses of `obs` are those of removing units and fitting what is left, by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from slimnet.graph.trace import trace
from slimnet.pipeline.config import PruneConfig, RunConfig
from slimnet.pipeline.prune import prune
from slimnet.recovery import importance
from slimnet.recovery.importance import removal_losses
from slimnet.runtime.backend import tap
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from tests.networks.graphs import net

MLP = "(float[1,6] x) => (y) <float[6,7] w, float[7,4] v> { a = MatMul(x, w) h = Relu(a) y = MatMul(h, v) }"
#: Two layers read the same units; one of them goes into a sum.
TWO = """(float[1,6] x) => (y, z) <float[6,7] w, float[7,4] v, float[7,3] u, float[6,4] s> {
    a = MatMul(x, w) h = Relu(a) b = MatMul(h, v) c = MatMul(x, s) y = Add(b, c) z = MatMul(h, u) }"""
CONV = """(float[1,2,5,5] x) => (y) <float[6,2,3,3] w, float[3,6,2,2] v> {
    a = Conv(x, w) h = Relu(a) y = Conv(h, v) }"""


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(importance, "_RIDGE", 1e-10)
    monkeypatch.setattr(importance, "DEPTH", 1.0)


def inputs(network, count: int = 200):
    return [random_inputs(network, network.inputs, seed) for seed in range(count)]


def seen(network, names, feeds):
    session = tap(network.model, names, DEFAULT)
    return [np.concatenate(parts).astype(float) for parts in zip(*(session.run(feed) for feed in feeds), strict=True)]


def by_force(features, readers, removed):
    """What is lost without some units, relative to the variance of what each reader goes into."""
    kept = np.delete(np.arange(features.shape[1]), removed)
    total = 0.0
    for weight, into in readers:
        wanted = features @ weight
        f = np.column_stack([features[:, kept], np.ones(len(features))])
        apart = wanted - f @ np.linalg.lstsq(f, wanted, rcond=None)[0]
        total += np.square(apart).sum() / (np.var(into, axis=0).sum() * len(into))
    return total


@pytest.mark.parametrize("text", [MLP, TWO])
def test_losses_are_those_of_fitting_without_the_units(text):
    network = net(text)
    found, feeds = trace(network), inputs(network)
    (losses,) = removal_losses(found, feeds).values()
    weights = network.params()
    if text is MLP:
        h, y = seen(network, ["h", "y"], feeds)
        readers = [(weights["v"].astype(float), y)]
    else:
        h, y, z = seen(network, ["h", "y", "z"], feeds)
        readers = [(weights["v"].astype(float), y), (weights["u"].astype(float), z)]
    order = np.argsort(losses)
    first = [by_force(h, readers, [unit]) for unit in range(7)]
    assert order[0] == np.argmin(first)
    # The sums of what goes, up to where later losses are only kept from falling below earlier ones.
    for count in (1, 2, 3):
        assert np.isclose(losses[order[:count]].sum(), by_force(h, readers, order[:count]), rtol=1e-3)


def test_units_of_several_features_go_as_a_whole():
    network = net(CONV)
    found, feeds = trace(network), inputs(network, 60)
    (losses,) = removal_losses(found, feeds).values()
    h, y = seen(network, ["h", "y"], feeds)
    windows = np.lib.stride_tricks.sliding_window_view(h, (2, 2), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    features = windows.reshape(-1, 24)
    weight = network.params()["v"].reshape(3, 24).T.astype(float)
    into = y.transpose(0, 2, 3, 1).reshape(-1, 3)
    forced = [by_force(features, [(weight, into)], np.arange(4 * unit, 4 * unit + 4)) for unit in range(6)]
    assert np.argmin(losses) == np.argmin(forced)
    assert np.isclose(losses.min(), min(forced), rtol=1e-3)


def test_a_channel_that_others_make_up_for_goes_first():
    w = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    w[:, 3] = 2 * w[:, 5]  # through a Relu as well, as the factor is positive
    network = net(MLP, w=w)
    (losses,) = removal_losses(trace(network), inputs(network)).values()
    assert np.argmin(losses) in (3, 5)
    assert losses.min() < 1e-6 * np.sort(losses)[1]


def test_groups_that_no_plain_layer_reads_are_left_dense():
    text = "(float[1,4,6] x) => (y) <float[8,4,1] w, float[8,1,3] d, float[8] f> "
    network = net(text + "{ a = Conv(x, w) b = Conv<group=8>(a, d) m = ReduceMean<axes=[2], keepdims=0>(b) "
                  "y = Mul(m, f) }", opset=17)  # fmt: skip
    assert removal_losses(trace(network), inputs(network, 20)) == {}


def test_widths_for_a_target_are_those_of_the_smaller_loss():
    """Of two groups of one size, the one that loses next to nothing is cut, whatever its norms are."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((6, 16)).astype(np.float32)
    one[:, 2:] = one[:, :1] * (1 + np.arange(14, dtype=np.float32))  # two directions are enough
    text = """(float[1,6] x) => (y, z) <float[6,16] w, float[16,6] v, float[6,16] k, float[16,6] u> {
        a = MatMul(x, w) h = Relu(a) y = MatMul(h, v) c = MatMul(x, k) d = Relu(c) z = MatMul(d, u) }"""
    network = net(text, w=one)
    config = PruneConfig(method="obs", macs=0.6, round_to=None)
    report = prune(network, config, RunConfig(calib=inputs(network, 60), bench_seconds=0))
    kept = {group.name: group.after for group in report.groups}
    assert kept["w"] < 6 < kept["k"]
    assert report.recovery.recovered.distance < 1e-3


def test_it_needs_inputs():
    from slimnet.common.errors import BadInput

    with pytest.raises(BadInput, match="`method` obs: needs inputs; give `calib`, or `data` with a training split"):
        prune(net(MLP), PruneConfig(method="obs"), RunConfig(bench_seconds=0))
