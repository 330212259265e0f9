"""Iterative pruning of single weights with rewinding: SAP, the lottery ticket and one-shot pruning.

Diao et al. 2023, "Pruning Deep Neural Networks from a Sparsity Perspective", Algorithm 1; lottery ticket: Frankle and
Carbin 2019. Every iteration trains the network from its first weights, under the mask it has, and then takes the
smallest weights out of the mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slimnet.analysis.compressibility import PAIRS, gini, pq_index, prunable
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.common.files import check_writable
from slimnet.data.load import Data
from slimnet.graph.shrink import shrinkable
from slimnet.io.load import load
from slimnet.io.torch_copy import copied
from slimnet.pipeline.config import REWOUND, IterativeConfig, RunConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.pipeline.export import CHECKPOINTS, carry_out, prepared
from slimnet.pipeline.finetune import trainable
from slimnet.pipeline.load import loaded
from slimnet.report.summary import Report
from slimnet.training import checkpoint
from slimnet.training.accelerator import accelerator_for
from slimnet.training.graph import refreshed
from slimnet.training.loop import History, Run
from slimnet.training.measure import accuracy
from slimnet.training.phase import Phase

Array = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        dense: The weights and buffers of the whole network after the first iteration, by name.
        masks: The masks by the parameter's name: bool in its shape, true where a weight stays.
        iterations: One record per iteration: {"iteration", "remaining" (fraction of the weights in the mask), "left"
            (by parameter), "pq" (one index for each of `PAIRS`, mean over the parts of the scope), "gini", "accuracy"
            (validation), "test", "epochs" (as the training loop records them)}.
    """

    dense: State
    masks: dict[str, Tensor]
    iterations: list[dict[str, Any]]


@dataclass
class Mask:
    """The mask of the weights that may be removed: all parameters of two axes or more.

    Attributes:
        shapes: The shape of each parameter, by its name.
        kept: The mask of each parameter, by its name: bool [n, d], true where a weight stays, one row per index of the
            first axis (a row of a matrix, or a filter).
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
        """The masks as tensors, in the shapes of the parameters."""
        return {name: torch.from_numpy(kept.reshape(self.shapes[name])) for name, kept in self.kept.items()}

    @property
    def remaining(self) -> float:
        """The fraction of the weights that stay."""
        return sum(int(k.sum()) for k in self.kept.values()) / sum(k.size for k in self.kept.values())

    def parts(self, weights: Mapping[str, Array], scope: str) -> Iterator[tuple[Array, Bools]]:
        """Matrices [parts, d] of weights and their masks; a row is compared only with itself."""
        rows = [(weights[name].reshape(kept.shape), kept) for name, kept in self.kept.items()]
        if scope == "global":
            rows = [(np.concatenate([w.ravel() for w, _ in rows]), np.concatenate([k.ravel() for _, k in rows]))]
        for w, kept in rows:
            yield (w, kept) if scope == "neuron" else (w.reshape(1, -1), kept.reshape(1, -1))

    def without(self, weights: Mapping[str, Array], config: IterativeConfig) -> Mask:
        """The mask after one more iteration; `weights` are those to rank by."""
        flat = np.concatenate([_without(w, kept, config).ravel() for w, kept in self.parts(weights, config.scope)])
        ends = np.cumsum([kept.size for kept in self.kept.values()])[:-1]
        parts = zip(self.kept.items(), np.split(flat, ends), strict=True)
        return Mask(self.shapes, {name: part.reshape(kept.shape) for (name, kept), part in parts})


def _without(w: Array, kept: Bools, config: IterativeConfig) -> Bools:
    """Take the smallest weights of each row out of a mask; of equal ones the first."""
    if config.method == "sap":
        counts = prunable(w, config.rule, kept)
    else:
        counts = np.floor(config.fraction * kept.sum(axis=1) + 1e-9).astype(np.int64)
    order = np.argsort(np.where(kept, np.abs(w), np.inf), axis=1, kind="stable")
    removed = np.zeros_like(kept)
    np.put_along_axis(removed, order, np.arange(w.shape[1]) < counts[:, None], axis=1)
    return kept & ~removed


def prune_single(
    arch: str, weights: Path | None, config: IterativeConfig, run: RunConfig, clock: Clock | None = None
) -> Report:
    """Search a mask, remove the channels that it empties, prove the result equal and write it.

    Args:
        arch: The class of the network, as `ModelConfig.arch` names it.
        weights: The checkpoint to rewind to; None rewinds to random weights.
        config: How weights are taken, and how the network is trained meanwhile.
        run: The run config: where the results go, and the `data` to train with.
        clock: The clock that times the steps.

    Returns:
        The report; its `training` holds the iterations.

    Raises:
        BadInput: an architecture or data that do not fit, or the checkpoint of another search.
        VerifyFailed: the outputs differ; nothing is written.
        TrainingFailed: the loss is no longer a number.
    """
    clock, phase = clock or Clock(), config.phase
    assert config.rule is not None
    if run.folder is not None:
        check_writable(run.folder)
    with clock("data"):
        data = loaded(run.data)
    assert data is not None
    with clock("load"):
        net = load(weights, arch, (1, *data.test.shape))
    run = prepared(net, replace(run, data=data))
    module = trainable(net, data, "slimnet sap")
    file = None if run.folder is None else run.folder / CHECKPOINTS / "search.pt"
    found = search(module, data, config, phase, config.device, file, config.resume, clock)
    sparse = refreshed(net, module, run.backend)
    dense = copied(module)
    dense.load_state_dict(found.dense)
    zero = shrinkable(sparse)
    notes = [f"{name}: {count} empty filters leave a constant (bias or batch norm) and stay" for name, count in
             zero.constant.items()]  # fmt: skip
    record = {"settings": phase.to_json(), "epochs": found.iterations[-1]["epochs"], "iterations": found.iterations}
    decision = PruningDecision.masked_weights(
        zero, sparse, config.provenance(), notes, dense=refreshed(net, dense, run.backend), training={"search": record}
    )
    report = carry_out(decision, run, clock)
    if file is not None:
        checkpoint.forget(file)
    return report


def search(
    module: nn.Module,
    data: Data,
    config: IterativeConfig,
    phase: Phase = REWOUND,
    device: str = "auto",
    file: Path | None = None,
    resume: bool = False,
    clock: Clock | None = None,
) -> Found:
    """Train and prune in turns; the module ends with the masked weights of the last iteration, on the CPU.

    Biases, batch norms and running statistics are rewound too. The optimizer is a new one in every iteration.

    Args:
        module: The module to prune, with the weights to rewind to.
        data: The data to train with; their validation split chooses the best epoch of an iteration, and their test
            split decides nothing.
        config: The method, the scope and the number of iterations.
        phase: The settings of the training in every iteration.
        device: The device to train on: "auto" or "cpu".
        file: The checkpoint, written after every iteration; None writes none.
        resume: Whether to go on from the checkpoint, if it is there.
        clock: The clock that times the iterations and shows progress.

    Raises:
        BadInput: the checkpoint is of another search.
        TrainingFailed: the loss is no longer a number.
    """
    clock, first = clock or Clock(), _state(module)
    settings = {"search": config.provenance(), "phase": phase.to_json(), "data": data.name, "network": _shapes(module)}
    done = _Progress(Mask.whole(module))
    if resume and file is not None and file.exists():
        done = _Progress.load(file, settings)
    while len(done.records) <= config.iterations:
        if done.records:
            ranked = done.dense if config.method == "one-shot" else done.last
            done.mask = done.mask.without(_arrays(ranked), config)
        module.load_state_dict(first)
        history = _train(module, data, phase, done.mask, device, clock, len(done.records) / (config.iterations + 1))
        done.last = _state(module)
        done.dense = done.dense or done.last
        done.records.append(_record(module, data, config, done, history))
        if file is not None:
            done.save(file, settings)
    module.load_state_dict(done.last)
    module.cpu().eval()
    return Found(done.dense, done.mask.tensors(), done.records)


@dataclass
class _Progress:
    """The state of a search after some of its iterations, as its checkpoint holds it."""

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


def _record(
    module: nn.Module, data: Data, config: IterativeConfig, done: _Progress, history: History
) -> dict[str, Any]:
    parts = list(done.mask.parts(_arrays(done.last), config.scope))

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
