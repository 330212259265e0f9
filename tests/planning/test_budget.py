import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimnet.common.errors import BadInput
from slimnet.graph.trace import trace
from slimnet.graph.units import Axis
from slimnet.planning.budget import SCOPES, choose
from tests.networks.graphs import net
from tests.networks.planned import Net, chain, densenet, lengths, padded_resnet, resnet, scores


def removed_of(net: Any, removed: np.ndarray) -> list[int]:
    return [int(removed[group.units].sum()) for group in net.groups]


def test_layer_scope_takes_the_lowest_of_each_group() -> None:
    net = chain(4, 5)
    removed = choose(net, [np.array([3.0, 1, 4, 2]), np.array([9.0, 8, 7, 6, 5])], 0.5)
    assert removed.tolist() == [False, True, False, True, False, False, True, True, True]


@pytest.mark.parametrize(
    ("width", "ratio", "count"),
    [(10, 0.75, 8), (10, 0.99, 9), (10, 0.3, 3), (100, 0.07, 7), (100, 0.29, 29), (3, 0.01, 1), (2, 0.9, 1)],
)
def test_the_count_is_rounded_up_but_never_all(width: int, ratio: float, count: int) -> None:
    net = chain(width)
    assert removed_of(net, choose(net, scores(net), ratio)) == [count]


def test_global_scope_uses_one_threshold_on_scores_relative_to_their_mean() -> None:
    net = chain(4, 4)
    small, large = np.array([1.0, 1, 1, 1.2]), np.array([10.0, 100, 1000, 1000])
    removed = choose(net, [small, large], 0.25, scope="global")
    assert removed.tolist() == [False] * 4 + [True, True, False, False]
    raw = choose(net, [small, large], 0.25, scope="global", normalise=lambda groups, values: list(values))
    assert removed_of(net, raw) == [2, 0]


def test_global_scope_leaves_the_best_unit_of_every_group() -> None:
    net = chain(4, 8)
    even = choose(net, [np.zeros(4), np.ones(8)], 0.9, scope="global", normalise=lambda groups, values: list(values))
    assert removed_of(net, even) == [3, 7]


def test_isomorphic_scope_compares_groups_of_one_kind_only() -> None:
    net = resnet(8, 8, blocks=2)
    kinds = [group.kind for group in net.groups]
    values = scores(net)
    removed = choose(net, values, 0.5, scope="isomorphic")
    for kind in set(kinds):
        pool = [g for g, k in enumerate(kinds) if k == kind]
        assert sum(removed_of(net, removed)[g] for g in pool) == 4 * len(pool)


def test_the_normaliser_of_the_method_is_used_but_ranks_within_a_group_are_the_scores() -> None:
    net = chain(6)
    values = [np.array([5.0, 3, 4, 1, 2, 6])]
    removed = choose(net, values, 0.5, scope="global", normalise=lambda groups, s: [v / 100 for v in s])
    assert np.flatnonzero(removed).tolist() == [1, 3, 4]


def test_ratio_for_and_ignore_name_groups_by_their_filters() -> None:
    net = resnet(8, 8)
    removed = choose(net, scores(net), 0.5, ratio_for=[("layer0*", 0.25)], ignore=["layer1.*.conv1.weight"])
    by_name = dict(zip([g.name for g in net.groups], removed_of(net, removed), strict=True))
    assert by_name == {
        "stem.weight": 2,  # layer0.0.conv2.weight writes to this stream
        "layer0.0.conv1.weight": 2,
        "layer0.1.conv1.weight": 2,
        "layer1.0.conv1.weight": 0,
        "layer1.0.down.weight": 4,
        "layer1.1.conv1.weight": 0,
    }


def test_a_pattern_may_name_a_module() -> None:
    net = resnet(8, 8)
    removed = dict(
        zip(
            [g.name for g in net.groups], removed_of(net, choose(net, scores(net), 0.5, ignore=["layer1.0"])),
            strict=True,
        )
    )  # fmt: skip
    assert removed["layer1.0.conv1.weight"] == removed["layer1.0.down.weight"] == 0
    assert removed["layer1.1.conv1.weight"] == 4


def test_the_last_matching_ratio_counts_and_ignore_beats_it() -> None:
    net = chain(8, 8)
    removed = choose(net, scores(net), 0.5, ratio_for=[("conv*", 0.25), ("conv1.weight", 0.75)])
    assert removed_of(net, removed) == [2, 6]
    removed = choose(net, scores(net), 0.5, ratio_for=[("conv*", 0.25)], ignore=["conv1*"])
    assert removed_of(net, removed) == [2, 0]


def test_a_ratio_of_its_own_is_kept_in_global_scope() -> None:
    net = chain(8, 8, 8)
    removed = choose(net, scores(net), 0.5, scope="global", ratio_for=[("conv0.weight", 0.125)])
    counts = removed_of(net, removed)
    assert counts[0] == 1
    assert sum(counts[1:]) == 8


def test_ignoring_a_layer_that_cannot_be_pruned_does_no_harm() -> None:
    net = chain(8)
    assert removed_of(net, choose(net, scores(net), 0.5, ignore=["fc"])) == [4]


def test_skipping_coupled_groups_spares_streams_but_not_what_only_a_depthwise_convolution_follows() -> None:
    """A depthwise weight passes channels on: those of a separable block have one producer, those of a sum have two."""
    found = trace(
        net("""(float[N,3,4,4] x) => (y)
        <float[6,3,1,1] stem, float[8,6,1,1] expand, float[8,1,3,3] depthwise, float[6,8,1,1] project, float[2,6,1,1] v>
        { s = Conv(x, stem)
          h = Conv(s, expand)
          d = Conv<group=8, pads=[1,1,1,1]>(h, depthwise)
          p = Conv(d, project)
          m = Add(s, p)
          y = Conv(m, v) }""")
    )
    removed = choose(found, scores(found), 0.5, coupled=False)
    assert dict(zip([group.name for group in found.groups], removed_of(found, removed), strict=True)) == {
        "stem": 0,
        "expand": 4,
    }


def test_a_group_without_a_score_stays_dense() -> None:
    net = chain(4, 4)
    for scope in SCOPES:
        removed = choose(net, [np.full(4, np.nan), np.arange(4.0)], 0.5, scope=scope, round_to=1)
        assert removed_of(net, removed) == [0, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": 0.0}, "ratio 0 is not between 0 and 1"),
        ({"ratio": 1.0}, "ratio 1 is not between 0 and 1"),
        ({"ratio": float("nan")}, "ratio nan is not between 0 and 1"),
        ({"ratio_for": [("conv0*", 2.0)]}, "ratio-for 'conv0*': 2 is not between 0 and 1"),
        ({"ratio_for": [("conv9*", 0.5)]}, "ratio-for pattern 'conv9*' names no removable filters"),
        ({"ratio_for": [("fc*", 0.5)]}, "ratio-for pattern 'fc*' names no removable filters"),
        ({"ignore": ["conv9*"]}, "ignore pattern 'conv9*' matches nothing"),
        ({"ignore": ["*"]}, "nothing is left to remove"),
        ({"scope": "global", "ratio": np.array([0.5])}, "scope 'global': takes one ratio for all groups"),
        ({"scope": "local"}, "scope 'local' is not known; choose one of: layer, global, isomorphic"),
        ({"round_to": 10**20}, f"`round_to` {10**20}: give 'auto', None or a number from 1 to 1000000"),
        ({"round_to": 0}, "`round_to` 0: give 'auto', None or a number from 1 to 1000000"),
        ({"round_to": "best"}, "`round_to` 'best': give 'auto', None or a number from 1 to 1000000"),
    ],
)
def test_bad_input_is_told_in_one_line(change: dict[str, Any], message: str) -> None:
    net = chain(8)
    with pytest.raises(BadInput, match="^" + re.escape(message)) as caught:
        choose(net, scores(net), **{"ratio": 0.5, **change})
    assert "\n" not in str(caught.value)


def test_nothing_to_remove_is_bad_input() -> None:
    with pytest.raises(BadInput, match="every channel is pinned"):
        choose(Net().done(), [], 0.5)
    with pytest.raises(BadInput, match="every group has a single channel"):
        choose(chain(1), [np.ones(1)], 0.5)


@pytest.mark.parametrize(("scope", "expected"), [("layer", [100, 100]), ("global", [150, 50])])
def test_of_units_as_good_as_each_other_the_first_go(scope: str, expected: list[int]) -> None:
    """So that a plan is the same wherever it is made: a sort that keeps the order of equals does that."""
    net = chain(200, 200)
    values = np.tile([2.0, 1, 1, 1], 50)
    removed = choose(net, [values, values], 0.5, scope=scope)
    for group, count in zip(net.groups, expected, strict=True):
        assert np.flatnonzero(removed[group.units]).tolist() == np.flatnonzero(values == 1)[:count].tolist()


def test_an_axis_that_would_be_empty_gets_its_best_unit_back() -> None:
    net = chain(8)
    values = np.arange(8.0)
    net.axes.append(Axis("half", np.array([1, 3, 2]), "other", 1, 0))
    removed = choose(net, [values], 0.5)
    assert np.flatnonzero(removed).tolist() == [0, 1, 2]


@pytest.mark.usefixtures("block")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    net=st.sampled_from([chain(8, 40, 3), resnet(16, 32), padded_resnet(16, 32, 64), densenet(24, 12, 4)]),
    ratio=st.floats(0.01, 0.99),
    scope=st.sampled_from(SCOPES),
    round_to=st.sampled_from([None, "auto", 4, 16]),
    seed=st.integers(0, 99),
)
def test_no_layer_is_emptied_and_the_lowest_go(net: Any, ratio: float, scope: str, round_to: Any, seed: int) -> None:
    values = scores(net, seed)
    try:
        removed = choose(net, values, ratio, scope=scope, round_to=round_to)
    except BadInput:  # rounding may leave nothing to remove
        removed = np.zeros(net.n_units, bool)
    assert removed.any() or round_to is not None
    assert min(lengths(net, removed).values()) >= 1
    for group, score in zip(net.groups, values, strict=True):
        gone = removed[group.units]
        assert not gone.all()
        assert score[gone].max(initial=-1) < score[~gone].min()
    if round_to is None and scope == "layer":
        sizes = np.array([len(group.units) for group in net.groups])
        expected = np.minimum(np.ceil(ratio * sizes - 1e-9), sizes - 1)
        assert removed_of(net, removed) == expected.tolist()


def test_layers_of_one_width_keep_equally_many():
    """By one threshold the first layer keeps more than the second; alike they keep what one of them would."""
    text = """(float[1,8] x) => (float[1,8] y)
        <float[8,16] a, float[16,8] b, float[8,16] c, float[16,8] d, float[8,16] e, float[16,8] f>
        { p = MatMul(x, a) q = Relu(p) r = MatMul(q, b) s = MatMul(r, c) t = Relu(s) u = MatMul(t, d)
          v = MatMul(u, e) w = Relu(v) y = MatMul(w, f) }"""
    traced = trace(net(text))
    inner = [k for k, group in enumerate(traced.groups) if len(group) == 16]
    rng = np.random.default_rng(0)
    scores = [rng.random(len(group)) * (k + 1) for k, group in enumerate(traced.groups)]

    def kept(**more):
        removed = choose(traced, scores, 0.5, scope="global", normalise=lambda _, s: s, **more)
        return [int((~removed[traced.groups[k].units]).sum()) for k in inner]

    different, alike = kept(), kept(alike=True)
    assert len(set(different)) > 1
    assert len(set(alike)) == 1
    assert alike[0] in different
    assert kept(alike=True, ignore=[traced.groups[inner[0]].name])[0] == 16
