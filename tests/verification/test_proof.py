"""The proof that a comparison could have failed."""

import numpy as np
import pytest

from slimnet.common.errors import VerifyFailed
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.runtime.onnxruntime import OnnxSession
from slimnet.verification import proof
from slimnet.verification.changeable import weights_as_inputs
from slimnet.verification.proof import TRIES
from slimnet.verification.verify import TOLERANCE, verify
from tests.networks.backends import Simulated
from tests.networks.graphs import net

#: One output that is 1 and a little more: what each of eight units adds.
ADDING = """(float[1,1] x) => (y) <float[1,8] w, float[8,1] v, float one>
    { h = MatMul(x, w) s = MatMul(h, v) y = Add(s, one) }"""


def adding(each: float):
    found = trace(net(ADDING, w=1.0, v=each, one=1.0))
    removed = np.arange(found.n_units) % 2 == 0
    return found, removed, [{"x": np.ones((1, 1), np.float32)}]


@pytest.mark.parametrize(("tolerances", "noticed"), [(2, False), (8, False), (13, True), (50, True)])
def test_a_kept_unit_has_to_show_ten_times_the_tolerance(tolerances, noticed):
    found, removed, feeds = adding(tolerances * TOLERANCE)
    result = verify(found, removed, inputs=feeds, runs=0)
    assert result.proven == ["w"]
    assert result.inside == ([] if noticed else ["w"])  # the sum that `one` drowns shows it


def test_so_many_units_are_tried_before_weights_are_perturbed():
    found = trace(net(ADDING.replace("8", "64"), w=1.0, v=0.0, one=1.0))
    backend = Simulated()
    result = verify(found, np.arange(found.n_units) % 2 == 0, None, [{"x": np.ones((1, 1), np.float32)}], 0, backend)
    assert result.perturbed == ["w"]
    runs = [what for what, *_ in backend.log].count("run")
    assert 2 + (2 + TRIES) + (2 + 1) <= runs < 2 + (2 + TRIES) + (2 + TRIES)


def test_weights_become_inputs_and_the_model_stays():
    found, removed, (feed,) = adding(1.0)
    thin = slim(found, removed)
    model, weights = weights_as_inputs(thin, {"w", "v", "nothing"})
    assert {value.name for value in model.graph.inputs} == {"x", "w", "v"}
    assert set(thin.graph.initializers) == {"w", "v", "one"}
    session = Simulated().session(model)
    assert session.run({**feed, **weights})[0].item() == pytest.approx(5)
    assert session.run({**feed, **weights, "v": np.zeros((4, 1), np.float32)})[0].item() == pytest.approx(1)


#: Two convolutions over a large picture; how it ends decides whether a smaller one can be run.
LARGE = """(float[1,3,128,128] x) => (y) <float[8,3,3,3] conv1, float[8,8,3,3] conv2, END>
    { a = Conv<strides=[4,4]>(x, conv1) b = Relu(a) c = Conv<strides=[4,4]>(b, conv2) d = Relu(c)
      e = LAST y = MatMul(f, fc) }"""
POOLED = LARGE.replace("END", "float[8,5] fc").replace("LAST", "GlobalAveragePool(d) f = Flatten(e)")
FLAT = LARGE.replace("END", "int64[2] sizes = {1, 512}, float[512,5] fc").replace(
    "LAST", "Identity(d) f = Reshape(e, sizes)"
)


@pytest.fixture
def heights(monkeypatch):
    """The heights of the pictures that sessions run on, one after the other."""
    found, run = [], OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, feed: found.append(feed["x"].shape[2]) or run(self, feed))
    return found


@pytest.mark.parametrize(("costly", "least"), [(0, 64), (proof.COSTLY, 128)])
def test_a_network_that_takes_time_is_proven_on_smaller_pictures(heights, monkeypatch, costly, least):
    monkeypatch.setattr(proof, "COSTLY", costly)
    found = trace(net(POOLED))
    result = verify(found, np.arange(found.n_units) % 2 == 0)
    assert (result.proven, result.inside) == (["conv1", "conv2"], [])
    assert heights.count(128) >= 6, "masked and slim are compared on the pictures as they are"
    assert set(heights[-2:]) == {least}


def test_what_cannot_run_on_smaller_pictures_is_proven_on_those_of_the_network(heights, monkeypatch):
    monkeypatch.setattr(proof, "COSTLY", 0)
    found = trace(net(FLAT))
    result = verify(found, np.arange(found.n_units) % 2 == 0)
    assert (result.proven, result.inside) == (["conv1", "conv2"], [])
    assert set(heights[-2:]) == {128}


def test_what_smaller_pictures_do_not_show_is_looked_for_in_those_of_the_network(heights, monkeypatch):
    monkeypatch.setattr(proof, "COSTLY", 0)
    # The rows that count are those that a smaller picture does not have.
    text = POOLED.replace("e = GlobalAveragePool(d)", "s = Slice(d, starts, ends, axes) e = GlobalAveragePool(s)")
    text = text.replace(
        "<float[8,3,3,3] conv1",
        "<int64[1] starts = {4}, int64[1] ends = {8}, int64[1] axes = {2}, float[8,3,3,3] conv1",
    )
    found = trace(net(text))
    result = verify(found, np.arange(found.n_units) % 2 == 0)
    assert (result.proven, result.inside) == (["conv1", "conv2"], [])
    assert set(heights[-2:]) == {128}


@pytest.mark.parametrize("point", [0, 7])
def test_quantised_weights_are_set_to_their_zero_point(point):
    """Weights that are codes are changed as codes: a removed channel is the zero point, and so is a zeroed one."""
    text = f"""(float[4,6] x) => (y) <int8[6,8] w, int8[8,3] v, float step = {{0.1}}, int8 zero = {{{point}}}>
        {{ wf = DequantizeLinear(w, step, zero) a = MatMul(x, wf) b = Relu(a) vf = DequantizeLinear(v, step, zero)
           y = MatMul(b, vf) }}"""
    codes = np.random.default_rng(0).integers(-90, 90, (6, 8))
    found = trace(net(text, w=codes, v=codes.reshape(8, 6)[:, :3]))
    result = verify(found, np.arange(found.n_units) % 2 == 0)
    assert (result.proven, result.inside, result.perturbed, result.unproven) == (["w"], [], [], [])


def test_a_group_of_which_nothing_is_kept_is_proven():
    text = """(float[4,6] x) => (y) <float[6,8] w, float[8,3] v, float[6,8] s, float[8,3] t>
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = MatMul(x, s) e = MatMul(d, t) y = Add(c, e) }"""
    found = trace(net(text))
    removed = np.zeros(found.n_units, bool)
    removed[found.groups[0].units[:-1]] = True
    assert verify(found, removed).unproven == []


def test_weights_that_are_nothing_are_perturbed_in_both_networks(monkeypatch):
    """What surgery would get wrong with other weights is found."""
    found = trace(net(ADDING, w=1.0, v=0.0, one=1.0))
    removed = np.arange(found.n_units) % 2 == 0
    assert verify(found, removed).perturbed == ["w"]
    monkeypatch.setattr(proof, "slim", lambda trace, removed, weights: slim(trace, removed))
    with pytest.raises(VerifyFailed, match="inside the network"):
        verify(found, removed)
