from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slimnet.common.errors import BadInput
from slimnet.methods import create
from slimnet.methods.elementwise import ElementWise
from slimnet.methods.lookup import find

VALUES = {
    "hoyer": lambda w: w.abs().sum() / w.square().sum().sqrt(),
    "hoyer-square": lambda w: w.abs().sum() ** 2 / w.square().sum(),
}


def parameters(**values: Any) -> dict[str, Tensor]:
    """Parameters whose gradients are zero."""
    params = {name: torch.nn.Parameter(torch.as_tensor(v, dtype=torch.float32)) for name, v in values.items()}
    for p in params.values():
        p.grad = torch.zeros_like(p)
    return params


def method(name: str, params: Mapping[str, Tensor], **options: Any) -> ElementWise:
    made = create(name, [], params, **options)
    assert isinstance(made, ElementWise)
    return made


def gradient(name: str, w: Any, **options: Any) -> np.ndarray:
    """What the method adds to the gradient of one tensor."""
    params = parameters(w=w)
    method(name, params, **{"alpha": 1.0, **options}).after_backward()
    return params["w"].grad.numpy()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- values by hand --------------------------------------------------------------------------------------------------


def test_hoyer_square_by_hand():
    params = parameters(w=[3, -1, 0.5, 0])
    made = method("hoyer-square", params, alpha=1.0)
    made.after_backward()
    assert made.status()["penalty"] == pytest.approx(1.975610, abs=1e-6)
    assert params["w"].grad.numpy() == pytest.approx([-0.278406, -0.492564, 0.685306, 0], abs=1e-6)


def test_hoyer_by_hand():
    """L1 = 4.5 and S = 10.25: (sgn(w) - w L1/S) / sqrt(S)."""
    params = parameters(w=[3, -1, 0.5, 0])
    made = method("hoyer", params, alpha=1.0)
    made.after_backward()
    assert made.status()["penalty"] == pytest.approx(4.5 / 10.25**0.5)
    assert params["w"].grad.numpy() == pytest.approx([-0.09902, -0.17522, 0.24378, 0], abs=2e-5)


@pytest.mark.parametrize(("w", "value"), [([0, 7, 0], 1), ([2, -2, 2, 2], 4)])
def test_hoyer_square_counts_equal_weights(w, value):
    made = method("hoyer-square", parameters(w=w), alpha=1.0)
    made.after_backward()
    assert made.status()["penalty"] == pytest.approx(value)


# -- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
def test_the_gradient_is_that_of_autograd(name):
    params = parameters(w=random(6, 4, 3, 3), b=random(6, seed=1), one=random(1, seed=2))
    params["w"].grad.fill_(0.25)
    made = method(name, params, alpha=0.3)
    made.after_backward()
    doubles = [p.detach().double().requires_grad_() for p in params.values()]
    penalty = 0.3 * sum(VALUES[name](w) for w in doubles)
    penalty.backward()
    assert made.status()["penalty"] == pytest.approx(penalty.item(), rel=1e-6)
    for (key, p), w in zip(params.items(), doubles, strict=True):
        want = w.grad + (0.25 if key == "w" else 0)
        torch.testing.assert_close(p.grad.double(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", VALUES)
def test_scale_does_not_matter(name):
    """The gradient is that of a function of direction only: the same over the scale, and orthogonal to w."""
    w = random(40, 30)
    g = gradient(name, w)
    np.testing.assert_allclose(gradient(name, 50 * w), g / 50, rtol=1e-4, atol=1e-7)
    assert float((g * w.numpy()).sum()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", VALUES)
def test_descent_shrinks_exactly_the_weights_below_the_balance(name):
    w = random(500)
    shrinks = gradient(name, w) * np.sign(w.numpy()) > 0
    assert np.array_equal(shrinks, (w.abs() < w.square().sum() / w.abs().sum()).numpy())


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
@pytest.mark.parametrize("w", [np.zeros((3, 2)), np.full(4, 1e-25), np.full(4, 1e-18), [0.0], 0.0])
def test_zeros_stay_zero_and_nothing_overflows(name, w):
    g = gradient(name, w)
    assert np.isfinite(g).all()
    assert not g[np.asarray(w) == 0].any()


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
def test_zeros_among_others_stay_zero(name):
    w = torch.where(random(20, 20) > 0, random(20, 20, seed=1), 0)
    g = gradient(name, w)
    assert np.array_equal(g == 0, (w == 0).numpy())


@pytest.mark.parametrize("name", VALUES)
def test_sums_over_many_weights_are_exact(name):
    """Adding up two million float32 one by one would be wrong in the third digit."""
    w = random(2_000_000) * 0.02
    made = method(name, parameters(w=w), alpha=1.0)
    made.after_backward()
    assert made.status()["penalty"] == pytest.approx(VALUES[name](w.double()).item(), rel=1e-5)


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
def test_half_precision_is_worked_on_in_single(name):
    w = random(30, 30)
    half = torch.nn.Parameter(w.half())
    half.grad = torch.zeros_like(half)
    method(name, {"w": half}, alpha=1.0).after_backward()
    assert half.grad.dtype == torch.float16
    np.testing.assert_allclose(half.grad.float().numpy(), gradient(name, w.half().float()), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
def test_what_has_no_gradient_is_left_alone(name):
    params = parameters(w=[1.0, 2.0])
    params["frozen"] = torch.ones(3)
    method(name, params).after_backward()
    assert params["frozen"].grad is None
    method(name, {"frozen": torch.ones(3)}).after_backward()


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
def test_a_tensor_with_two_names_is_one_term(name):
    params = parameters(w=[1.0, 2.0, 0.5])
    made = method(name, params | {"tied": params["w"]}, alpha=1.0)
    made.after_backward()
    assert np.array_equal(params["w"].grad.numpy(), gradient(name, [1.0, 2.0, 0.5]))
    assert list(made.masks()) == ["w", "tied"]


# -- which parameters, and masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
def test_biases_count_unless_only_weights_are_asked_for(name):
    for which, touched in (("all", True), ("weights", False)):
        params = parameters(w=random(4, 3), b=random(4))
        made = method(name, params, parameters=which)
        made.after_backward()
        assert bool(params["b"].grad.any()) == touched
        assert params["w"].grad.any()
        assert list(made.masks()) == (["w", "b"] if touched else ["w"])


def test_masks_are_cut_at_a_fraction_of_the_population_deviation():
    params = parameters(w=[[3.0, -1.0], [0.5, 0.1]], b=[2.0, 0.0])
    masks = method("hoyer-square", params, threshold=0.4).masks()
    level = 0.4 * np.std([3.0, -1.0, 0.5, 0.1])
    assert 0.5 < level < 1
    assert masks["w"].tolist() == [[True, True], [False, False]]
    assert masks["b"].tolist() == [True, False]


def test_masks_at_an_absolute_threshold():
    params = parameters(w=[[3.0, -1.0], [0.5, 0.1]])
    assert method("hoyer", params, absolute=0.5).masks()["w"].tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("w", [[0.3], 0.3, [0.7, 0.7, 0.7], [0.0, 0.0]])
def test_tensors_without_spread_keep_everything(w):
    assert method("hoyer-square", parameters(w=w), threshold=0.8).masks()["w"].all()


def test_status_tells_how_much_is_below_the_threshold():
    made = method("hoyer-square", parameters(w=[1.0, 2.0, 0.0, 0.0]), absolute=0.5)
    assert made.status()["sparsity"] == 0.5


@pytest.mark.parametrize("name", [*VALUES, "transformed-l1"])
def test_an_unknown_choice_is_told(name):
    with pytest.raises(BadInput, match="parameters 'biases' is not known"):
        create(name, [], {}, parameters="biases")


def test_published_strengths_are_the_defaults():
    assert (find("hoyer-square").alpha, find("hoyer-square").threshold) == (1e-4, 0.03)
    assert find("hoyer").alpha == 0.01
    assert (find("transformed-l1").alpha, find("transformed-l1").threshold) == (2e-5, 0.3)


def test_training_with_it_makes_weights_sparse():
    """Least squares with one useful input of ten: the others fall below the threshold, and none without it."""
    x = random(200, 10)
    y = x[:, :1] * 2 + random(200, 1, seed=1)
    kept = []
    for alpha in (0.0, 0.1):
        params = {"w": torch.nn.Parameter(0.3 * random(10, 1, seed=2))}
        made = method("hoyer-square", params, alpha=alpha, threshold=0.03)
        optimizer = torch.optim.SGD(params.values(), lr=0.02)
        for _ in range(300):
            optimizer.zero_grad()
            (x @ params["w"] - y).square().mean().backward()
            made.after_backward()
            optimizer.step()
        kept.append(int(made.masks()["w"].sum()))
    assert kept[1] < kept[0]
    assert made.masks()["w"][0]
