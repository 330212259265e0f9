from typing import Any

import numpy as np
import pytest
import torch

from slimnet.common.errors import BadInput
from slimnet.methods.spp import increments, updates_needed
from tests.networks.regularised import accuracy, bind, bind_layer, check_resumes, idle, network, optimizer_for, train


def bind_ladder(count: int = 8, pruned: int = 4, steps: int | None = None, **options: Any) -> Any:
    return bind_layer("increg", np.arange(1.0, count + 1)[:, None], pruned, steps, unit="filter", **options)


def test_each_step_adds_the_curve_to_lambda_and_lambda_w_to_the_gradient() -> None:
    w, method = bind_ladder()
    lam = np.zeros(8)
    for _ in range(3):
        w.grad = torch.zeros_like(w)
        method.after_backward()
        method.after_step()
        lam = np.maximum(lam + increments(np.arange(8), 4, 2.5e-4, 0.25), 0)
        assert w.grad.flatten().tolist() == pytest.approx((lam * np.arange(1, 9)).tolist(), rel=1e-5)
    assert method.status()["lambda"] == pytest.approx(7.5e-4)


def test_a_group_goes_when_its_lambda_reaches_the_target() -> None:
    w, method = bind_ladder(amplitude=0.1)
    for _ in range(24):
        method.after_backward()
        method.after_step()
    assert method.status()["pruned"] == 0
    method.after_backward()
    method.after_step()
    assert method.status()["pruned"] == 1 / 8
    assert w[0].item() == 0
    assert idle(method) == updates_needed(4, 0.1 / 2.5, 0.25) - 25
    assert method.removed()[0].tolist() == [True] * 4 + [False] * 4
    assert (w == 0).flatten().tolist() == [True] * 4 + [False] * 4
    assert method.status()["lambda"] == 0


def test_ranks_are_averaged_and_ranked_again() -> None:
    w, method = bind_ladder(4, 2)
    for _ in range(3):
        method.after_backward()
        method.after_step()
    with torch.no_grad():
        w.copy_(w.flip(0))
    w.grad = torch.zeros_like(w)
    method.after_backward()
    assert w.grad[0] > 0
    assert w.grad[3] == 0


def test_momentum_and_decay_do_not_revive_what_is_pruned() -> None:
    w, method = bind_ladder(4, 2, amplitude=2.0)
    sgd = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(20):
        sgd.zero_grad()
        (3 * w).sum().backward()
        method.before_forward()
        method.after_backward()
        sgd.step()
        method.after_step()
        assert not w[torch.from_numpy(method.state_dict()["pruned"].numpy())].any()
    assert method.finished
    assert (w == 0).sum() == 2


@pytest.mark.parametrize("steps", [1, 30, 500, 5000])
def test_the_schedule_is_fitted_to_the_steps(steps: int) -> None:
    _, method = bind_ladder(40, 20, steps)
    assert f"not {steps:,}" in method.notes()[0]
    taken = idle(method)
    assert taken <= max(1, 2 * steps // 3)
    assert taken > steps // 3
    assert bind_ladder(40, 20)[1].notes() == []


def test_columns_are_the_default_and_become_masks() -> None:
    module = network()
    method, sgd = bind("increg", module, steps=300), optimizer_for(module)
    train(module, method, sgd, 300)
    assert method.finished
    assert method.removed() is None
    masks = method.masks()
    assert {name: int((~m).flatten(1)[0].sum()) for name, m in masks.items()} == {"0.weight": 5, "3.weight": 20}
    for name, stays in masks.items():
        assert not module.get_parameter(name)[~stays].any()
    assert accuracy(module) > 0.8


def test_filters_can_be_removed() -> None:
    module = network()
    method, sgd = bind("increg", module, steps=200, unit="filter"), optimizer_for(module)
    train(module, method, sgd, 200)
    assert method.masks() is None
    assert [int(r.sum()) for r in method.removed()] == [5, 4]
    assert torch.equal((module[3].weight == 0).flatten(1).all(1), torch.from_numpy(method.removed()[1]))


@pytest.mark.parametrize("unit", ["filter", "column"])
def test_it_resumes_bit_for_bit(unit: str) -> None:
    check_resumes("increg", steps=45, unit=unit)


def test_a_bad_target_is_named() -> None:
    with pytest.raises(BadInput, match="increg: option target=0"):
        bind("increg", network(), target=0.0)
