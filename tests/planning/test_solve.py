"""The solver keeps what can be kept: against all plans there are on small problems, and by its promises on others."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimnet.common.errors import BadInput
from slimnet.graph.trace import trace
from slimnet.planning.budget import exceptions, take
from slimnet.planning.cost import Axes, Cost, multiply_adds, parameters
from slimnet.planning.solve import Choices, _knapsack, aligned, choices, solve
from tests.networks.graphs import net
from tests.networks.planned import padded_resnet

#: Units between the widths of made up groups.
STEP = 16
CHAIN = """(float[1,3,8,8] x) => (y) <float[48,3,3,3] a, float[64,48,3,3] b, float[80,64,3,3] c, float[80,5] f>
    { p = Conv(x, a) q = Conv(p, b) r = Conv(q, c) s = GlobalAveragePool(r) t = Flatten(s) y = MatMul(t, f) }"""


def chain_cost(groups, rng):
    """Random layers over pairs of groups, counted in blocks."""
    pairs = np.array([(g, h) for g in range(groups) for h in range(g, groups) if rng.random() < 0.7 or h == g])
    axes = Axes(np.eye(groups), np.zeros(groups), np.ones(groups, bool))
    owner = np.arange(len(pairs))
    return Cost(axes, pairs, rng.random(len(pairs)) + 0.05, owner, tuple(map(str, owner)))


def random_choices(groups, rng):
    counts = tuple(STEP * np.arange(1, rng.integers(2, 6)) for _ in range(groups))
    value = tuple(np.cumsum(np.sort(rng.random(len(n)))[::-1]) for n in counts)
    return Choices(counts, tuple(v / v[-1] for v in value), chain_cost(groups, rng))


def best_of_all(cost, budget, options):
    plans = [np.array(plan) for plan in itertools.product(*options.counts)]
    return max((options.objective(plan) for plan in plans if cost.total(plan) <= budget), default=None)


@pytest.mark.parametrize("seed", range(40))
def test_close_to_the_best_of_all_plans(seed):
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(2, 6))
    cost, options = chain_cost(groups, rng), random_choices(groups, rng)
    low, high = cost.total(options.fewest), cost.total(options.most)
    budget = low + (high - low) * rng.uniform(0.05, 0.95)
    found = solve(cost, budget, options)
    assert cost.total(found) <= budget
    assert options.objective(found) >= best_of_all(cost, budget, options) + np.log(0.95)


def test_mostly_it_is_the_best():
    ratios = []  # of the products of what the groups keep
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        cost, options = chain_cost(4, rng), random_choices(4, rng)
        budget = cost.total(options.fewest) + 0.4 * (cost.total(options.most) - cost.total(options.fewest))
        ratios.append(np.exp(options.objective(solve(cost, budget, options)) - best_of_all(cost, budget, options)))
    assert np.mean(np.array(ratios) > 1 - 1e-9) > 0.7
    assert np.mean(ratios) > 0.995


@pytest.mark.parametrize("seed", range(20))
def test_one_choice_of_each_group_is_the_best_that_fits(seed):
    """Against all combinations; prices are whole numbers, so that cutting the budget into parts loses nothing."""
    rng = np.random.default_rng(seed)
    value = [rng.random(3) for _ in range(4)]
    price = [rng.choice(np.arange(-5.0, 6), 3, replace=False) for _ in range(4)]
    cheapest = sum(p.min() for p in price)
    for room in (cheapest, cheapest + 4, cheapest + 8, cheapest + 32):
        every = list(itertools.product(range(3), repeat=4))
        fitting = [at for at in every if sum(p[k] for p, k in zip(price, at, strict=True)) <= room]
        best = max(fitting, key=lambda at: sum(v[k] for v, k in zip(value, at, strict=True)))
        assert _knapsack(value, price, room) == list(best)
    assert _knapsack(value, price, cheapest - 0.5) is None


def test_all_stays_where_there_is_room_and_the_fewest_where_there_is_none():
    rng = np.random.default_rng(0)
    cost, options = chain_cost(3, rng), random_choices(3, rng)
    assert (solve(cost, cost.total(options.most), options) == options.most).all()
    assert (solve(cost, 0.0, options) == options.fewest).all()


def test_the_dearer_of_two_equally_important_groups_is_cut(block):
    axes = Axes(np.eye(2), np.zeros(2), np.ones(2, bool))
    cost = Cost(axes, np.array([[0], [1]]), np.array([10.0, 1.0]), np.array([0, 1]), ("dear", "cheap"))
    counts = block * np.arange(1, 5)
    same = Cost(axes, cost.rows, np.ones(2), cost.owner, cost.names)
    options = Choices((counts, counts), (counts / counts[-1], counts / counts[-1]), same)
    dear, cheap = solve(cost, 25.0, options)
    assert cheap == 4 * block
    assert dear == 2 * block


def test_of_two_equally_dear_and_important_groups_the_one_that_computes_more_stays(block):
    axes = Axes(np.eye(2), np.zeros(2), np.ones(2, bool))
    cost = Cost(axes, np.array([[0], [1]]), np.ones(2), np.array([0, 1]), ("busy", "idle"))
    counts = block * np.arange(1, 5)
    work = Cost(axes, cost.rows, np.array([10.0, 1.0]), cost.owner, cost.names)
    options = Choices((counts, counts), (counts / counts[-1], counts / counts[-1]), work)
    assert solve(cost, 6.0, options).tolist() == [4 * block, 2 * block]


def test_two_equal_layers_are_halved_rather_than_one_emptied(block):
    axes = Axes(np.eye(2), np.zeros(2), np.ones(2, bool))
    cost = Cost(axes, np.array([[0], [1]]), np.ones(2), np.array([0, 1]), ("one", "other"))
    counts = block * np.arange(1, 9)
    # What goes first is worth a little less in one of them: a sum would take all of it there.
    value = np.cumsum(np.linspace(1.2, 0.8, 8)) / 8
    options = Choices((counts, counts), (value, counts / counts[-1]), cost)
    assert np.abs(solve(cost, 8.0, options) - 4 * block).max() <= block


@pytest.mark.parametrize("seed", range(10))
def test_the_more_multiply_adds_count_the_more_of_them_stay(seed):
    rng = np.random.default_rng(seed)
    cost, options = chain_cost(4, rng), random_choices(4, rng)
    budget = cost.total(options.most) / 2
    left = [options.work.total(solve(cost, budget, replace(options, macs_weight=w))) for w in (0.0, 1.0, 1000.0)]
    kept = [options.kept(solve(cost, budget, replace(options, macs_weight=w))) for w in (0.0, 1000.0)]
    assert left[0] <= left[2] * (1 + 1e-9)
    assert left[1] <= left[2] * (1 + 1e-9)
    assert left[0] < left[2] or kept[0] == pytest.approx(kept[1])


# -- what may be chosen ----------------------------------------------------------------------------------------------


def test_choices_are_whole_blocks_and_all():
    traced = trace(net(CHAIN))
    scores = [np.arange(float(len(group))) for group in traced.groups]
    kept, free = exceptions(traced, scores, ignore=["b"])
    found = choices(traced, scores, kept, free, 16)
    assert [counts.tolist() for counts in found.counts] == [[16, 32, 48], [64], [16, 32, 48, 64, 80]]
    assert found.value[0].tolist() == pytest.approx([sum(range(32, 48)) / sum(range(48)), 1 - sum(range(16)) / 1128, 1])


def test_a_group_smaller_than_a_block_stays_whole():
    traced = trace(net(CHAIN))
    scores = [np.ones(len(group)) for group in traced.groups]
    found = choices(traced, scores, *exceptions(traced, scores), 64)
    assert [counts.tolist() for counts in found.counts] == [[48], [64], [64, 80]]


@pytest.mark.usefixtures("block")
def test_a_unit_in_every_conv_group_is_many_channels():
    text = """(float[1,3,8,8] x) => (y) <float[104,3,1,1] a, float[104,8,3,3] b, float[5,104,1,1] c>
        { p = Conv(x, a) q = Conv<group=13>(p, b) y = Conv(q, c) }"""
    traced = trace(net(text), prefer="head-dims")
    scores = [np.ones(len(group)) for group in traced.groups]
    found = choices(traced, scores, *exceptions(traced, scores), "auto")
    assert [counts.tolist() for counts in found.counts] == [[4, 8]] * len(found.counts)


def test_groups_that_cannot_be_ranked_stay_whole():
    traced = trace(net(CHAIN))
    scores = [np.full(48, np.nan), np.ones(64), np.ones(80)]
    found = choices(traced, scores, *exceptions(traced, scores), None)
    assert found.counts[0].tolist() == [48]
    assert len(found.counts[1]) == 64
    assert take(traced, scores, found.fewest).sum() == 63 + 79


def test_nothing_to_choose_is_bad_input():
    traced = trace(net(CHAIN))
    scores = [np.full(len(group), np.nan) for group in traced.groups]
    with pytest.raises(BadInput, match="nothing is left to remove"):
        exceptions(traced, scores)


@pytest.mark.usefixtures("block")
def test_axes_that_several_groups_share_are_rounded_in_sum():
    traced = padded_resnet(16, 40, 72)
    sizes = np.array([len(group) for group in traced.groups])

    def off(kept):
        sums = [sum(kept[g] for g, group in enumerate(traced.groups) if set(group.units) & set(axis.units))
                for axis in traced.axes]  # fmt: skip
        return sum(n % 4 != 0 for n in sums)

    ragged = np.where(sizes == 12, 11, sizes)
    assert off(ragged) > 0
    assert off(aligned(traced, ragged, np.ones(len(sizes), bool), "auto")) == 0
    assert (aligned(traced, ragged, np.ones(len(sizes), bool), None) == ragged).all()


@settings(max_examples=25)
@given(share=st.floats(0.02, 0.99), seed=st.integers(0, 9), kind=st.sampled_from([parameters, multiply_adds]))
def test_budgets_are_kept(share, seed, kind):
    traced = trace(net(CHAIN))
    rng = np.random.default_rng(seed)
    scores = [rng.random(len(group)) for group in traced.groups]
    cost = kind(traced)
    options = choices(traced, scores, *exceptions(traced, scores), None)
    budget = share * cost.total(options.most)
    found = solve(cost, budget, options)
    assert cost.total(found) <= max(budget, cost.total(options.fewest))
    one_more = [np.where(np.arange(3) == g, np.minimum(found + 1, options.most), found) for g in range(3)]
    assert all(cost.total(more) > budget or (more == found).all() for more in one_more), "no room is left"
