"""Parameters and multiply-adds as functions of the widths are what the trace counts."""

import numpy as np
import pytest

from slimnet.graph.trace import trace
from slimnet.planning.cost import multiply_adds, parameters
from tests.networks.graphs import net

#: Two convolutions that meet in a Concat, a depthwise one, and two matrix products behind a Flatten.
TEXT = """(float[1,3,8,8] x) => (y)
    <float[16,3,3,3] a, float[24,3,3,3] b, float[40,1,3,3] d, float[20,40,1,1] e, float[720,30] f, float[30,5] g>
    { p = Conv<pads=[1,1,1,1]>(x, a)
      q = Conv<pads=[1,1,1,1]>(x, b)
      r = Concat<axis=1>(p, q)
      s = Relu(r)
      t = Conv<group=40>(s, d)
      u = Conv(t, e)
      v = Flatten(u)
      w = MatMul(v, f)
      z = Relu(w)
      y = MatMul(z, g) }"""


def kept_and_removed(traced, rng):
    removed = rng.random(traced.n_units) < 0.4
    return np.array([(~removed[group.units]).sum() for group in traced.groups]), removed


@pytest.mark.parametrize("seed", range(5))
def test_costs_are_exact(seed):
    traced = trace(net(TEXT))
    kept, removed = kept_and_removed(traced, np.random.default_rng(seed))
    assert parameters(traced).total(kept) == pytest.approx(traced.parameters(removed))
    assert multiply_adds(traced).total(kept) == pytest.approx(sum(traced.macs(removed).values()))


def test_layers_sum_to_the_total():
    traced = trace(net(TEXT))
    cost = parameters(traced)
    kept = np.array([len(group) // 2 for group in traced.groups])
    assert sum(cost.by_layer(kept).values()) == pytest.approx(cost.total(kept))
    assert {"a", "b", "d", "e", "f", "g"} <= set(cost.by_layer(kept))


def test_along_moves_one_group_only():
    traced = trace(net(TEXT))
    cost = multiply_adds(traced)
    kept = np.array([len(group) for group in traced.groups])
    for g, size in enumerate(kept):
        counts = np.arange(1, size + 1)
        one_by_one = [cost.total(np.where(np.arange(len(kept)) == g, n, kept)) for n in counts]
        assert cost.along(kept, g, counts) == pytest.approx(one_by_one)
