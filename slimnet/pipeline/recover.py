"""Recovery of a decision: the weights that stay are fitted before anything is removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.common.clock import Clock
from slimnet.data.samples import Samples, evenly
from slimnet.data.unlabelled import LIMIT, Unlabelled, load_unlabelled
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.plan import Plan
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.pipeline.config import RunConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.recovery.recover import Recovered, recover
from slimnet.recovery.weights import WEIGHTS, load_weights, with_weights
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.feeds import index_bounds, input_dtypes


@dataclass(frozen=True)
class Recovery:
    """A decision whose kept weights were fitted.

    Attributes:
        decision: The decision, of the network with its fitted weights.
        removed: The units to remove from that network, bool [n_units].
        found: What recovery gave.
        source: What the inputs were, for plan and report.
        notes: What a user should know of them.
    """

    decision: PruningDecision
    removed: Bools
    found: Recovered
    source: str
    notes: tuple[str, ...]


def recovered(decision: PruningDecision, removed: Bools, plan: Plan, run: RunConfig, clock: Clock) -> Recovery | None:
    """Fit the weights that a decision keeps, where there are inputs and something is removed."""
    inputs = run.calib
    if not run.recover or not isinstance(inputs, Unlabelled) or decision.unchanged or not removed.any():
        return None
    net = decision.traced.net
    with clock("recover") as progress:
        found = recover(decision.traced, removed, inputs.feeds, run.backend, only=_own_names(net), progress=progress)
        if found.weights:
            fitted = refitted(net, found.weights, run.backend)
            now = trace(fitted, decision.traced.allow_inexact, decision.traced.prefer)
            decision = replace(decision, traced=now, dense=decision.dense or net.model)
            removed = now.removed(plan)
    return Recovery(decision, removed, found, inputs.name, inputs.notes)


def unlabelled(net: Net, run: RunConfig) -> Unlabelled | None:
    """The inputs of a run without their labels: what was asked for, or some of the training split of its data.

    Raises:
        BadInput: They cannot be used, or do not fit the network.
    """
    if isinstance(run.calib, Unlabelled):
        return run.calib
    if isinstance(run.calib, str):
        return load_unlabelled(run.calib, net, index_bounds(trace(net)) if _has_tokens(net) else None)
    if run.calib is not None:
        return Unlabelled("inputs of the caller", list(run.calib))
    data = run.dataset
    if data is None or data.train is None:
        return None
    feeds = feeds_of(net, evenly(data.train, LIMIT))
    # Of one batch, nothing can be held back; nobody has asked for recovery by these.
    return Unlabelled(f"{data.name}, training split", feeds) if len(feeds) > 1 else None


def ruins(found: Recovered) -> list[str]:
    """A warning in plain words where next to nothing of the network is left."""
    if not found.after.is_ruin:
        return []
    top1 = found.after.top1
    how = "its outputs are no nearer to the dense network's than a constant" if top1 is None else (
        f"it agrees with the dense network on {top1:.0%} of the inputs")  # fmt: skip
    return [f"{how}: lower the ratio, give more inputs, or give `data` and `epochs` to train it"]


def _has_tokens(net: Net) -> bool:
    return any(not dtype.is_floating_point() for dtype in input_dtypes(net).values())


@dataclass(frozen=True)
class _Batches(Sequence[Feeds]):
    """Samples as feeds of one input, each read when it is asked for: many runs have data and need none of these."""

    samples: Samples
    name: str
    size: int
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.samples) // self.size

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        first = range(len(self))[k] * self.size  # raises IndexError where a sequence has to
        x, _ = self.samples.__getitems__(np.arange(first, first + self.size))
        return {self.name: x.astype(self.dtype)}


def feeds_of(net: Net, samples: Samples) -> Sequence[Feeds]:
    """Samples as feeds of a network with one input, each with as many as its batch; what is left over is left out."""
    ((name, shape),) = net.inputs.items()
    return _Batches(samples, name, shape[0], input_dtypes(net)[name].numpy())


def refitted(net: Net, weights: Mapping[str, np.ndarray[Any, Any]], backend: Backend) -> Net:
    """A network with other weights; one from PyTorch gets a module of its own."""
    if net.torch is None:
        return replace(net, model=with_weights(net.model, weights))
    from slimnet.io.torch_copy import copied
    from slimnet.io.torch_slim import load_tensors
    from slimnet.training.graph import refreshed

    module = copied(net.torch.module)
    load_tensors(module, weights)
    return refreshed(net, module, backend)


def _own_names(net: Net) -> set[str] | None:
    """The weights of a module that are tensors of their own: others are computed, or shared."""
    if net.torch is None:
        return None
    state = {name: t for name, t in net.torch.module.state_dict().items() if t.is_floating_point()}
    shared = Counter(t.data_ptr() for t in state.values())
    return {name for name, t in state.items() if shared[t.data_ptr()] == 1}


def fitted_trace(traced: Trace, plan: Plan) -> Trace:
    """The trace of the network that a plan was carried out on: the dense one, or that with fitted weights.

    Raises:
        BadInput: The file of fitted weights is missing from beside the plan, or does not fit.
    """
    if "recovered" not in plan.provenance:
        return traced
    weights = load_weights(Path(plan.source).parent / WEIGHTS, traced, traced.removed(plan))
    net = replace(traced.net, model=with_weights(traced.net.model, weights))
    return trace(net, traced.allow_inexact, traced.prefer)
