"""The model finds the staircase that made up times were computed from."""

import numpy as np
import pytest

from slimnet.graph.trace import trace
from slimnet.planning.latency_model import fit
from slimnet.planning.widths import native_block
from tests.networks.graphs import net

BLOCK = native_block()
TEXT = """(float[1,3,8,8] x) => (y)
    <float[64,3,3,3] a, float[96,64,3,3] b, float[96,1,3,3] d, float[48,96,1,1] c, float[48,5] f>
    { p = Conv<pads=[1,1,1,1]>(x, a)
      q = Relu(p)
      r = Conv<pads=[1,1,1,1]>(q, b)
      s = Conv<group=96, pads=[1,1,1,1]>(r, d)
      t = Conv(s, c)
      u = Sigmoid(t)
      v = GlobalAveragePool(u)
      w = Flatten(v)
      y = MatMul(w, f) }"""
SIZES = np.array([64, 96, 48])


def blocks(n):
    return -(-n // BLOCK)


def times(kept):
    """Milliseconds by layer of a machine that is a staircase."""
    a, b, c = kept
    return {
        "a": 0.2 * blocks(a) + 0.05,
        "b": 0.3 * blocks(a) * blocks(b) + 0.1 * blocks(a) + 0.02 * blocks(b) + 0.01,
        "d": 0.07 * blocks(b),
        "c": 0.04 * blocks(b) * blocks(c) + 0.03 * blocks(b),
        "f": 0.01,
        "(Sigmoid)": 0.001 * c + 0.004,
        "(ReorderOutput)": 0.02,
    }


def samples(count, seed=0):
    rng = np.random.default_rng(seed)
    drawn = [BLOCK * rng.integers(1, SIZES // BLOCK + 1) for _ in range(count - 1)]
    return [(kept, times(kept)) for kept in (SIZES, *drawn)]


@pytest.fixture(scope="module")
def traced():
    found = trace(net(TEXT))
    assert [len(group) for group in found.groups] == SIZES.tolist()
    return found


def test_a_staircase_is_found_again(traced):
    model = fit(traced, samples(9))
    for a in (BLOCK, 2 * BLOCK, 64):
        for b in (BLOCK, 80, 96):
            kept = np.array([a, b, 32])
            assert model.cost.by_layer(kept) == pytest.approx(times(kept), rel=1e-3, abs=1e-4)


def test_a_width_inside_a_block_costs_the_whole_block(traced):
    cost = fit(traced, samples(9)).cost
    at = [cost.by_layer(np.array([n, 96, 48]))["b"] for n in (64 - BLOCK + 4, 64)]
    assert at[0] == pytest.approx(at[1])
    assert cost.by_layer(np.array([63, 96, 48]))["b"] > 1.5 * at[1], "and off the fast layout a lot more"


def test_the_error_is_that_of_widths_it_has_not_seen(traced):
    exact = fit(traced, samples(11), held_out=2).error
    assert exact is not None
    assert exact.total < 1e-3
    assert exact.layers < 1e-3
    wrong = samples(11)
    wrong[-2:] = [(kept, {name: 2 * ms for name, ms in seen.items()}) for kept, seen in wrong[-2:]]
    off = fit(traced, wrong, held_out=2).error
    assert off is not None
    assert off.total == pytest.approx(0.5, abs=0.01)
    assert off.layers == pytest.approx(0.5, abs=0.01)
    assert fit(traced, samples(5)).error is None


def test_noise_never_makes_a_layer_faster_when_it_grows(traced):
    rng = np.random.default_rng(1)
    noisy = [(kept, {name: ms * rng.lognormal(0, 0.3) for name, ms in seen.items()}) for kept, seen in samples(8)]
    cost = fit(traced, noisy).cost
    for g, size in enumerate(SIZES):
        assert (np.diff(cost.along(SIZES, g, np.arange(BLOCK, size + 1, BLOCK))) >= -1e-12).all()


def test_one_disturbed_variant_does_no_harm(traced):
    measured = samples(10)
    measured[4] = measured[4][0], {name: 3 * ms for name, ms in measured[4][1].items()}
    cost = fit(traced, measured).cost
    for kept in (SIZES, SIZES // 2):
        assert cost.total(kept) == pytest.approx(sum(times(kept).values()), rel=0.05)


def test_the_dense_times_are_kept(traced):
    assert fit(traced, samples(4)).dense == times(SIZES)
