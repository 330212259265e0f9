"""Iterative pruning of single weights with rewinding: SAP, the lottery ticket and one-shot pruning.

Diao et al. 2023, "Pruning Deep Neural Networks from a Sparsity Perspective", Algorithm 1; lottery ticket: Frankle and
Carbin 2019. Every iteration trains the network from its first weights, under the mask it has, and then takes the
smallest weights out of the mask.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slimnet.analysis.compressibility import PAIRS, Rule, gini, pq_index, prunable
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.data.load import Data
from slimnet.graph.shrink import shrinkable
from slimnet.io.load import load
from slimnet.pipeline.export import CHECKPOINTS, Decision, Delivery, check_delivery, deliver
from slimnet.pipeline.finetune import Training, trainable
from slimnet.report.summary import Report
from slimnet.training import checkpoint
from slimnet.training.accelerator import accelerator_for
from slimnet.training.graph import refreshed
from slimnet.training.loop import History, Run
from slimnet.training.measure import accuracy
from slimnet.training.phase import Phase

METHODS = ("sap", "lottery", "one-shot")
SCOPES = ("global", "layer", "neuron")
#: As published, but for the epochs (200) and that the best epoch is one of the validation split, not the test split.
TRAIN = Phase(epochs=10, lr=0.1, nesterov=True, batch_size=250, schedule="cosine", clip=1.0, best=True)

Array = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Search:
    """How the mask is found.

    Attributes:
        method: "sap" takes as many weights as the PQ index allows, "lottery" a fixed fraction; both the smallest of the
            trained weights. "one-shot" takes the same fraction, the smallest of the trained dense network.
        scope: weights are compared, and counted, in the whole network, a layer, or a neuron (row or filter).
        iterations: how often weights are taken; the network is trained once more than that.
        rule: of SAP.
        fraction: that "lottery" and "one-shot" take of the weights that are left.
    """

    method: str = "sap"
    scope: str = "global"
    iterations: int = 30
    rule: Rule = field(default_factory=lambda: Rule(0.5, 1.0))
    fraction: float = 0.2

    def __post_init__(self) -> None:
        for option, value, known in (("method", self.method, METHODS), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise BadInput(f"--{option} {value}: is not known; choose one of: {', '.join(known)}")
        if not (self.iterations >= 0 and 0 < self.fraction < 1):
            raise BadInput(
                f"--iterations {self.iterations}, --fraction {self.fraction:g}: iterations cannot be negative, and the "
                "fraction lies between 0 and 1"
            )

    def to_json(self) -> dict[str, Any]:
        """What plans and reports say about it."""
        amount = self.rule.to_json() if self.method == "sap" else {"fraction": self.fraction}
        return {"method": self.method, "scope": self.scope, "iterations": self.iterations, **amount}


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        dense: weights and buffers after the first iteration, of the whole network.
        masks: bool by name of the parameter, true where a weight stays.
        iterations: per iteration {"iteration", "remaining" (fraction of the weights in the mask), "left" (by
            parameter), "pq" (one index for each of `PAIRS`, mean over the parts of the scope), "gini", "accuracy"
            (validation), "test", "epochs" (as the training loop records them)}.
    """

    dense: State
    masks: dict[str, Tensor]
    iterations: list[dict[str, Any]]


@dataclass
class Mask:
    """The weights of a network that may go: all parameters of two axes or more.

    Attributes:
        shapes: by name.
        kept: bool [n, d] by name, one row per index of the first axis: a row of a matrix, or a filter.
    """

    shapes: dict[str, tuple[int, ...]]
    kept: dict[str, Bools]

    @classmethod
    def whole(cls, module: nn.Module) -> Mask:
        """The mask of the dense network. Raises BadInput where it has no such weights."""
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters() if p.ndim > 1}
        if not shapes:
            raise BadInput("the network has no weights of two axes or more, so there is nothing to prune")
        return cls(shapes, {name: np.ones((shape[0], int(np.prod(shape[1:]))), bool) for name, shape in shapes.items()})

    def tensors(self) -> dict[str, Tensor]:
        """In the shapes of the parameters."""
        return {name: torch.from_numpy(kept.reshape(self.shapes[name])) for name, kept in self.kept.items()}

    @property
    def remaining(self) -> float:
        """Fraction of the weights that stay."""
        return sum(int(k.sum()) for k in self.kept.values()) / sum(k.size for k in self.kept.values())

    def parts(self, weights: Mapping[str, Array], scope: str) -> Iterator[tuple[Array, Bools]]:
        """Matrices [parts, d] of weights and their masks; a row is compared only with itself."""
        rows = [(weights[name].reshape(kept.shape), kept) for name, kept in self.kept.items()]
        if scope == "global":
            rows = [(np.concatenate([w.ravel() for w, _ in rows]), np.concatenate([k.ravel() for _, k in rows]))]
        for w, kept in rows:
            yield (w, kept) if scope == "neuron" else (w.reshape(1, -1), kept.reshape(1, -1))

    def without(self, weights: Mapping[str, Array], search: Search) -> Mask:
        """The mask after one more iteration; `weights` are those to rank by."""
        flat = np.concatenate([_without(w, kept, search).ravel() for w, kept in self.parts(weights, search.scope)])
        ends = np.cumsum([kept.size for kept in self.kept.values()])[:-1]
        pieces = zip(self.kept.items(), np.split(flat, ends), strict=True)
        return Mask(self.shapes, {name: part.reshape(kept.shape) for (name, kept), part in pieces})


def _without(w: Array, kept: Bools, search: Search) -> Bools:
    """Take the smallest weights of each row out of a mask; of equal ones the first."""
    if search.method == "sap":
        counts = prunable(w, search.rule, kept)
    else:
        counts = np.floor(search.fraction * kept.sum(axis=1) + 1e-9).astype(np.int64)
    order = np.argsort(np.where(kept, np.abs(w), np.inf), axis=1, kind="stable")
    gone = np.zeros_like(kept)
    np.put_along_axis(gone, order, np.arange(w.shape[1]) < counts[:, None], axis=1)
    return kept & ~gone


def prune_single(
    arch: str,
    weights: Path | None,
    data: Data,
    how: Search,
    phase: Phase,
    delivery: Delivery,
    device: str = "auto",
    resume: bool = False,
    clock: Clock | None = None,
) -> Report:
    """Search a mask, remove the channels that it empties, prove the result equal and write it.

    Args:
        arch: the network; `weights` is a checkpoint to rewind to, random weights if None.
        data: to train with.
        how, phase: of the search.
        delivery: where the results go.
        device, resume, clock: as for `search`.

    Returns:
        The report; its `training` holds the iterations.
    """
    clock = clock or Clock()
    with clock("load"):
        net = load(weights, arch, (1, *data.test.shape))
    check_delivery(net, delivery)
    module = trainable(net, Training(data), "slimnet sap")
    file = None if delivery.out is None else delivery.out / CHECKPOINTS / "search.pt"
    found = search(module, data, how, phase, device, file, resume, clock)
    sparse = refreshed(net, module)
    dense = copy.deepcopy(module)
    dense.load_state_dict(found.dense)
    zero = shrinkable(sparse)
    notes = [f"{name}: {count} empty filters leave a constant (bias or batch norm) and stay" for name, count in
             zero.constant.items()]  # fmt: skip
    record = {"settings": phase.to_json(), "epochs": found.iterations[-1]["epochs"], "iterations": found.iterations}
    decision = Decision(
        zero.trace, zero.removed, how.to_json(), notes, original=sparse.model, unchanged=True, gather=True,
        dense=refreshed(net, dense).model, training={"search": record}
    )  # fmt: skip
    report = deliver(decision, delivery, clock)
    if file is not None:
        checkpoint.forget(file)
    return report


def search(
    module: nn.Module,
    data: Data,
    how: Search,
    phase: Phase = TRAIN,
    device: str = "auto",
    file: Path | None = None,
    resume: bool = False,
    clock: Clock | None = None,
) -> Found:
    """Train and prune in turns; the module ends with the masked weights of the last iteration, on the CPU.

    Biases, batch norms and running statistics are rewound too. The optimizer is a new one in every iteration.

    Args:
        module: with the weights to rewind to.
        data: the best epoch of an iteration is one of its validation split; its test split decides nothing.
        how: method, scope and number of iterations.
        phase: of every iteration.
        device: "auto" or "cpu".
        file: checkpoint, written after every iteration.
        resume: go on from it, if it is there.
        clock: times the iterations and shows progress.

    Raises:
        BadInput: the checkpoint is of another search.
        TrainingFailed: the loss is no longer a number.
    """
    clock, first = clock or Clock(), _state(module)
    settings = {"search": how.to_json(), "phase": phase.to_json(), "data": data.name, "network": _shapes(module)}
    done = _Progress(Mask.whole(module))
    if resume and file is not None and file.exists():
        done = _Progress.load(file, settings)
    while len(done.records) <= how.iterations:
        if done.records:
            ranked = done.dense if how.method == "one-shot" else done.last
            done.mask = done.mask.without(_arrays(ranked), how)
        module.load_state_dict(first)
        history = _train(module, data, phase, done.mask, device, clock, len(done.records) / (how.iterations + 1))
        done.last = _state(module)
        done.dense = done.dense or done.last
        done.records.append(_record(module, data, how, done, history))
        if file is not None:
            done.save(file, settings)
    module.load_state_dict(done.last)
    module.cpu().eval()
    return Found(done.dense, done.mask.tensors(), done.records)


@dataclass
class _Progress:
    """Where a search stands."""

    mask: Mask
    dense: State = field(default_factory=dict)
    last: State = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def save(self, file: Path, settings: Mapping[str, Any]) -> None:
        content = {"settings": dict(settings), "epoch": len(self.records), "records": self.records,
                   "masks": self.mask.tensors(), "dense": self.dense, "last": self.last}  # fmt: skip
        checkpoint.save(file, content)

    @classmethod
    def load(cls, file: Path, settings: Mapping[str, Any]) -> _Progress:
        content = checkpoint.load(file)
        checkpoint.check_settings(file, content["settings"], settings)
        masks = {name: mask.numpy() for name, mask in content["masks"].items()}
        kept = {name: mask.reshape(len(mask), -1) for name, mask in masks.items()}
        mask = Mask({name: m.shape for name, m in masks.items()}, kept)
        return cls(mask, content["dense"], content["last"], content["records"])


def _train(module: nn.Module, data: Data, phase: Phase, mask: Mask, device: str, clock: Clock, start: float) -> History:
    accelerator = accelerator_for(phase, device)
    module.to(accelerator.device)
    run = Run(accelerator, module, data, phase, masks=mask.tensors())
    with clock("search") as progress:
        run.watch = lambda _, detail: progress(start, f"{mask.remaining:.1%} left, {detail}" if detail else "")
        return run.fit()


def _record(module: nn.Module, data: Data, how: Search, done: _Progress, history: History) -> dict[str, Any]:
    parts = list(done.mask.parts(_arrays(done.last), how.scope))

    def averaged(values: list[npt.NDArray[np.float64]]) -> float:
        return float(np.concatenate(values).mean())

    return {
        "iteration": len(done.records),
        "remaining": done.mask.remaining,
        "left": {name: int(kept.sum()) for name, kept in done.mask.kept.items()},
        "pq": [averaged([pq_index(w, p, q, kept) for w, kept in parts]) for p, q in PAIRS],
        "gini": averaged([gini(w, kept) for w, kept in parts]),
        "accuracy": accuracy(module, data.val) if data.val is not None else None,
        "test": accuracy(module, data.test),
        "epochs": history,
    }


def _state(module: nn.Module) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _arrays(state: State) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in state.items() if tensor.ndim > 1}


def _shapes(module: nn.Module) -> list[list[int]]:
    return [list(p.shape) for p in module.parameters()]
