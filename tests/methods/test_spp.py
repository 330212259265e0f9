from typing import Any

import numpy as np
import pytest
import torch

from slimnet.common.errors import BadInput
from slimnet.methods import create
from slimnet.methods.spp import increments, updates_needed
from tests.networks.regularised import (
    accuracy,
    bind,
    bind_layer,
    check_resumes,
    digits,
    idle,
    layer,
    lowest,
    network,
    optimizer_for,
    train,
)


def ladder(count: int) -> np.ndarray:
    """Filters of one weight whose norms are ordered and never change places."""
    return np.arange(1.0, count + 1)[:, None]


def update(method: Any, count: int = 1) -> None:
    for _ in range(count):
        method.before_forward()
        method.after_backward()
        method.after_step()


def levels(method: Any) -> list[float]:
    return method.state_dict()["level"].tolist()


def updates_of(count: int, target: int, **options: Any) -> int:
    return idle(bind_layer("spp", ladder(count), target, every=1, **options)[1])


# -- the rule ------------------------------------------------------------------------------------------------------


def test_the_curve_for_eight_groups() -> None:
    expected = [0.05, 0.029730, 0.017678, 0.010135, 0, -0.017045, -0.045711, -0.093921]
    assert increments(np.arange(8), 4, 0.05, 0.25) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("flatness", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("target", [1, 7, 600])
def test_facts_of_the_curve(flatness: float, target: int) -> None:
    middle = -np.log(flatness) / (np.log(2) - np.log(flatness)) * target
    start, turn, end = increments(np.array([0, middle, target]), target, 0.05, flatness)
    assert start == pytest.approx(0.05)
    assert turn == pytest.approx(flatness * 0.05)
    assert end == pytest.approx(0, abs=1e-12)
    left, right = increments(np.array([middle - 0.3, middle + 0.3]), target, 0.05, flatness)
    assert left + right == pytest.approx(2 * flatness * 0.05)
    assert (np.diff(increments(np.arange(2 * target), target, 0.05, flatness)) < 0).all()


def test_far_beyond_the_target_nothing_overflows() -> None:
    assert np.isfinite(increments(np.array([5000]), 1, 0.05, 0.05)).all()


def test_probabilities_after_one_update() -> None:
    _, method = bind_layer("spp", ladder(8), 4)
    update(method)
    assert levels(method) == pytest.approx([0.05, 0.02973, 0.017678, 0.010135, 0, 0, 0, 0], abs=1e-6)
    update(method, 179)
    assert levels(method)[0] == pytest.approx(0.05)
    update(method)
    assert levels(method)[0] == pytest.approx(0.1)


def test_static_ranks_prune_the_first_at_update_20_and_all_at_49() -> None:
    _, method = bind_layer("spp", ladder(8), 4, every=1)
    update(method, 19)
    assert method.status() == {"pruned": 0}
    update(method)
    assert method.status() == {"pruned": 1 / 8}
    before = levels(method)
    update(method)
    moved = np.subtract(levels(method), before)
    assert moved[1:5] == pytest.approx([0.05, 0.025, 0.0125, 0], abs=1e-9)
    update(method, 27)
    assert not method.finished
    update(method)
    assert method.finished
    assert method.removed()[0].tolist() == [True] * 4 + [False] * 4
    assert levels(method)[4:] == [0] * 4


def test_ratios_of_iteration_counts_for_a_and_u() -> None:
    base = updates_needed(600, 0.05, 0.25)
    assert base == 172
    by_a = [updates_needed(600, a, 0.25) / base for a in (0.01, 0.025, 0.075, 0.1)]
    by_u = [updates_needed(600, 0.05, u) / base for u in (0.05, 0.125, 0.375, 0.5)]
    assert by_a == pytest.approx([4.88, 1.97, 0.67, 0.51], abs=0.005)
    assert by_u == pytest.approx([1.73, 1.28, 0.87, 0.79], abs=0.005)
    # What is printed in the paper's tables 3 and 4.
    assert by_a == pytest.approx([4.96, 1.95, 0.68, 0.53], rel=0.05)
    assert by_u == pytest.approx([1.80, 1.28, 0.83, 0.75], rel=0.06)


@pytest.mark.parametrize(("count", "target", "options"), [
    (8, 4, {}), (800, 600, {}), (40, 13, {"flatness": 0.1}), (20, 19, {"amplitude": 0.3}),
])  # fmt: skip
def test_the_prediction_is_what_static_ranks_take(count: int, target: int, options: dict[str, float]) -> None:
    settings = {"amplitude": 0.05, "flatness": 0.25} | options
    assert updates_of(count, target, **options) == updates_needed(target, **settings)


def test_running_means_of_ranks_equal_instant_ones_while_ranks_are_static() -> None:
    assert updates_of(8, 4, rank_mode="running-mean") == 49


def test_running_means_remember() -> None:
    found = {}
    for mode in ("instant", "running-mean"):
        w, method = bind_layer("spp", ladder(4), 2, every=1, rank_mode=mode)
        update(method, 3)
        with torch.no_grad():
            w.copy_(w.flip(0))
        before = np.array(levels(method))
        update(method)
        found[mode] = np.array(levels(method)) - before
    assert found["instant"][3] > 0
    assert found["instant"][0] < 0
    # Mean ranks (.75, 1.25, 1.75, 2.25) keep their order.
    assert found["running-mean"][0] == pytest.approx(0.05)
    assert found["running-mean"][3] == 0


def test_norms_instead_of_ranks_move_groups_of_about_the_same_norm_alike() -> None:
    """On the scale of ranks: 0 the smallest norm, the number of groups to go halfway to those that stay."""
    norms = np.array([1.0, 1.1, 1.2, 5.0, 6.0, 7.0])[:, None]
    found = {}
    for mode in ("instant", "norm"):
        _, method = bind_layer("spp", norms, 3, every=1, rank_mode=mode)
        update(method)
        found[mode] = levels(method)
        update(method, 200)
        assert method.state_dict()["pruned"].tolist() == [True] * 3 + [False] * 3
    border = (1.2 + 5.0) / 2
    places = [3 * (n - 1) / (border - 1) for n in (1.0, 1.1, 1.2)]
    alpha = np.log(8) / 3
    assert found["norm"][:3] == pytest.approx([0.05 * np.exp(-alpha * place) for place in places], rel=1e-5)
    assert found["instant"][2] < 0.5 * found["norm"][2]
    assert found["norm"][3:] == [0, 0, 0]


def test_the_fixed_form_ranks_pruned_groups_too() -> None:
    _, method = bind_layer("spp", ladder(8), 4, every=1, fixed=True)
    update(method, 300)
    gone = method.state_dict()["pruned"].tolist()
    # The group of rank 3 keeps rising by .010135, and takes 99 updates.
    assert gone == [True] * 4 + [False] * 4
    assert updates_of(8, 4, fixed=True) == 99


def test_groups_recover_until_they_are_pruned() -> None:
    w, method = bind_layer("spp", ladder(4), 2, every=1)
    update(method, 10)
    assert levels(method)[0] > 0.4
    with torch.no_grad():
        w[0] = 100
    update(method, 10)
    assert levels(method)[0] < 0.05
    idle(method)
    assert method.removed()[0].tolist() == [False, True, True, False]


# -- masks ---------------------------------------------------------------------------------------------------------


def test_masked_weights_neither_act_nor_move_nor_get_gradients() -> None:
    w, method = bind_layer("spp", np.ones((6, 3)), 5, amplitude=0.5)
    sgd = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)
    acted = 0
    for _ in range(30):
        before = w.detach().clone()
        method.before_forward()
        masked = (w == 0).all(1)
        sgd.zero_grad()
        (w**2).sum().backward()
        w.grad += 1
        method.after_backward()
        assert torch.equal((w.grad == 0).all(1), masked)
        sgd.step()
        method.after_step()
        assert torch.equal(w[masked], before[masked])
        assert not torch.equal(w[~masked], before[~masked])
        acted += int(masked.sum())
    assert 0 < acted < 30 * 5


def test_masks_are_drawn_with_the_probabilities() -> None:
    w, method = bind_layer("spp", np.ones((2, 1)) * [[1.0], [2.0]], 1, amplitude=0.3)
    drawn = []
    for _ in range(179):
        method.before_forward()
        drawn.append((w == 0).flatten().tolist())
        method.after_step()
    assert np.mean(drawn, axis=0) == pytest.approx([0.3, 0], abs=0.1)


def test_two_processes_draw_alike() -> None:
    runs = [bind_layer("spp", ladder(6), 5, amplitude=0.5) for _ in range(2)]
    for _ in range(20):
        for _, method in runs:
            method.before_forward()
        assert torch.equal(runs[0][0], runs[1][0])
        for _, method in runs:
            method.after_step()


def test_pruned_filters_are_never_revived() -> None:
    module = network()
    method, sgd = bind("spp", module, every=1, amplitude=0.2), optimizer_for(module)
    gone = [torch.zeros(10, dtype=torch.bool), torch.zeros(8, dtype=torch.bool)]
    for step in range(60):
        train(module, method, sgd, 1, start=step)
        for k, w in enumerate((module[0].weight, module[3].weight)):
            zero = (w == 0).flatten(1).all(1)
            assert (zero | ~gone[k]).all()
            gone[k] = zero
    assert method.finished
    assert [g.tolist() for g in gone] == [r.tolist() for r in method.removed()]
    assert [int(g.sum()) for g in gone] == [5, 4]


# -- columns -------------------------------------------------------------------------------------------------------


def test_columns_of_every_convolution_are_masked() -> None:
    module = network()
    method, sgd = bind("spp", module, unit="column", steps=200), optimizer_for(module)
    train(module, method, sgd, 200)
    assert method.finished
    assert method.removed() is None
    masks = method.masks()
    assert {name: m.shape for name, m in masks.items()} == {"0.weight": (10, 1, 3, 3), "3.weight": (8, 10, 2, 2)}
    for name, columns, count in (("0.weight", 9, 5), ("3.weight", 40, 20)):
        mask = masks[name].flatten(1)
        assert (mask == mask[0]).all()
        assert int((~mask[0]).sum()) == count
        assert mask.shape[1] == columns
        w = module.get_parameter(name).flatten(1)
        assert torch.equal((w == 0).all(0), ~mask[0])


def test_a_last_column_stays() -> None:
    method = bind("spp", network(), ratio=0.99, unit="column", every=1, amplitude=1.0)
    idle(method)
    assert [int((~m).flatten(1)[0].sum()) for m in method.masks().values()] == [9 - 1, 35]


def test_columns_need_a_convolution() -> None:
    with pytest.raises(BadInput, match="unit=filter"):
        bind_layer("spp", ladder(4), 2, unit="column")


# -- the schedule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 10, 60, 200, 1000, 9000])
def test_the_schedule_is_fitted_to_the_steps(steps: int) -> None:
    _, method = bind_layer("spp", ladder(80), 40, steps)
    (note,) = method.notes()
    assert f"not {steps:,}" in note
    assert "\n" not in note
    taken = idle(method)
    assert taken <= max(1, 2 * steps // 3)
    if steps >= 60:
        assert taken > steps / 3


def test_a_schedule_that_fits_is_as_published() -> None:
    for steps in (None, 49 * 180, 10**6):
        _, method = bind_layer("spp", ladder(8), 4, steps)
        assert method.notes() == []
        assert idle(method) == 48 * 180 + 1
    assert bind_layer("spp", ladder(8), 4, 8819)[1].notes() == [
        "spp: the schedule takes about 8,820 steps, not 8,819: every 119 instead of 180"
    ]


def test_nothing_to_prune_is_finished_at_once() -> None:
    w, groups = layer(ladder(4))
    method = create("spp", groups, {"w": w}, lowest(0), 100)
    assert method.finished
    assert method.notes() == []
    update(method, 3)
    assert method.removed()[0].tolist() == [False] * 4


# -- in training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"unit": "column"}, {"rank_mode": "running-mean"}, {"fixed": True}])
def test_it_resumes_bit_for_bit(options: dict[str, Any]) -> None:
    check_resumes("spp", every=2, amplitude=0.2, **options)
    check_resumes("spp", steps=45, **options)


def test_training_prunes_what_the_budget_says() -> None:
    module = network()
    method, sgd = bind("spp", module, steps=300), optimizer_for(module)
    train(module, method, sgd, 300)
    assert method.finished
    removed = method.removed()
    assert [int(r.sum()) for r in removed] == [5, 4]
    for k, gone in zip((0, 3), removed, strict=True):
        assert torch.equal((module[k].weight == 0).flatten(1).all(1), torch.from_numpy(gone))
    assert method.status() == {"pruned": 0.5}
    assert accuracy(module) > 0.8


def test_ending_early_is_told_and_still_gives_the_budget() -> None:
    module = network()
    method = bind("spp", module, every=2)
    train(module, method, optimizer_for(module), 20)
    assert not method.finished
    assert "0 of 9 filters pruned" in method.unfinished
    assert [int(r.sum()) for r in method.removed()] == [5, 4]
    level = np.split(np.array(levels(method)), [10])
    for gone, p in zip(method.removed(), level, strict=True):
        assert p[gone].min() >= p[~gone].max()


def test_between_steps_the_network_is_whole() -> None:
    module = network()
    method = bind("spp", module, amplitude=0.9)
    x, _ = digits()
    module.eval()
    with torch.no_grad():
        before = module(x[:8])
        method.before_forward()
        assert not torch.equal(module(x[:8]), before)
        method.after_step()
        assert torch.equal(module(x[:8]), before)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"unit": "row"}, "unit"),
        ({"rank_mode": "mean"}, "rank_mode"),
        ({"amplitude": 0.0}, "amplitude"),
        ({"flatness": 1.0}, "flatness"),
        ({"every": 0}, "every"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=f"spp: .*{what}"):
        bind_layer("spp", ladder(4), 2, **options)
