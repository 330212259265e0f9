"""The model finds the staircase that made up times were computed from."""

import numpy as np
import pytest

from slimnet.graph.trace import trace
from slimnet.planning.latency_model import fit
from tests.networks.graphs import net

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


class Staircase:
    """A machine whose time goes by whole blocks of so many channels."""

    def __init__(self, block):
        self.block = block

    def times(self, kept):
        """Milliseconds by layer."""
        in_a, in_b, in_c = (-(-n // self.block) for n in kept)
        return {
            "a": 0.2 * in_a + 0.05,
            "b": 0.3 * in_a * in_b + 0.1 * in_a + 0.02 * in_b + 0.01,
            "d": 0.07 * in_b,
            "c": 0.04 * in_b * in_c + 0.03 * in_b,
            "f": 0.01,
            "(Sigmoid)": 0.001 * kept[2] + 0.004,
            "(ReorderOutput)": 0.02,
        }

    def samples(self, count, seed=0):
        """Widths in whole blocks and their times, the dense network first."""
        rng = np.random.default_rng(seed)
        drawn = [self.block * rng.integers(1, SIZES // self.block + 1) for _ in range(count - 1)]
        return [(kept, self.times(kept)) for kept in (SIZES, *drawn)]


@pytest.fixture
def machine(block):
    return Staircase(block)


@pytest.fixture(scope="module")
def traced():
    found = trace(net(TEXT))
    assert [len(group) for group in found.groups] == SIZES.tolist()
    return found


def test_a_staircase_is_found_again(traced, machine):
    model = fit(traced, machine.samples(9))
    for a in (machine.block, 2 * machine.block, 64):
        for b in (machine.block, 80, 96):
            kept = np.array([a, b, 32])
            assert model.cost.by_layer(kept) == pytest.approx(machine.times(kept), rel=1e-3, abs=1e-4)


def test_a_width_inside_a_block_costs_the_whole_block(traced, machine):
    cost = fit(traced, machine.samples(9)).cost
    at = [cost.by_layer(np.array([n, 96, 48]))["b"] for n in (64 - machine.block + 4, 64)]
    assert at[0] == pytest.approx(at[1])
    assert cost.by_layer(np.array([63, 96, 48]))["b"] > 1.5 * at[1], "and off the fast layout a lot more"


def test_the_error_is_that_of_widths_it_has_not_seen(traced, machine):
    exact = fit(traced, machine.samples(11), held_out=2).error
    assert exact is not None
    assert exact.total < 1e-3
    assert exact.layers < 1e-3
    wrong = machine.samples(11)
    wrong[-2:] = [(kept, {name: 2 * ms for name, ms in seen.items()}) for kept, seen in wrong[-2:]]
    off = fit(traced, wrong, held_out=2).error
    assert off is not None
    assert off.total == pytest.approx(0.5, abs=0.01)
    assert off.layers == pytest.approx(0.5, abs=0.01)
    assert fit(traced, machine.samples(5)).error is None


def test_noise_never_makes_a_layer_faster_when_it_grows(traced, machine):
    rng = np.random.default_rng(1)
    noisy = [
        (kept, {name: ms * rng.lognormal(0, 0.3) for name, ms in seen.items()}) for kept, seen in machine.samples(8)
    ]
    cost = fit(traced, noisy).cost
    for g, size in enumerate(SIZES):
        assert (np.diff(cost.along(SIZES, g, np.arange(machine.block, size + 1, machine.block))) >= -1e-12).all()


def test_one_disturbed_variant_does_no_harm(traced, machine):
    measured = machine.samples(10)
    measured[4] = measured[4][0], {name: 3 * ms for name, ms in measured[4][1].items()}
    cost = fit(traced, measured).cost
    for kept in (SIZES, SIZES // 2):
        assert cost.total(kept) == pytest.approx(sum(machine.times(kept).values()), rel=0.05)


def test_the_dense_times_are_kept(traced, machine):
    assert fit(traced, machine.samples(4)).dense == machine.times(SIZES)
