import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Use
from slimnet.graph.units import Group, Member, Role
from slimnet.methods import create, filters, names, score, unranked

CRITERIA = ["l1", "l2", "gm", "fermat", "bn-gamma", "bn-beta", "random"]

CONV = Use("Conv", "W")


def member(tensor: str, axis: int, units: int, role: Role = Role.OUT, use: Use = CONV, count: int = 1) -> Member:
    return Member(tensor, axis, role, np.arange(units * count).reshape(units, count), use)


def group(*members: Member, name: str = "conv.weight") -> Group:
    return Group(name, np.arange(len(members[0].index)), members, "kind")


def one(method: str, weights: Any, **params: Any) -> np.ndarray:
    """Scores of the rows of one matrix."""
    rows = np.asarray(weights)
    return score(method, {"w": rows, **params}, [group(member("w", 0, len(rows)))])[0]


def reference_fermat(points: np.ndarray) -> np.ndarray:
    """Weiszfeld's iteration, point by point."""
    x = points.mean(axis=0)
    for _ in range(2000):
        d = np.linalg.norm(points - x, axis=1)
        if d.min() < 1e-12:
            break
        x = (points / d[:, None]).sum(axis=0) / (1 / d).sum()
    return np.linalg.norm(points - x, axis=1)


def test_all_criteria_are_registered() -> None:
    assert set(CRITERIA) <= set(names())


# -- values by hand ------------------------------------------------------------------------------------------------


def test_three_points_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [10.0]], np.float32)
    assert one("l1", points) == pytest.approx([0, 1, 10])
    assert one("l2", points) == pytest.approx([0, 1, 10])
    assert one("fermat", points) == pytest.approx([1, 0, 9], abs=1e-7)
    assert one("gm", points) == pytest.approx([11, 10, 19])


def test_an_equilateral_triangle() -> None:
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    assert one("fermat", corners) == pytest.approx([1 / np.sqrt(3)] * 3, abs=1e-7)
    assert one("gm", corners) == pytest.approx([2, 2, 2])


def test_an_obtuse_triangle_has_its_fermat_point_at_a_corner() -> None:
    corners = np.array([[0, 0], [1, 0.1], [-1, 0.1]])
    far = np.hypot(1, 0.1)
    assert one("fermat", corners) == pytest.approx([0, far, far], abs=1e-12)


def test_equal_filters_are_as_good_as_each_other() -> None:
    same = np.ones((4, 3))
    assert one("fermat", same).tolist() == [0, 0, 0, 0]
    assert one("gm", same).tolist() == [0, 0, 0, 0]
    assert one("fermat", same[:1]).tolist() == [0]


def test_half_of_the_filters_masked() -> None:
    """Many points in one place: the median lies there, and the iteration must not divide by zero."""
    points = np.vstack([np.zeros((5, 4)), np.eye(4)])
    assert one("fermat", points) == pytest.approx([0] * 5 + [1] * 4, abs=1e-7)


@pytest.mark.parametrize(
    "points",
    [
        [[0.0, 0], [4, 0], [-1, 1], [-1, -1], [-2, 0]],  # a little left of the middle is better
        [[0.0, 0], [4, 0], [-3, 1], [-3, -1], [2, 0]],  # the middle is the best place
    ],
)
def test_the_iteration_leaves_a_filter_it_starts_on_for_a_better_place(points: Any) -> None:
    """The mean of the points is one of them."""
    points = np.array(points)
    assert points.mean(axis=0).tolist() == [0, 0]
    x, y = np.meshgrid(np.linspace(-3, 4, 701), np.linspace(-1, 1, 201))
    total = sum(np.hypot(x - a, y - b) for a, b in points)
    median = np.array([x.flat[total.argmin()], y.flat[total.argmin()]])
    assert one("fermat", points) == pytest.approx(np.linalg.norm(points - median, axis=1), abs=0.02)


def test_filters_that_only_rounding_tells_apart_are_equal() -> None:
    """Their distance is the difference of large squares, which must not become the root of less than zero."""
    rng = np.random.default_rng(0)
    alike = rng.normal(size=577) * (1 + 1e-12 * rng.normal(size=(20, 577)))
    filters = np.vstack([alike, rng.normal(size=(3, 577))])
    for method in ("gm", "fermat"):
        assert one(method, filters)[:20] == pytest.approx([one(method, filters)[0]] * 20, rel=1e-6)


# -- filters -------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(n=st.integers(2, 12), d=st.integers(2, 9), seed=st.integers(0, 10_000))
def test_fermat_and_gm_agree_with_their_definitions(n: int, d: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, d))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    assert one("gm", points) == pytest.approx(distances.sum(axis=1), rel=1e-9)
    total = one("fermat", points).sum()
    assert total <= reference_fermat(points).sum() * (1 + 1e-6)
    assert total <= distances.sum(axis=1).min() * (1 + 1e-9)


@pytest.mark.parametrize("method", ["l1", "l2", "gm", "fermat"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_axis_of_the_filters_does_not_matter(method: str, axis: int) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    moved = np.ascontiguousarray(np.moveaxis(rows, 0, axis))
    expected = score(method, {"w": rows}, [group(member("w", 0, 6))])[0]
    assert score(method, {"w": moved}, [group(member("w", axis, 6))])[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["l1", "l2", "gm", "fermat"])
def test_a_filter_is_all_its_producers_together(method: str) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(6, 4, 3)), rng.normal(size=(12, 5))
    together = np.hstack([a.reshape(6, -1), b.reshape(6, -1)])
    stream = group(
        member("a", 0, 6), member("b", 0, 6, count=2), member("c", 1, 6, Role.IN), member("bias", 0, 6, Role.ALONG)
    )
    params = {"a": a, "b": b, "c": rng.normal(size=(3, 6)), "bias": rng.normal(size=6)}
    assert score(method, params, [stream])[0] == pytest.approx(one(method, together), rel=1e-9)


def test_units_find_their_indices() -> None:
    w = np.arange(24.0).reshape(6, 4)
    shuffled = Member("w", 0, Role.OUT, np.array([[4, 1], [0, 5]]), CONV)
    got = score("l1", {"w": w}, [Group("g", np.array([7, 3]), (shuffled,), "")])[0]
    assert got.tolist() == [w[4].sum() + w[1].sum(), w[0].sum() + w[5].sum()]


def test_an_axis_that_is_out_and_in_counts_once() -> None:
    w = np.arange(9.0).reshape(3, 3)
    square = group(member("w", 0, 3, Role.OUT | Role.IN))
    assert score("l1", {"w": w}, [square])[0].tolist() == w.sum(axis=1).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_other_precisions(dtype: Any) -> None:
    w = np.random.default_rng(0).integers(-128, 127, size=(5, 300)).astype(dtype)
    exact = w.astype(np.float64)
    assert one("l1", w) == pytest.approx(np.abs(exact).sum(axis=1), rel=1e-6)
    assert one("l2", w) == pytest.approx(np.linalg.norm(exact, axis=1), rel=1e-6)


def test_large_tensors_are_summed_in_pieces() -> None:
    w = np.random.default_rng(0).normal(size=(70, 5000)).astype(np.float32)
    assert one("l1", w) == pytest.approx(np.abs(w).sum(axis=1, dtype=np.float64), rel=1e-6)
    columns = score("l2", {"w": w}, [group(member("w", 1, 5000))])[0]
    assert columns == pytest.approx(np.linalg.norm(w.astype(np.float64), axis=0), rel=1e-6)
    many = np.random.default_rng(0).normal(size=(3, 60_000))
    assert one("gm", many) == pytest.approx(np.linalg.norm(many[:, None] - many, axis=2).sum(axis=1))


class Counted(Mapping[str, np.ndarray]):
    """Parameters that count how often each is read."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors, self.reads = tensors, dict.fromkeys(tensors, 0)

    def __getitem__(self, name: str) -> np.ndarray:
        self.reads[name] += 1
        return self.tensors[name]

    def __iter__(self) -> Any:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_a_tensor_is_read_once_however_many_groups_share_it() -> None:
    params = Counted({"w": np.ones((6, 2)), "unused": np.ones(3)})
    halves = [
        Group("a", np.arange(3), (Member("w", 0, Role.OUT, np.arange(3)[:, None]),), ""),
        Group("b", np.arange(3), (Member("w", 0, Role.OUT, np.arange(3, 6)[:, None]),), ""),
    ]
    assert [s.tolist() for s in score("l1", params, halves)] == [[2, 2, 2], [2, 2, 2]]
    assert params.reads == {"w": 1, "unused": 0}


def test_filters_are_the_rows_that_the_norms_are_taken_of() -> None:
    """Two layers that make the same three units: rows of one, and columns of the other in another order."""
    params = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "v": -np.arange(9, dtype=np.float16).reshape(3, 3)}
    columns = Member("v", 1, Role.OUT, np.array([[2], [0], [1]]))
    both = group(member("w", 0, 3), columns, Member("w", 1, Role.IN, np.arange(3)[:, None]))
    rows = filters(params, both)
    assert rows.tolist() == [[0, 1, -2, -5, -8], [2, 3, 0, -3, -6], [4, 5, -1, -4, -7]]
    assert rows.dtype == np.float64
    assert np.array_equal(np.abs(rows).sum(axis=1), score("l1", params, [both])[0])
    assert filters({}, group(member("w", 0, 3, Role.ALONG))).shape == (3, 0)


@pytest.mark.parametrize("method", ["l1", "l2", "gm", "fermat"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_bad_input(method: str, value: float) -> None:
    w = np.ones((3, 4), np.float32)
    w[1, 2] = value
    with pytest.raises(BadInput, match="'w' holds NaN, infinite"):
        one(method, w)


# -- batch norm ----------------------------------------------------------------------------------------------------


def normed(name: str, *bns: str, units: int = 3) -> Group:
    members = [member(f"{name}.weight", 0, units)]
    for bn in bns:
        members.append(member(f"{bn}.scale", 0, units, Role.ALONG, Use("BatchNormalization", "scale")))
        members.append(member(f"{bn}.bias", 0, units, Role.ALONG, Use("BatchNormalization", "B")))
    return group(*members, name=name)


def bn(scale: Any, bias: Any, name: str) -> dict[str, np.ndarray]:
    return {f"{name}.scale": np.array(scale, np.float32), f"{name}.bias": np.array(bias, np.float32)}


def test_batch_norm_scale_and_bias() -> None:
    params = {"conv.weight": np.ones((3, 2)), **bn([-1, 2, 0.5], [0, -3, 1], "bn1")}
    assert score("bn-gamma", params, [normed("conv", "bn1")])[0].tolist() == [1, 2, 0.5]
    assert score("bn-beta", params, [normed("conv", "bn1")])[0].tolist() == [0, 3, 1]


def test_several_batch_norms_add_up_and_are_compared_by_their_mean() -> None:
    params = {**bn([1, -2, 3], [0, 0, 0], "bn1"), **bn([1, 1, -1], [0, 0, 0], "bn2")}
    groups = [normed("stream", "bn1", "bn2"), normed("inner", "bn1")]
    scores = score("bn-gamma", params, groups)
    assert scores[0].tolist() == [2, 3, 4]
    comparable = create("bn-gamma").normalise(groups, scores)
    assert [s.tolist() for s in comparable] == [[1, 1.5, 2], [1, 2, 3]]


@pytest.mark.parametrize("method", ["bn-gamma", "bn-beta"])
def test_no_batch_norm_at_all_is_bad_input(method: str) -> None:
    with pytest.raises(BadInput, match=f"{method}.*folded.*use l1, l2, gm or fermat") as caught:
        score(method, {"conv.weight": np.ones((3, 2))}, [normed("conv")])
    assert "\n" not in str(caught.value)
    assert score(method, {}, []) == []


def test_a_group_without_batch_norm_is_listed_as_unranked() -> None:
    params = bn([1, 2, 3], [1, 1, 1], "bn1")
    groups = [normed("with", "bn1"), normed("without")]
    scores = score("bn-gamma", params, groups)
    assert unranked(groups, scores) == ["without"]
    assert np.isnan(scores[1]).all()
    assert np.isnan(create("bn-gamma").normalise(groups, scores)[1]).all()


# -- the register --------------------------------------------------------------------------------------------------


def test_random_scores_follow_the_seed() -> None:
    groups = [normed("a"), normed("b", units=4)]
    first, again, other = (score("random", {}, groups, seed) for seed in (1, 1, 2))
    assert [len(s) for s in first] == [3, 4]
    assert np.array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))


def test_comparable_scores_are_relative_to_their_group() -> None:
    groups = [normed("a"), normed("b")]
    got = create("l1").normalise(groups, [np.array([1.0, 2, 3]), np.zeros(3)])
    assert [s.tolist() for s in got] == [[0.5, 1, 1.5], [0, 0, 0]]


def test_an_unknown_name_or_option_is_bad_input() -> None:
    with pytest.raises(BadInput, match="method 'l3' is not known; choose one of: l1, l2"):
        score("l3", {}, [])
    with pytest.raises(BadInput, match="method 'random' has no option 'sead'; it takes: seed"):
        create("random", sead=1)


def test_scoring_imports_no_torch() -> None:
    code = "import sys, slimnet.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
