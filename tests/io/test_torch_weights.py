"""The weights of a network from PyTorch are those its module has now, however they came there, or it is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import slimnet
from slimnet.io.torch_copy import copied
from slimnet.io.torch_weights import following
from slimnet.methods import GroupLasso
from slimnet.runtime.onnxruntime import DEFAULT


class Mixed(nn.Module):
    """Batch norm, a computed weight, tied weights, a scalar that the graph computes from, and tensors in attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 1))
        self.fc, self.tied = nn.Linear(16, 16), nn.Linear(16, 16)
        self.tied.weight = self.fc.weight
        self.last = nn.Linear(16, 5)
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("shift", torch.rand(16), persistent=False)
        self.scale = torch.full((16,), 2.0)
        self.listed = [torch.ones(16)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x)).mean((2, 3)) * self.scale * self.listed[0]
        x = torch.relu(self.tied(torch.relu(self.fc(x))) + self.shift)
        return self.last(x) / self.temperature.exp()


def made() -> Mixed:
    torch.manual_seed(0)
    module = Mixed()
    _randomise(module)
    return module


@torch.no_grad()
def _randomise(module: nn.Module, seed: int = 1) -> None:
    torch.manual_seed(seed)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if tensor.ndim < 2 else torch.randn_like(tensor) / 4)


def _trained(module: nn.Module) -> None:
    """By an optimizer, in train mode: batch norm sees its statistics change."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), 0.05)
    for seed in range(3):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        module(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def _amp(module: nn.Module) -> None:
    optimizer, scaler = torch.optim.SGD(module.parameters(), 0.01), torch.amp.GradScaler("cpu")
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.train()(torch.randn(4, 3, 8, 8)).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def _data(module: nn.Module) -> None:
    """Behind the back of autograd, whose counters do not notice."""
    for p in module.parameters():
        p.data = torch.randn_like(p) / 4
    module.first.weight.data.mul_(2)


def _replaced(module: nn.Module) -> None:
    module.first.weight = nn.Parameter(torch.randn_like(module.first.weight))
    module.norm = copy.deepcopy(module.norm)
    _randomise(module.norm, 2)


def _assigned(module: nn.Module) -> None:
    """Loaded without copying; that gives tied weights a tensor each, of the same values."""
    other = made()
    _randomise(other, 3)
    module.load_state_dict(other.state_dict(), assign=True)


def _loaded(module: nn.Module) -> None:
    other = made()
    _trained(other)
    module.load_state_dict(other.state_dict())


def _ema(module: nn.Module) -> None:
    """The average takes the place of the trained weights, as most scripts do before they save."""
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    _trained(module)
    average.update_parameters(module)
    module.load_state_dict(average.module.state_dict())


def _compiled(module: nn.Module) -> None:
    module.second = torch.compile(module.second, backend="eager")
    _randomise(module)


def _moved(module: nn.Module) -> None:
    """New memory for everything, as a move to another device and back gives."""
    module.to(torch.float64)
    _trained_as(module, torch.float64)
    module.to(torch.float32)


def _trained_as(module: nn.Module, dtype: torch.dtype) -> None:
    module(torch.randn(4, 3, 8, 8, dtype=dtype)).square().mean().backward()
    torch.optim.SGD(module.parameters(), 0.01).step()


def _attributes(module: Any) -> None:
    module.scale = torch.full((16,), 3.0)
    module.shift = torch.rand(16)


def _masked(module: nn.Module) -> None:
    """By torch, which makes the weight anew from two tensors in every forward."""
    prune.l1_unstructured(module.first, "weight", 0.5)
    prune.random_structured(module.last, "weight", 0.5, dim=0)
    _trained(module)


def _parametrized(module: nn.Module) -> None:
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

    parametrize.register_parametrization(module.last, "weight", Half())
    _trained(module)


def _folded(module: nn.Module) -> None:
    """What was computed in every forward is a weight like any other now."""
    parametrize.remove_parametrizations(module.second, "weight")


WAYS: list[Callable[[Any], None]] = [
    *(_trained, _amp, _data, _replaced, _assigned, _loaded, _ema, _compiled, _moved, _attributes, _masked),
    _parametrized,
]


def check_follows(trace: slimnet.Trace, module: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Traced graph and module agree, and so does what is slimmed: with the masked one, and with itself later."""
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    module.eval()
    with torch.no_grad():
        wanted = module(torch.from_numpy(x).to(dtype)).float().numpy()
    loose = {"atol": 1e-4 * np.abs(wanted).max(), "rtol": 0} if dtype.itemsize > 2 else {"rtol": 0.1, "atol": 0.1}
    np.testing.assert_allclose(DEFAULT.session(trace.net.model).run({"x": x})[0], wanted, **loose)
    plan = slimnet.plan(trace, "l1", 0.5, round_to=None)
    small = slimnet.slim(trace, plan)
    assert slimnet.verify(trace, plan, small, prove=False).exact
    once = DEFAULT.session(small).run({"x": x})[0]
    np.testing.assert_array_equal(DEFAULT.session(slimnet.slim(trace, trace.plan(np.zeros(trace.n_units, bool)))).run(
        {"x": x})[0], DEFAULT.session(trace.net.model).run({"x": x})[0])  # fmt: skip
    _data(module)
    np.testing.assert_array_equal(DEFAULT.session(small).run({"x": x})[0], once)


@pytest.fixture(scope="module")
def exported() -> slimnet.Net:
    return slimnet.load(made(), inputs="1x3x8x8")


@pytest.fixture
def module_and_trace(exported: slimnet.Net) -> tuple[Any, slimnet.Trace]:
    """A module that may be changed, and its trace; exporting anew for every test would take seconds."""
    source = exported.torch
    assert source is not None
    module = copied(source.module)
    net = replace(exported, model=following(exported.model, module), torch=replace(source, module=module))
    return module, slimnet.trace(net)


@pytest.mark.parametrize("change", WAYS, ids=lambda change: change.__name__[1:])
def test_a_trace_follows_its_module(module_and_trace, change):
    module, trace = module_and_trace
    change(module)
    check_follows(trace, module)


def test_a_fresh_trace_follows_what_was_loaded():
    module = made()
    trace = slimnet.trace(slimnet.load(module, inputs="1x3x8x8"))
    _trained(module)
    module.listed[0].mul_(4)
    check_follows(trace, module)
    _folded(module)
    with pytest.raises(slimnet.BadInput, match=r"second\.parametrizations\.weight\.\w+ is no tensor of"):
        slimnet.plan(trace)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_a_module_of_another_floating_type_is_followed_in_that_of_the_graph(module_and_trace, dtype):
    module, trace = module_and_trace
    module.to(dtype)
    module.scale, module.listed = module.scale.to(dtype), [module.listed[0].to(dtype)]
    weight = trace.net.params()["first.weight"]
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, module.first.weight.detach().float().numpy())
    check_follows(trace, module, dtype)


def _untied(module: Any) -> None:
    module.fc.weight = nn.Parameter(torch.randn(16, 16))


def _wider(module: Any) -> None:
    module.last = nn.Linear(16, 7)


def _narrower_in_place(module: Any) -> None:
    module.last.weight.data = torch.randn(5, 12)


def _integer(module: Any) -> None:
    module.shift = torch.ones(16, dtype=torch.int64)


def _gone(module: Any) -> None:
    module.norm = nn.Identity()


def _unmade(module: Any) -> None:
    module.to("meta")


def _plain(module: Any) -> None:
    """The weight is what some hook of the user's makes of others."""
    weight = module.last.weight.detach()
    del module.last.weight
    module.last.weight = weight


REFUSED = [
    (_untied, "fc.weight had the values of tied.weight when it was traced and has others now"),
    (_wider, "last.weight is 7x16 now and was 5x16 when it was traced"),
    (_narrower_in_place, "last.weight is 5x12 now and was 5x16 when it was traced"),
    (_integer, "shift is int64 now and was float32 when it was traced"),
    (_gone, "norm.weight is no tensor of the module any more"),
    (_unmade, "has no values any more"),
    (_plain, "last.weight is no tensor of the module any more"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=lambda given: getattr(given, "__name__", "")[1:])
def test_a_module_that_cannot_be_followed_is_refused(module_and_trace, change, says):
    module, trace = module_and_trace
    plan = slimnet.plan(trace)
    change(module)
    for use in (lambda: slimnet.slim(trace, plan), lambda: slimnet.mask(trace, plan)):
        with pytest.raises(slimnet.BadInput) as refused:
            use()
        assert says in str(refused.value)
        assert "load and trace the module as it is now" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_other_changes_than_of_weights_are_noticed_by_verify(module_and_trace):
    module, trace = module_and_trace
    plan = slimnet.plan(trace)
    slimnet.verify(trace, plan, prove=False)
    module.norm.eps = 1.0
    with pytest.raises(slimnet.VerifyFailed, match=r"no longer what was traced .*; load and trace it again"):
        slimnet.verify(trace, plan, prove=False)


def test_a_scalar_that_decides_what_can_be_removed_is_not_followed():
    """A power keeps zeros, so that a sum over channels may lose some, unless it is the power of zero."""

    class Powers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 8)
            self.power = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.relu(self.body(x)) ** self.power).sum(1)

    module = Powers()
    trace = slimnet.trace(slimnet.load(module, inputs="1x4"))
    plan = slimnet.plan(trace)
    slimnet.slim(trace, plan)
    nn.init.constant_(module.power, 3.0)
    slimnet.verify(trace, plan, prove=False)
    nn.init.zeros_(module.power)
    with pytest.raises(slimnet.BadInput, match="power changed since the network was traced, and with it what can be"):
        slimnet.slim(trace, plan)
    assert slimnet.trace(trace.net).n_units == 0


@pytest.mark.parametrize(
    "wrap",
    [
        *(nn.DataParallel, AveragedModel, lambda m: torch.compile(m, backend="eager")),
        lambda m: AveragedModel(nn.DataParallel(m)),
    ],
    ids=["DataParallel", "AveragedModel", "compiled", "both"],
)
def test_wrapped_modules_are_loaded_and_their_names_understood(wrap):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    wrapped = wrap(module)
    trace = slimnet.trace(slimnet.load(wrapped, inputs="1x4"))
    method = GroupLasso(trace.groups, dict(wrapped.named_parameters()), slimnet.picker(trace, round_to=None))
    wrapped(torch.randn(2, 4)).sum().backward()
    before = [p.grad.clone() for p in wrapped.parameters()]
    method.after_backward()
    assert not all(torch.equal(p.grad, g) for p, g in zip(wrapped.parameters(), before, strict=True))
    with torch.no_grad():
        for p in wrapped.parameters():
            p[1::2] = 0
    plan = slimnet.plan_of(trace, method)
    assert plan.kept["0.weight"][0].tolist() == [0, 2, 4, 6]


def test_parameters_of_another_module_are_refused():
    trace = slimnet.trace(slimnet.load(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), inputs="1x4"))
    with pytest.raises(slimnet.BadInput, match=r"`params`: none is a weight of the traced network, such as 0\.bias"):
        GroupLasso(trace.groups, dict(nn.Conv1d(3, 3, 3).named_parameters()))


def test_the_plan_of_one_module_slims_its_average():
    module = made()
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    _trained(module)
    average.update_parameters(module)
    plan = slimnet.plan(slimnet.trace(slimnet.load(module, inputs="1x3x8x8")), round_to=None)
    trace = slimnet.trace(slimnet.load(average, inputs="1x3x8x8"))
    slimnet.verify(trace, plan, prove=False)
    np.testing.assert_array_equal(trace.net.params()["last.weight"], average.module.last.weight.detach().numpy())


def test_pruning_step_by_step_from_one_trace(module_and_trace):
    """Every step masks more of what the last training left; the end is the module as it then is."""
    module, trace = module_and_trace
    for ratio in (0.25, 0.5, 0.75):
        plan = slimnet.plan(trace, "l1", ratio, round_to=None)
        for name, p in module.named_parameters(remove_duplicate=False):
            for axis, kept in plan.kept.get(name, {}).items() if name == "first.weight" else ():
                removed = torch.from_numpy(np.setdiff1d(np.arange(p.shape[axis]), kept))
                p.data.index_fill_(axis, removed, 0)
        group = trace.groups[0]
        norms = module.first.weight.detach().abs().sum((1, 2, 3)).numpy()
        assert set(np.flatnonzero(norms == 0)) == set(range(len(group))) - set(plan.kept["first.weight"][0].tolist())
        _trained(module)
    check_follows(trace, module)
