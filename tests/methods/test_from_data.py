from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet.calibration.gradients import fisher, gradients
from slimnet.common.errors import BadInput
from slimnet.data.samples import Samples
from slimnet.graph.units import Group, Member, Role
from slimnet.methods import ActivationStatistics, DataMethod, create
from slimnet.methods.from_data import entropies

NEEDS = {
    "apoz": "activations",
    "entropy": "activations",
    "taylor-l1": "gradients",
    "taylor-l2": "gradients",
    "fisher": "fisher",
}


def group(tensor: str = "w", units: int = 1, axis: int = 0, role: Role = Role.OUT) -> Group:
    member = Member(tensor, axis, role, np.arange(units)[:, None])
    return Group(tensor, np.arange(units), (member,), "kind")


def ranked(name: str, statistics: Any, params: Any, groups: list[Group], **options: Any) -> list[np.ndarray]:
    made = create(name, **options)
    assert isinstance(made, DataMethod)
    made.statistics = statistics
    return made.score(params, groups)


# -- values by hand --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "want"), [("taylor-l1", 0.8), ("taylor-l2", 0.509902)])
def test_taylor_by_hand(name, want):
    g, w = np.array([[0.1, 0.2, -0.1]]), np.array([[1.0, -2.0, 3.0]])
    assert ranked(name, {"w": g}, {"w": w}, [group()])[0] == pytest.approx([want], abs=1e-6)


def test_fisher_by_hand():
    h, w = np.array([[4.0], [1.0], [0.1]]), np.array([[1.0], [2.0], [-3.0]])
    assert ranked("fisher", {"w": h}, {"w": w}, [group(units=3)])[0] == pytest.approx([2, 2, 0.45])


@pytest.mark.parametrize(
    ("values", "bins", "want"),
    [([0, 0, 1, 1], 2, 0.693147), ([0, 1 / 3, 2 / 3, 1], 4, 1.386294), ([5, 5, 5, 5], 100, 0), ([1], 10, 0)],
)
def test_entropy_by_hand(values, bins, want):
    pooled = np.array(values, float)[:, None]
    maps = {"w": ActivationStatistics(np.zeros(1), pooled)}
    assert ranked("entropy", maps, {}, [group()], bins=bins)[0] == pytest.approx([want], abs=1e-6)


def test_entropy_of_many_units_is_that_of_numpy_histograms():
    pooled = np.random.default_rng(0).normal(size=(500, 7)) * 10.0 ** np.arange(-3, 4)
    counts = np.array([np.histogram(column, 20)[0] for column in pooled.T]) / 500
    want = [-sum(p * np.log(p) for p in row if p) for row in counts]
    np.testing.assert_allclose(entropies(pooled, 20), want, rtol=1e-9)


def test_apoz_ranks_by_the_active_fraction():
    maps = {"w": ActivationStatistics(np.array([0.5, 0.0, 0.9]), np.zeros((2, 3)))}
    assert ranked("apoz", maps, {}, [group(units=3)])[0].tolist() == [0.5, 0.0, 0.9]
    assert create("apoz", sigma=0.5).measurement_options() == {"above": 0.5}


def test_largest_is_l1_upside_down_within_and_between_groups():
    params = {"w": np.array([[1.0], [-3.0], [2.0]]), "v": np.array([[10.0], [30.0]])}
    groups = [group("w", 3), group("v", 2)]
    largest, l1 = create("largest"), create("l1")
    low, norms = largest.score(params, groups), l1.score(params, groups)
    assert [values.tolist() for values in low] == [[-1, -3, -2], [-10, -30]]
    turned, straight = largest.normalise(groups, low), l1.normalise(groups, norms)
    for a, b in zip(turned, straight, strict=True):
        np.testing.assert_array_equal(a, -b)


# -- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "needs"), NEEDS.items())
def test_without_statistics_the_user_is_told_what_is_needed(name, needs):
    made = create(name)
    assert isinstance(made, DataMethod)
    assert made.needs == needs
    with pytest.raises(BadInput, match="needs `data`"):
        made.score({"w": np.ones((1, 3))}, [group()])


@pytest.mark.parametrize("name", ["taylor-l1", "taylor-l2", "fisher"])
def test_a_group_without_gradients_is_not_ranked(name):
    params = {"w": np.ones((2, 3)), "v": np.ones((2, 3))}
    first, second = ranked(name, {"w": np.ones((2, 3))}, params, [group("w", 2), group("v", 2)])
    assert np.isfinite(first).all()
    assert np.isnan(second).all()
    with pytest.raises(BadInput, match="no gradient of a removable filter"):
        ranked(name, {}, params, [group("w", 2)])


def test_a_group_without_activations_is_not_ranked():
    for name in ("apoz", "entropy"):
        assert np.isnan(ranked(name, {}, {}, [group(units=2)])[0]).all()


def test_gradients_of_another_network_are_refused():
    with pytest.raises(BadInput, match=r"tensor 'w': has shape \[2, 3\]"):
        ranked("fisher", {"w": np.ones((3, 3))}, {"w": np.ones((2, 3))}, [group("w", 2)])


def test_an_empty_histogram_is_refused():
    with pytest.raises(BadInput, match="bins=0"):
        create("entropy", bins=0)


# -- gradients of a module -------------------------------------------------------------------------------------------


class Net(nn.Module):
    """With batch norm and dropout, which have to be in eval mode, a buffer, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight
        self.head = nn.Linear(16, 3)
        self.unused = nn.Parameter(torch.ones(2))
        self.norm.running_mean.uniform_(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(self.drop(F.relu(self.b(F.relu(self.a(x))))))


class Stubborn(Net):
    """Looks at values, which vmap cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2.0 if x.sum().item() > -1e9 else 1.0)


def samples(count: int = 30) -> Samples:
    rng = np.random.default_rng(0)
    return Samples(rng.standard_normal((count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


def one_by_one(module: nn.Module, data: Samples) -> dict[str, Tensor]:
    """Gradients of single samples, stacked."""
    names, rows = [name for name, _ in module.named_parameters()], []
    module.eval()
    for x, y in data.batches(1):
        module.zero_grad()
        F.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        rows.append(
            {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}
        )
    module.zero_grad()
    return {name: torch.stack([row[name] for row in rows]) for name in names}


def test_gradients_are_the_mean_over_all_samples_in_eval_mode():
    module, data = Net(), samples()
    want = one_by_one(module, data)
    for batch in (7, 256):
        found = gradients(module, data, batch)
        for name, rows in want.items():
            np.testing.assert_allclose(found[name], rows.mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", [Net, Stubborn])
def test_fisher_is_the_mean_of_squares(kind):
    module, data = kind(), samples()
    want = one_by_one(module, data)
    for batch in (7, 64):
        found = fisher(module, data, batch)
        for name, rows in want.items():
            np.testing.assert_allclose(found[name], rows.square().mean(0), rtol=1e-4, atol=1e-8)


def test_fisher_of_a_limited_number_takes_evenly_spaced_samples():
    module, data = Net(), samples()
    want = one_by_one(module, data.take(np.arange(0, 30, 3)))
    np.testing.assert_allclose(fisher(module, data, limit=10)["head.weight"], want["head.weight"].square().mean(0),
                               rtol=1e-4, atol=1e-8)  # fmt: skip


@pytest.mark.parametrize("measure", [gradients, fisher])
def test_the_module_is_left_as_it_is_and_tied_weights_have_both_names(measure):
    module = Net().train()
    module.drop.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = measure(module, samples())
    assert module.training
    assert module.norm.training
    assert not module.drop.training
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert np.array_equal(found["a.weight"], found["b.weight"])
    assert found.keys() == dict(module.named_parameters(remove_duplicate=False)).keys()
    assert not found["unused"].any()


@pytest.mark.parametrize(("name", "measure"), [("fisher", fisher), ("taylor-l1", gradients), ("taylor-l2", gradients)])
def test_a_unit_that_nobody_reads_has_the_lowest_score(name, measure):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        module[3].weight[:, 5] = 0
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}
    (scores,) = ranked(name, measure(module, samples()), params, [group("1.weight", 8)])
    assert scores[5] == 0
    assert (np.delete(scores, 5) > 0).all()
