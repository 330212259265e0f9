"""What is computed of weights alone, such as the mean of a standardised weight, stays what it is in the dense network."""

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import VerifyFailed
from slimnet.graph import surgery
from slimnet.graph.shrink import shrinkable
from slimnet.graph.surgery import mask, slim
from slimnet.graph.trace import trace
from slimnet.verification.verify import verify
from tests.networks.graphs import assert_close, exact, feeds, net, pinned, run, units

#: The second convolution has the standardised weight, as the exporter writes NFNet's: per filter, over channels and kernel.
STANDARDISED = """(float[N,3,5,5] x) => (y) <float[6,3,1,1] u, float[8,6,3,3] w, float[8,1,1,1] gain, float[2,8,1,1] v,
    int64[3] flat = {1, 8, -1}, int64[4] back = {8, 6, 3, 3}, int64[1] last = {2}, float small = {0.0001}>
    { h = Conv(x, u)
      a = Relu(h)
      f = Reshape(w, flat)
      mean = ReduceMean(f, last)
      d = Sub(f, mean)
      q = Mul(d, d)
      var = ReduceMean(q, last)
      e = Add(var, small)
      s = Sqrt(e)
      n = Div(d, s)
      b = Reshape(n, back)
      g = Mul(b, gain)
      c = Conv(a, g)
      r = Relu(c)
      y = Conv(r, v) }"""
UNITS = {"u:0 w:1": 6, "w:0 mean:1 var:1 gain:0 v:1": 8}


def removal(found):
    removed = np.zeros(found.n_units, bool)
    for group in found.groups:
        removed[group.units[: len(group) // 2]] = True
    return removed


def test_a_standardised_weight_loses_filters_and_channels():
    found = exact(net(STANDARDISED))
    assert units(found) == UNITS
    assert not found.is_inexact


def test_what_is_left_of_a_standardised_weight_is_what_it_was():
    """The network whose weight is the standardised one, written down, is slimmed to the same outputs."""
    network = net(STANDARDISED)
    w, gain = (network.params()[name] for name in ("w", "gain"))
    flat = w.reshape(8, -1)
    normal = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-4)
    plain = net(
        """(float[N,3,5,5] x) => (y) <float[6,3,1,1] u, float[8,6,3,3] w, float[2,8,1,1] v>
        { h = Conv(x, u)
          a = Relu(h)
          c = Conv(a, w)
          r = Relu(c)
          y = Conv(r, v) }""",
        u=network.params()["u"],
        w=normal.reshape(w.shape) * gain,
        v=network.params()["v"],
    )
    outputs = [run(slim(found, removal(found)), feeds(found.net))[0] for found in (trace(network), trace(plain))]
    assert_close("y", *outputs)


def test_with_inexact_removal_the_statistics_are_those_of_what_is_kept():
    """So that a PyTorch module, which computes them anew, computes the same."""
    found = exact(net(STANDARDISED), allow_inexact=True)
    assert found.is_inexact
    assert {m.tensor for g in found.groups for m in g.members} == {"u", "w", "gain", "v"}


@pytest.mark.parametrize("keep", [slim, mask])
def test_statistics_follow_weights_that_change_after_the_trace(keep):
    network = net(STANDARDISED)
    found = trace(network)
    value = network.model.graph.initializers["w"]
    value.const_value = ir.Tensor(2 * value.const_value.numpy() + 1, name="w")
    fresh = trace(network)
    outputs = [run(keep(traced, removal(traced)), feeds(network))[0] for traced in (found, fresh)]
    assert np.array_equal(*outputs)


def test_a_weight_that_is_standardised_as_a_whole():
    found = exact(
        net("""(float[N,3] x) => (y) <float[3,6] w, float[6,2] v>
        { mean = ReduceMean<keepdims=0>(w)
          c = Sub(w, mean)
          h = MatMul(x, c)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:1 v:0": 6}


def test_a_weight_that_batch_norm_in_training_mode_standardises():
    """As the older exporter writes weight standardisation."""
    found = exact(
        net("""(float[N,3,4] x) => (y) <float[1,6,3] w, float[6] scale, float[6] bias, float[6] mean, float[6] var,
        float[2,6,1] v, int64[3] shape = {6, 3, 1}>
        { n, m, s = BatchNormalization<training_mode=1>(w, scale, bias, mean, var)
          k = Reshape(n, shape)
          h = Conv(x, k)
          y = Conv(h, v) }""")
    )
    assert units(found) == {"w:1 scale:0 bias:0 mean:0 var:0 n:1 v:1": 6}


def test_statistics_of_activations_are_pinned_as_ever():
    found = exact(
        net("""(float[N,3] x) => (y) <float[3,6] w, float[6,2] v, int64[1] last = {1}>
        { h = MatMul(x, w)
          m = ReduceMean(h, last)
          d = Sub(h, m)
          y = MatMul(d, v) }""")
    )
    assert pinned(found)["w:1"] == "goes through ReduceMean; --allow-inexact would remove it"


def test_zero_filters_of_a_standardised_weight_are_found():
    network = net(STANDARDISED)
    for name in ("w", "gain"):
        array = np.array(network.params()[name])
        array[2] = 0
        network.model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    found = shrinkable(network)
    assert found.removed.sum() == 1
    before, after = (run(model, feeds(network))[0] for model in (network.model, slim(found.trace, found.removed)))
    assert_close("y", before, after)


def test_verification_notices_statistics_of_what_is_kept(monkeypatch):
    traced = trace(net(STANDARDISED))
    assert verify(traced, removal(traced)).unproven == []
    monkeypatch.setattr(surgery, "_settle", lambda *_, **__: None)
    with pytest.raises(VerifyFailed):
        verify(traced, removal(traced), slim(traced, removal(traced)))
