"""A small traced network, the digits, and a plain training loop for the methods that act while a network trains."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import slimnet
from slimnet.graph.parameters import Use
from slimnet.graph.units import Group, Member, Role, Trace
from slimnet.methods import Scores, create
from slimnet.methods.training import TrainingMethod
from slimnet.planning.budget import choose

Bools = list[np.ndarray]


def network(seed: int = 0) -> nn.Sequential:
    """Groups of 10 filters ("0.weight", with a batch norm) and 8 ("3.weight")."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 10, 3, stride=2),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.Conv2d(10, 8, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@cache
def traced() -> Trace:
    return slimnet.trace(slimnet.load(network(), inputs="1x1x8x8"))


def picker(ratio: float, **options: Any) -> Callable[[Scores], Bools]:
    """The budget of the command line, for the network above."""

    def pick(scores: Scores) -> Bools:
        removed = choose(traced(), scores, ratio, **options)
        return [removed[group.units] for group in traced().groups]

    return pick


def bind(name: str, module: nn.Module, *, ratio: float = 0.5, steps: int | None = None, **options: Any) -> Any:
    params = dict(module.named_parameters())
    return create(name, traced().groups, params, picker(ratio), steps, **options)


def layer(weights: Any) -> tuple[nn.Parameter, list[Group]]:
    """One weight whose rows are the units of one group."""
    w = nn.Parameter(torch.tensor(np.asarray(weights), dtype=torch.float32))
    rows = np.arange(len(w))
    return w, [Group("w", rows, (Member("w", 0, Role.OUT, rows[:, None], Use("Gemm", "B")),), "kind")]


def lowest(*counts: int) -> Callable[[Scores], Bools]:
    """The budget that removes so many units of each group."""
    return lambda scores: [np.argsort(np.argsort(v)) < k for v, k in zip(scores, counts, strict=True)]


def bind_layer(
    name: str, weights: Any, count: int, steps: int | None = None, **options: Any
) -> tuple[nn.Parameter, Any]:
    w, groups = layer(weights)
    return w, create(name, groups, {"w": w}, lowest(count), steps, **options)


def idle(method: TrainingMethod, most: int = 200_000) -> int:
    """Steps that a method takes until it is finished, if nothing trains."""
    for step in range(most):
        if method.finished:
            return step
        method.before_forward()
        method.after_backward()
        method.after_step()
    return most


@cache
def digits() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    images = torch.from_numpy(x[order]).float().div(16).view(-1, 1, 8, 8)
    return images, torch.from_numpy(y[order])


def optimizer_for(module: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr, momentum=0.9, weight_decay=5e-4)


def train(module: nn.Module, method: TrainingMethod, optimizer: Any, steps: int, start: int = 0) -> float:
    """The loop as any user would write it; the last loss."""
    x, y = digits()
    for step in range(start, start + steps):
        rows = slice(step * 32 % 1600, step * 32 % 1600 + 32)
        method.before_forward()
        optimizer.zero_grad()
        loss = F.cross_entropy(module(x[rows]), y[rows])
        loss.backward()
        method.after_backward()
        optimizer.step()
        method.after_step()
    return loss.item()


def accuracy(module: nn.Module) -> float:
    x, y = digits()
    with torch.no_grad():
        return (module.eval()(x[1600:]).argmax(1) == y[1600:]).float().mean().item()


def stored(state: Any) -> Any:
    """What comes back from a file that is read without running code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def check_resumes(name: str, half: int = 15, **options: Any) -> None:
    """Two halves with a checkpoint between them give bit for bit what one run gives."""
    module = network()
    method, optimizer = bind(name, module, **options), optimizer_for(module)
    train(module, method, optimizer, 2 * half)

    first = network()
    bound, sgd = bind(name, first, **options), optimizer_for(first)
    train(first, bound, sgd, half)
    states = stored([first.state_dict(), sgd.state_dict(), bound.state_dict()])
    train(first, bound, sgd, half, start=half)  # the saved state must not follow the run it came from

    second = network()
    again, sgd = bind(name, second, **options), optimizer_for(second)
    second.load_state_dict(states[0])
    sgd.load_state_dict(states[1])
    again.load_state_dict(states[2])
    train(second, again, sgd, half, start=half)
    for a, b in zip(module.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert same(method.removed(), again.removed())
    assert same(method.masks(), again.masks())
    assert (method.status(), method.finished) == (again.status(), again.finished)


def same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    pairs = zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else zip(a, b, strict=True)
    return all((x == y).all() for x, y in pairs)
