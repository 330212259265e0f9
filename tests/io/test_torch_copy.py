"""Modules that hold more than parameters are pruned and copied, or refused in one line, and not changed by it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

import slimnet
from slimnet.io.torch_copy import copied, tensors_of, twin

IMAGE = "1x3x8x8"


class Detector(nn.Module):
    """Keeps what it has computed, as detectors do: grids of the last size, in attributes, a list and a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.size: Any = None
        self.anchors: Any = None
        self.seen: list[torch.Tensor] = []
        self.grids: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(x))
        if self.size != x.shape:
            self.size, self.anchors = x.shape, torch.arange(x.shape[-1]) + x.new_full((1,), 0.5)
        if x.shape[-1] not in self.grids:
            self.grids[x.shape[-1]] = torch.linspace(0, 1, x.shape[-1])
        self.seen.append(x)
        return self.head(x) * self.anchors + self.grids[x.shape[-1]]


class Derived(nn.Module):
    """Tensors that were computed from its parameters when it was made, one of them a view."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.twice, self.listed = self.head.weight * 2, [self.head.weight.sum()]
        self.turned = self.head.bias.view(1, 4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(x))
        return self.head(x) + nn.functional.conv2d(x, self.twice) + self.turned


def with_output() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    module.last = module(torch.randn(1, 3, 8, 8))
    return module


def used() -> nn.Module:
    module = Detector()
    module(torch.randn(1, 3, 8, 8))
    return module


def normed() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Conv2d(8, 4, 1))


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Conv2d(8, 4, 1))


def locked() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    module.lock = threading.Lock()
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("make", [Detector, used, Derived, with_output, normed, spectral, locked])
def test_a_module_that_holds_more_than_parameters_is_pruned(make):
    module = make()
    before = {name: list(vars(child).items()) for name, child in module.named_modules()}
    net = slimnet.load(module, inputs=IMAGE)
    trace = slimnet.trace(net)
    assert slimnet.verify(trace, slimnet.plan(trace, round_to=None), prove=False).exact
    report = slimnet.prune(net, "l1", slimnet.RunConfig(bench_seconds=0)).content
    assert report["params"]["after"] < report["params"]["before"]
    if make is Detector:
        assert module.size is module.anchors is None
        assert not module.seen
        assert not module.grids
    assert before.keys() == dict(module.named_modules()).keys()


def fake_attribute() -> nn.Module:
    module = Detector()
    with FakeTensorMode():
        module.grids[6] = torch.linspace(0, 1, 6)
    return module


def fake() -> nn.Module:
    with FakeTensorMode():
        return nn.Conv2d(3, 8, 3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU()),
            "0.weight is made at the first run; run the module once",
        ),
        (lambda: nn.Conv2d(3, 8, 3).to("meta"), "Conv2d: weight has no values"),
        (fake, "Conv2d: weight has no values"),
        (fake_attribute, "holds a fake tensor, as an export may leave behind; make that anew"),
    ],
    ids=["lazy", "meta", "fake", "fake attribute"],
)
def test_a_module_without_values_is_refused_in_one_line(make, says):
    with pytest.raises(slimnet.BadInput) as refused:
        slimnet.load(make(), inputs=IMAGE)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_copy_shares_nothing():
    module = Derived()
    copy = copied(module)
    pairs = list(zip(tensors_of(module), tensors_of(copy), strict=True))
    assert len(pairs) == 7
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)


def test_a_copy_may_share_some_tensors():
    module = Derived()
    assert copied(module, shared=[module.head.weight]).head.weight is module.head.weight


def test_a_twin_has_the_same_tensors_but_attributes_of_its_own():
    module = used()
    other = twin(module)
    other.anchors = None
    other.seen.clear()
    assert module.anchors is not None
    assert module.seen
    assert all(a is b for a, b in zip(module.parameters(), other.parameters(), strict=True))
    assert twin(locked()).lock


def test_what_cannot_be_copied_is_told_in_one_line():
    with pytest.raises(slimnet.BadInput, match=r"^Sequential: cannot be copied: cannot pickle '_thread.lock' object$"):
        copied(locked())
