import numpy as np
import pytest
import torch

from slimnet.common.errors import BadInput
from slimnet.methods import create


def after(w, **options):
    """The penalty and the gradient of one tensor."""
    p = torch.nn.Parameter(torch.as_tensor(w, dtype=torch.float32))
    p.grad = torch.zeros_like(p)
    made = create("transformed-l1", [], {"w": p}, **{"alpha": 1.0, **options})
    made.after_backward()
    return made.status()["penalty"], p.grad.numpy()


def test_by_hand():
    """2|w| / (1 + |w|) and 2 sgn(w) / (1 + |w|)^2."""
    penalty, gradient = after([3, -1, 0.5, 0])
    assert penalty == pytest.approx(1.5 + 1 + 2 / 3)
    assert gradient == pytest.approx([2 / 16, -2 / 4, 2 / 2.25, 0])


@pytest.mark.parametrize("a", [0.1, 1.0, 20.0])
def test_the_gradient_is_that_of_autograd(a):
    w = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    double = w.double().requires_grad_()
    value = 0.3 * ((a + 1) * double.abs() / (a + double.abs())).sum()
    value.backward()
    penalty, gradient = after(w, alpha=0.3, a=a)
    assert penalty == pytest.approx(value.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, double.grad.numpy(), rtol=1e-5)


def test_between_the_count_and_the_l1_norm():
    w = [3, -1, 0.5, 0]
    assert after(w, a=1e-6)[0] == pytest.approx(3, rel=1e-5)
    assert after(w, a=1e6)[0] == pytest.approx(4.5, rel=1e-5)


def test_the_shape_has_to_be_positive():
    with pytest.raises(BadInput, match="a=0 must be positive"):
        create("transformed-l1", [], {}, a=0)
