from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slimnet.common.errors import BadInput
from slimnet.methods import create
from slimnet.methods.parameter_groups import ParameterGroups
from tests.networks.regularised import (
    Role,
    accuracy,
    bind,
    check_resumes,
    layer,
    lowest,
    network,
    optimizer_for,
    traced,
    train,
)


def on_layers(*weights: Any, alpha: float = 1.0) -> tuple[list[nn.Parameter], Any]:
    """Group-HS over the rows and columns of each weight, with zero gradients."""
    params = {f"w{k}": nn.Parameter(torch.tensor(w)) for k, w in enumerate(weights)}
    for p in params.values():
        p.grad = torch.zeros_like(p)
    return list(params.values()), create("group-hs", [], params, lowest(), None, alpha=alpha, grouping="layers")


def hoyer_square(norms: Tensor) -> Tensor:
    return norms.sum() ** 2 / (norms**2).sum()


def norms_along(w: Tensor, axis: int) -> Tensor:
    return w.transpose(0, axis).flatten(1).norm(dim=1)


# -- the paper's measure -------------------------------------------------------------------------------------------


def test_the_worked_example() -> None:
    (w,), method = on_layers([[3.0, 4.0], [0.0, 1.0]])
    method.after_backward()
    assert method.status()["penalty"] == pytest.approx(1.384615 + 1.951486, abs=1e-5)
    assert w.grad is not None
    expected = [[0.054985, -0.125691], [0, 0.337808]]
    assert torch.allclose(w.grad, torch.tensor(expected), atol=1e-5)
    assert (w * w.grad).sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3), (1, 6), (6, 1), (1, 1), (3, 1, 1, 1)])
def test_layers_agree_with_autograd(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    start = torch.randn(shape)
    (w,), method = on_layers(start.tolist(), alpha=0.3)
    (expected,) = torch.autograd.grad(0.3 * sum(hoyer_square(norms_along(w, k)) for k in (0, 1)), w)
    method.after_backward()
    assert torch.allclose(w.grad, expected, atol=1e-6)
    assert (w * w.grad).sum().item() == pytest.approx(0, abs=1e-5)


def test_it_ignores_the_scale_of_a_layer() -> None:
    torch.manual_seed(0)
    start = torch.randn(4, 5)
    (small, large), method = on_layers(start.tolist(), (100 * start).tolist())
    method.after_backward()
    assert torch.allclose(small.grad, 100 * large.grad, rtol=1e-4)


def test_descent_shrinks_groups_below_the_critical_norm_and_grows_those_above() -> None:
    (w,), method = on_layers([[0.1], [1.0], [3.0]])
    method.after_backward()
    norms = w.detach().flatten()
    critical = (norms**2).sum() / norms.sum()
    # The only column is a partition of its own, whose measure is constant.
    assert torch.equal(w.grad.flatten() > 0, norms < critical)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-22, 1e-17])
def test_zero_and_vanishing_groups_give_no_nan_and_stay(scale: float) -> None:
    torch.manual_seed(0)
    start = torch.randn(4, 5)
    start[2] *= scale
    start[:, 1] *= scale
    (w, all_small), method = on_layers(start.tolist(), (scale * torch.randn(3, 3)).tolist())
    method.after_backward()
    assert w.grad.isfinite().all()
    assert w.grad[2].abs().max() <= 10 * scale  # of the columns, which it hardly belongs to
    assert not all_small.grad.any()
    assert np.isfinite(method.status()["penalty"])


def test_nothing_overflows_at_the_edge_of_what_counts_as_zero() -> None:
    (w,), method = on_layers(np.full((300, 40), 1e-15).tolist())
    method.after_backward()
    assert w.grad.isfinite().all()


def test_a_tied_weight_counts_once() -> None:
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(4, 3))
    w.grad = torch.zeros_like(w)
    method = create("group-hs", [], {"a.weight": w, "b.weight": w}, lowest(), None, alpha=1.0, grouping="layers")
    (expected,) = torch.autograd.grad(sum(hoyer_square(norms_along(w, k)) for k in (0, 1)), w)
    method.after_backward()
    assert torch.allclose(w.grad, expected, atol=1e-6)


# -- traced units --------------------------------------------------------------------------------------------------


def test_units_agree_with_autograd_on_a_traced_network() -> None:
    module = network()
    params = dict(module.named_parameters())
    first, second, last = (params[f"{k}.weight"] for k in (0, 3, 6))
    partitions = [norms_along(first, 0), norms_along(second, 0), norms_along(second, 1),
                  last.view(10, 8, 4).transpose(0, 1).flatten(1).norm(dim=1)]  # fmt: skip
    expected = torch.autograd.grad(0.01 * sum(hoyer_square(p) for p in partitions), [first, second, last])
    for p in params.values():
        p.grad = torch.ones_like(p)
    method = bind("group-hs", module, alpha=0.01)
    method.after_backward()
    for w, gradient in zip((first, second, last), expected, strict=True):
        assert torch.allclose(w.grad - 1, gradient, atol=1e-6)
    assert all((p.grad == 1).all() for name, p in params.items() if p.ndim == 1)  # biases and batch norms are free
    assert method.status()["penalty"] == pytest.approx(0.01 * sum(hoyer_square(p) for p in partitions).item())


def test_coupled_filters_are_one_group() -> None:
    (a, (group,)), (b, _) = layer([[3.0, 0.0], [0.0, 1.0]]), layer([[4.0, 0.0], [0.0, 0.0]])
    member = group.members[0]
    both = type(group)("w", group.units, (member, type(member)("v", 0, Role.OUT, member.index)), "kind")
    for w in (a, b):
        w.grad = torch.zeros_like(w)
    method = create("group-hs", [both], {"w": a, "v": b}, lowest(1), None, alpha=1.0)
    norms = torch.stack([torch.cat([a[k], b[k]]).norm() for k in (0, 1)])
    expected = torch.autograd.grad(hoyer_square(norms), [a, b])
    method.after_backward()
    assert method.status()["penalty"] == pytest.approx(36 / 26)
    assert torch.allclose(a.grad, expected[0])
    assert torch.allclose(b.grad, expected[1])


def test_training_with_a_budget_and_with_a_threshold() -> None:
    module = network()
    method = bind("group-hs", module, alpha=0.02)
    train(module, method, optimizer_for(module), 200)
    assert [int(r.sum()) for r in method.removed()] == [5, 4]
    assert method.masks() is None
    assert accuracy(module) > 0.8
    w = module[3].weight.detach()
    large = w.abs() >= 0.8 * w.std(correction=0)
    assert torch.equal(bind("group-hs", module, threshold=0.8, refill=False).masks()["3.weight"], large)
    full = bind("group-hs", module, threshold=0.8).masks()["3.weight"]
    stay = large.any((1, 2, 3))[:, None, None, None] & large.any((0, 2, 3))[:, None, None]
    assert torch.equal(full, stay.expand_as(large))
    assert full.sum() > large.sum(), "zeros among what stays may grow again"
    assert full.flatten(1).any(1).sum() < 8  # training has emptied filters


def test_it_makes_filters_unequal() -> None:
    spread = []
    for alpha in (0.0, 0.05):
        module = network()
        train(module, bind("group-hs", module, alpha=alpha), optimizer_for(module), 100)
        norms = module[3].weight.detach().flatten(1).norm(dim=1)
        spread.append((norms.std() / norms.mean()).item())
    assert spread[1] > 1.5 * spread[0]


def test_it_resumes_bit_for_bit() -> None:
    check_resumes("group-hs", alpha=0.01)


def test_an_unknown_grouping_is_named() -> None:
    with pytest.raises(BadInput, match="grouping 'rows'"):
        bind("group-hs", network(), grouping="rows")


# -- parameter groups --------------------------------------------------------------------------------------------------


def test_groups_of_units_sum_what_belongs_to_them() -> None:
    params = dict(network().named_parameters())
    found = ParameterGroups.of_units(traced().groups, params, Role.IN)
    first, second = params["3.weight"].detach(), params["6.weight"].detach().view(10, 8, 4)
    expected = torch.cat([first.abs().sum((0, 2, 3)), second.abs().sum((0, 2))])
    assert torch.allclose(found.magnitudes().float(), expected)
    assert found.elements.tolist() == [32] * 10 + [40] * 8
    assert found.sizes.tolist() == [10, 8]
    squares = torch.cat([(first**2).sum((0, 2, 3)), (second**2).sum((0, 2))])
    assert torch.allclose(found.squares(), squares)


def test_groups_of_columns_are_those_of_the_unrolled_weight() -> None:
    params = dict(network().named_parameters())
    found = ParameterGroups.of_columns(traced().groups, params)
    expected = torch.cat([params[f"{k}.weight"].detach().flatten(1).abs().sum(0) for k in (0, 3)])
    assert torch.allclose(found.magnitudes().float(), expected)
    assert found.sizes.tolist() == [9, 40]


def test_masked_groups_are_named_by_weight() -> None:
    params = dict(network().named_parameters())
    found = ParameterGroups.of_units(traced().groups, params, Role.OUT)
    chosen = torch.zeros(found.count, dtype=torch.bool)
    chosen[[1, 3]] = True
    ((name, mask),) = found.masked(chosen)
    assert name == "0.weight"
    assert mask.flatten().nonzero().flatten().tolist() == [1, 3]
    assert found.fractions(chosen.numpy()) == {"0.weight": 0.2, "3.weight": 0.0}


def test_there_may_be_nothing_to_regularise() -> None:
    units, layers = ParameterGroups.of_units([], {}, Role.OUT), ParameterGroups.of_layers({}, 0)
    for found in (units, layers, ParameterGroups.of_columns([], {})):
        assert found.squares().numel() == found.magnitudes().numel() == found.parts == 0
        assert found.mean_magnitudes() == []
