import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from slimnet.common.errors import BadInput
from slimnet.methods import create
from tests.networks.regularised import (
    accuracy,
    bind,
    bind_layer,
    check_resumes,
    idle,
    layer,
    lowest,
    network,
    optimizer_for,
    picker,
    traced,
    train,
)

BOTH = ["greg-1", "greg-2"]


def bump(method: Any, count: int) -> None:
    for _ in range(count):
        method.after_backward()
        method.after_step()


# -- the schedule --------------------------------------------------------------------------------------------------


def test_greg_1_exceeds_tau_at_bump_10001() -> None:
    _, method = bind_layer("greg-1", [[1.0], [2.0]], 1, every=1, stabilise=7)
    bump(method, 10_000)
    assert method.status() == {"lambda": 1.0}
    bump(method, 1)
    assert method.status()["lambda"] == pytest.approx(1.0001)
    assert not method.finished
    assert idle(method) == 7


def test_greg_2_picks_at_bump_1000_and_is_at_tau_9900_later() -> None:
    w, method = bind_layer("greg-2", [[1.0], [2.0]], 1, every=1, stabilise=0)
    bump(method, 999)
    w.data = torch.tensor([[2.0], [1.0]])
    assert method.status()["lambda"] == pytest.approx(0.00999)
    bump(method, 1)
    assert method.status() == {"lambda": 0.01}
    w.data = torch.tensor([[0.0], [1.0]])
    assert [r.tolist() for r in method.removed()] == [[False, True]]  # chosen by the weights then
    bump(method, 9900)
    assert method.status()["lambda"] == pytest.approx(1.0, abs=1e-12)
    assert not method.finished
    bump(method, 1)
    assert method.finished


def test_the_first_bump_is_in_the_first_step_and_then_every_k_steps() -> None:
    _, method = bind_layer("greg-1", [[1.0], [2.0]], 1, every=10, delta=0.1, stabilise=20)
    seen = []
    for _ in range(21):
        bump(method, 1)
        seen.append(method.status()["lambda"])
    assert seen == pytest.approx([0.1] * 10 + [0.2] * 10 + [0.3])
    assert idle(method) == (11 - 1) * 10 + 1 + 20 - 21


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("steps", [2, 3, 7, 50, 100, 300, 1001, 30_000])
def test_the_schedule_is_fitted_to_the_steps(name: str, steps: int) -> None:
    _, method = bind_layer(name, [[1.0], [2.0]], 1, steps)
    (note,) = method.notes()
    assert "\n" not in note
    assert f"{steps:,}" in note
    assert idle(method) == steps
    assert 1 < method.status()["lambda"] < 3
    if steps >= 100:
        again = bind_layer(name, [[1.0], [2.0]], 1, steps)[1]
        bump(again, steps // 2)
        assert 0.7 < again.status()["lambda"] < 0.8  # it grows in two thirds of the steps
        bump(again, steps // 6)
        assert again.status()["lambda"] > 0.98


@pytest.mark.parametrize(("name", "least"), [("greg-1", 10_000 * 2 + 1 + 30), ("greg-2", 10_900 * 2 + 1 + 30)])
def test_a_schedule_that_fits_is_as_published(name: str, least: int) -> None:
    for steps in (None, least, 10**6):
        method = bind_layer(name, [[1.0], [2.0]], 1, steps, every=2, stabilise=30)[1]
        assert method.notes() == []
        assert idle(method) == least
    assert bind_layer(name, [[1.0], [2.0]], 1, least - 1, every=2, stabilise=30)[1].notes()


def test_long_stabilising_alone_is_cut_without_touching_lambda() -> None:
    _, method = bind_layer("greg-1", [[1.0], [2.0]], 1, 300, delta=0.1)
    bump(method, 1)
    assert method.status()["lambda"] == 0.1
    assert idle(method) == 299


# -- the penalty ---------------------------------------------------------------------------------------------------


def test_one_step_adds_lambda_times_w_with_factor_one() -> None:
    w, method = bind_layer("greg-1", [[1.0], [2.0]], 1, delta=0.1)
    sgd = torch.optim.SGD([w], lr=0.01, weight_decay=5e-4)
    w.grad = torch.zeros_like(w)
    method.after_backward()
    sgd.step()
    assert w[0].item() == pytest.approx(0.998995, abs=1e-7)
    assert w[1].item() == pytest.approx(2 - 0.01 * 5e-4 * 2, abs=1e-6)


@pytest.mark.parametrize(
    ("hessian", "delta", "minimum"),
    [([[1, 0], [0, 0.01]], 0.01, [0.990099, 0.5]), ([[2, 0.5], [0.5, 1]], 0.1, [0.970874, 0.922330])],
)
def test_the_minimum_moves_by_the_curvature(hessian: Any, delta: float, minimum: list[float]) -> None:
    h, best = torch.tensor(hessian), torch.ones(2)
    w, method = bind_layer("greg-1", [[1.0, 1.0], [3.0, 3.0]], 1, delta=delta, tau=delta / 2)
    sgd = torch.optim.SGD([w], lr=0.5)
    for _ in range(3000):
        sgd.zero_grad()
        (0.5 * (w[0] - best) @ h @ (w[0] - best)).backward()
        method.after_backward()
        sgd.step()
        method.after_step()
    assert w[0].tolist() == pytest.approx(minimum, abs=1e-5)


def test_growing_lambda_tells_filters_of_different_curvature_apart() -> None:
    h = torch.tensor([0.01, 0.03, 0.1, 0.3, 1.0])
    w, groups = layer(np.ones((5, 4)))
    method = create("greg-2", groups, {"w": w}, lowest(2), None, pick_delta=1e-4)
    sgd, spread = torch.optim.SGD([w], lr=0.5), []
    for step in range(1000):
        sgd.zero_grad()
        (0.5 * h * ((w - 1) ** 2).sum(1)).sum().backward()
        method.after_backward()
        sgd.step()
        method.after_step()
        if step % 100 == 99:
            norms = w.detach().abs().sum(1)
            spread.append((norms.std() / norms.mean()).item())
    assert spread == sorted(spread)
    assert spread[-1] > 0.1
    assert [r.tolist() for r in method.removed()] == [[True, True, False, False, False]]


@pytest.mark.parametrize(("options", "recover"), [({"recover": -0.25}, -0.25), ({}, -1e-4)], ids=["given", "published"])
def test_only_weights_of_groups_that_lose_something_are_penalised(options: dict[str, Any], recover: float) -> None:
    module = network()
    params = dict(module.named_parameters())
    pick = picker(0.5, ignore=["3.weight"])
    method = create("greg-2", traced().groups, params, pick, None, every=1, tau_pick=1e-5, delta=0.5, **options)
    for p in params.values():
        p.grad = torch.zeros_like(p)
    method.after_backward()
    method.after_step()
    gone = torch.from_numpy(method.removed()[0])
    expected = torch.where(gone, 1e-5, recover)
    w = params["0.weight"]
    assert torch.allclose(w.grad, expected[:, None, None, None] * w)
    assert all(not p.grad.any() for name, p in params.items() if name != "0.weight")
    w.grad.zero_()
    method.after_backward()
    assert torch.allclose(w.grad, torch.where(gone, 0.50001, recover)[:, None, None, None] * w)


def test_while_picking_all_units_of_a_group_are_penalised_alike() -> None:
    module = network()
    method = bind("greg-2", module, every=1)
    w = module[3].weight
    for _ in range(3):
        w.grad = torch.zeros_like(w)
        method.after_backward()
        method.after_step()
    assert torch.allclose(w.grad, 3e-5 * w)


def test_channel_granularity_penalises_what_reads_the_unit() -> None:
    module = network()
    params = dict(module.named_parameters())
    method = bind("greg-1", module, granularity="channel", delta=0.1)
    for p in params.values():
        p.grad = torch.zeros_like(p)
    method.after_backward()
    first, second = (torch.from_numpy(gone) for gone in method.removed())
    assert torch.allclose(params["3.weight"].grad, 0.1 * first[None, :, None, None] * params["3.weight"])
    assert torch.allclose(params["6.weight"].grad, 0.1 * second.repeat_interleave(4) * params["6.weight"])
    assert not params["0.weight"].grad.any()
    norms = params["3.weight"].detach().abs().sum((0, 2, 3))
    assert norms[first].max() < norms[~first].min()


# -- the choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "counts"), [(0.75, [8, 6]), (0.99, [9, 7]), (0.3, [3, 3])])
def test_the_number_that_goes_is_rounded_up_but_never_all(ratio: float, counts: list[int]) -> None:
    module = network()
    method = bind("greg-1", module, ratio=ratio)
    method.after_backward()
    assert [int(r.sum()) for r in method.removed()] == counts


def test_greg_1_keeps_the_choice_of_the_first_step() -> None:
    w, method = bind_layer("greg-1", [[1.0], [2.0]], 1, delta=0.3, every=1, stabilise=1)
    bump(method, 1)
    w.data = torch.tensor([[5.0], [2.0]])
    idle(method)
    assert [r.tolist() for r in method.removed()] == [[True, False]]


@pytest.mark.parametrize(("ratio", "share"), [(0.5, 0.5), (0.75, 0.8), (0.99, 0.9)])
def test_single_weights_go_by_the_share_of_the_budget(ratio: float, share: float) -> None:
    module = network()
    method = bind("greg-1", module, ratio=ratio, granularity="weight", delta=0.1)
    w = module[0].weight
    w.grad = torch.zeros_like(w)
    method.after_backward()
    assert method.removed() is None
    masks = method.masks()
    assert set(masks) == {"0.weight", "3.weight"}
    stays = masks["0.weight"]
    assert int((~stays).sum()) == min(math.ceil(share * 90 - 1e-9), 89)
    assert w[~stays].abs().max() < w[stays].abs().min()
    assert torch.allclose(w.grad, torch.where(stays, 0.0, 0.1) * w)


def test_a_single_weight_always_stays() -> None:
    _, method = bind_layer("greg-1", [[1.0], [3.0], [2.0], [4.0]], 3, granularity="weight")
    method.pick = lambda scores: [np.ones(4, bool)]
    assert method.masks()["w"].flatten().tolist() == [False, False, False, True]


# -- the stop by magnitudes ----------------------------------------------------------------------------------------


def two_layers(name: str, **options: Any) -> tuple[torch.nn.Parameter, torch.nn.Parameter, Any]:
    (a, (first,)), (b, (second,)) = layer([[1.0], [2.0]]), layer([[1.0], [2.0]])
    member = second.members[0]
    renamed = type(member)("v", member.axis, member.role, member.index, member.use)
    second = type(second)("v", second.units + 2, (renamed,), second.kind)
    method = create(name, [first, second], {"w": a, "v": b}, lowest(1, 1), None, every=1, ratio_stop=1000.0, **options)
    return a, b, method


def test_greg_1_stops_when_all_layers_are_above_the_ratio() -> None:
    a, b, method = two_layers("greg-1", stabilise=3)
    bump(method, 1)
    a.data[0] = 0
    bump(method, 5)
    assert method.status()["lambda"] == pytest.approx(6e-4)
    b.data[0] = 3e-4  # a ratio of 6667: the average is 668 at the first bump and exceeds 1000 at the second
    bump(method, 2)
    assert method.status()["lambda"] == pytest.approx(7e-4)
    assert idle(method) == 3


def test_greg_2_stops_layer_by_layer() -> None:
    a, b, method = two_layers("greg-2", tau_pick=1e-5, recover=0.0)
    bump(method, 1)
    a.data[0] = 0
    for w in (a, b):
        w.grad = torch.zeros_like(w)
    bump(method, 3)
    a.data[0] = 1
    for w in (a, b):
        w.grad = torch.zeros_like(w)
    method.after_backward()
    assert a.grad[0].item() == pytest.approx(1e-5)
    assert b.grad[0].item() == pytest.approx(4.1e-4)


def test_the_ratio_is_off_unless_asked_for() -> None:
    _, method = bind_layer("greg-1", [[0.0], [2.0]], 1, every=1)
    bump(method, 50)
    assert method.status()["lambda"] == pytest.approx(5e-3)


# -- in training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("granularity", ["filter", "channel", "weight"])
def test_it_resumes_bit_for_bit(name: str, granularity: str) -> None:
    options = {"tau_pick": 0.1} if name == "greg-2" else {}
    check_resumes(name, steps=24, granularity=granularity, **options)
    if granularity == "filter":
        check_resumes(name, half=4, steps=100, ratio_stop=1.1)


@pytest.mark.parametrize("name", BOTH)
def test_what_goes_is_small_after_training(name: str) -> None:
    module = network()
    method, sgd = bind(name, module, steps=300), optimizer_for(module)
    train(module, method, sgd, 300)
    assert method.finished
    removed = method.removed()
    for k, gone in zip((0, 3), removed, strict=True):
        norms = module[k].weight.detach().abs().sum((1, 2, 3))
        assert norms[torch.from_numpy(gone)].mean() < 0.1 * norms[torch.from_numpy(~gone)].mean()
    with torch.no_grad():
        before = accuracy(module)
        module[3].weight[torch.from_numpy(removed[1])] = 0
        module[3].bias[torch.from_numpy(removed[1])] = 0
    assert before > 0.8
    assert accuracy(module) > before - 0.1


def test_single_weights_are_small_after_training() -> None:
    module = network()
    method, sgd = bind("greg-2", module, granularity="weight", steps=300), optimizer_for(module)
    train(module, method, sgd, 300)
    for name, stays in method.masks().items():
        w = module.get_parameter(name).detach().abs()
        assert w[~stays].mean() < 0.1 * w[stays].mean()


def test_ending_early_is_told_and_still_gives_the_budget() -> None:
    module = network()
    method = bind("greg-2", module)
    train(module, method, optimizer_for(module), 3)
    assert not method.finished
    assert "before the schedule" in method.unfinished
    assert [int(r.sum()) for r in method.removed()] == [5, 4]


def test_without_groups_nothing_is_penalised() -> None:
    method = create("greg-2", [], {}, lowest(), None)
    method.after_backward()
    method.after_step()
    assert method.status() == {"lambda": 0.0}


def test_a_weight_without_gradient_is_left_alone() -> None:
    module = network()
    module[0].weight.requires_grad_(False)
    before = module[0].weight.clone()
    train(module, bind("greg-1", module, delta=0.5), optimizer_for(module), 3)
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("greg-1", {"granularity": "row"}, "granularity"),
        ("greg-1", {"every": 0}, "every"),
        ("greg-1", {"delta": 0.0}, "delta"),
        ("greg-1", {"stabilise": -1}, "stabilise"),
        ("greg-2", {"tau_pick": 1.0}, "tau_pick"),
        ("greg-2", {"pick_delta": 0.0}, "pick_delta"),
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        bind_layer(name, [[1.0], [2.0]], 1, **options)


def test_the_gradient_is_that_of_half_lambda_w_squared() -> None:
    module = network()
    method = bind("greg-1", module, delta=0.3)
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([1, 2, 3, 4])
    F.cross_entropy(module(x), y).backward()
    w = module[0].weight
    plain = w.grad.clone()
    method.after_backward()
    lam = torch.from_numpy(method.removed()[0]) * 0.3
    (expected,) = torch.autograd.grad(0.5 * (lam * (w**2).sum((1, 2, 3))).sum(), w)
    assert torch.allclose(w.grad - plain, expected, atol=1e-6)
