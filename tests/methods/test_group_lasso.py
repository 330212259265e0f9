import pytest
import torch

from tests.networks.regularised import accuracy, bind, bind_layer, check_resumes, network, optimizer_for, train


def test_the_value_and_gradient_by_hand() -> None:
    w, method = bind_layer("group-lasso", [[3.0, 4.0], [0.0, 0.0]], 1, strength=0.1)
    w.grad = torch.zeros_like(w)
    method.after_backward()
    root = 2**0.5  # of two elements
    assert method.status()["penalty"] == pytest.approx(0.1 * root * 5)
    assert w.grad[0].tolist() == pytest.approx([0.1 * root * 0.6, 0.1 * root * 0.8])
    assert w.grad[1].tolist() == [0, 0]


def test_it_agrees_with_autograd_on_a_traced_network() -> None:
    module = network()
    first, second = module[0].weight, module[3].weight
    value = 0.3 * (9**0.5 * first.flatten(1).norm(dim=1).sum() + 40**0.5 * second.flatten(1).norm(dim=1).sum())
    expected = torch.autograd.grad(value, [first, second])
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    method = bind("group-lasso", module, strength=0.3)
    method.after_backward()
    assert torch.allclose(first.grad, expected[0], atol=1e-6)
    assert torch.allclose(second.grad, expected[1], atol=1e-6)
    assert not any(p.grad.any() for p in module.parameters() if p is not first and p is not second)
    assert method.status()["penalty"] == pytest.approx(value.item())


@pytest.mark.parametrize("scale", [0.0, 1e-40, 1e-22])
def test_vanishing_filters_stay_as_they_are(scale: float) -> None:
    w, method = bind_layer("group-lasso", [[scale, scale], [1.0, 1.0]], 1, strength=1.0)
    w.grad = torch.zeros_like(w)
    method.after_backward()
    assert w.grad.isfinite().all()
    assert not w.grad[0].any()


def test_training_removes_by_the_budget() -> None:
    module = network()
    method = bind("group-lasso", module, strength=2e-3)
    train(module, method, optimizer_for(module), 200)
    removed = method.removed()
    assert [int(r.sum()) for r in removed] == [5, 4]
    assert method.masks() is None
    norms = module[3].weight.detach().abs().sum((1, 2, 3))
    gone = torch.from_numpy(removed[1])
    assert norms[gone].max() <= norms[~gone].min()
    assert accuracy(module) > 0.8


def test_it_resumes_bit_for_bit() -> None:
    check_resumes("group-lasso", strength=1e-3)
