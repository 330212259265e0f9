"""Pruning with training: regularise the dense network, decide, and fine-tune what is left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from slimnet.calibration.classifier import check_classes
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput, VerifyFailed
from slimnet.common.files import essence
from slimnet.data.load import Data
from slimnet.graph import surgery
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net, TorchSource
from slimnet.graph.plan import Plan
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.torch_copy import copied
from slimnet.io.torch_export import export_torch
from slimnet.io.torch_follow import CannotSlim
from slimnet.io.torch_slim import slim_module, slim_module_survives
from slimnet.methods import create
from slimnet.methods.base import Budget, Scores, scored
from slimnet.methods.training import Masks, TrainingMethod
from slimnet.pipeline.training import Training
from slimnet.runtime.feeds import random_inputs
from slimnet.training.accelerator import accelerator_for, check_accelerate
from slimnet.training.graph import arrays_of, refreshed, with_weights
from slimnet.training.loop import Run
from slimnet.training.phase import Phase


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned slim network.

    Attributes:
        model: The slim graph with new weights, not yet optimised.
        tensors: The parameters of the slim module by name; None where the PyTorch class cannot carry the widths.
        masked: The trace of the masked dense network, where that was fine-tuned instead; the slim one must equal it.
        training: The record of fine-tuning.
    """

    model: ir.Model
    tensors: Mapping[str, np.ndarray] | None
    masked: Trace | None
    training: Mapping[str, Any]


@dataclass(frozen=True)
class Sparse:
    """The result of regularised training: the network with its new weights, and either units to remove or weight masks.

    `scores` are those of the units after training, where units are removed.
    """

    net: Net
    removed: Bools | None
    masks: Masks | None
    notes: list[str]
    training: dict[str, Any]
    scores: Scores | None = None


def sparsify(
    traced: Trace, method: str, options: Mapping[str, Any], budget: Budget, training: Training, clock: Clock
) -> Sparse:
    """Train the dense network under a method and let it decide.

    Raises:
        BadInput: the network does not come from PyTorch, or does not fit the data.
        TrainingFailed: the loss is no longer a number.
    """
    net, phase = traced.net, training.sparsify
    module = trainable(net, training.data, f"`method` {method}")
    accelerator = accelerator_for(phase, training.device)
    module.to(accelerator.device)
    settings = {"network": traced.model_hash, "data": training.data.name, "method": method, **dict(options)}
    run = Run(accelerator, module, training.data, phase, file=training.file("sparsify"), settings=settings)
    params = dict(module.named_parameters(remove_duplicate=False))
    bound = create(method, traced.groups, params, budget, run.steps, **options)
    assert isinstance(bound, TrainingMethod)
    run.method = bound
    with clock("sparsify") as progress:
        run.watch = progress
        history = run.fit(training.resume)
    trained, masks, removed, scores = refreshed(net, module, training.backend), bound.masks(), None, None
    if masks is None:
        now = trace(trained, traced.allow_inexact, traced.prefer)
        scores = scored(bound, now.params(), now.groups)
        removed = traced.from_groups(bound.removed(now.params()) or [])
    notes = bound.notes()
    if bound.unfinished is not None and not bound.finished:
        notes.append(bound.unfinished)
    return Sparse(trained, removed, masks, notes, {"sparsify": _recorded(phase, history)}, scores)


def finetune_masked(
    net: Net, masks: Masks, dense: TorchSource | None, training: Training, clock: Clock
) -> tuple[Net, dict[str, Any]]:
    """Set weights to zero and fine-tune the others; `dense` is the network to distil from."""
    assert net.torch is not None
    assert dense is not None
    module = copied(net.torch.module)
    with torch.no_grad():
        for name, p in module.named_parameters(remove_duplicate=False):
            if name in masks:
                p.mul_(masks[name].to(p.dtype).cpu())
    teacher = copied(dense.module)
    record = _finetune(module, teacher, masks, training, {"network": net.name, "module": "masked"}, clock)
    return refreshed(net, module, training.backend), {"finetune": record | {"module": "masked"}}


def finetune(traced: Trace, removed: Bools, plan: Plan, slim: ir.Model, training: Training, clock: Clock) -> FineTuned:
    """Fine-tune the slim module, which is faster; the masked dense one where its class cannot have the widths.

    Raises:
        BadInput: there is no module, no training split, or they do not fit.
        TrainingFailed: the loss is no longer a number.
    """
    net = traced.net
    teacher = trainable(net, training.data, "fine-tuning")
    assert net.torch is not None
    try:
        module, _ = slim_module(net.torch, plan)
        survives, why = slim_module_survives(module, slim, random_inputs(net, net.inputs), training.backend)
    except (CannotSlim, BadInput) as error:
        survives, why = False, essence(error)
    if survives:
        return _tune_slim(net, module, slim, teacher, plan, training, clock)
    return _tune_masked(traced, removed, teacher, plan, why, training, clock)


def _tune_slim(
    net: Net, module: nn.Module, slim: ir.Model, teacher: nn.Module, plan: Plan, training: Training, clock: Clock
) -> FineTuned:
    assert net.torch is not None
    module = module.train()
    settings = {"network": plan.model_hash, "plan": _digest(plan), "module": "slim"}
    record = _finetune(module, teacher, None, training, settings, clock)
    arrays, inputs = arrays_of(module), random_inputs(net, net.inputs)
    model = with_weights(slim, arrays)
    same, why = slim_module_survives(module, model, inputs, training.backend)
    if not same:  # some weights are in the graph only as what they made
        model = export_torch(replace(net.torch, module=module.eval()), net.name).model
        same, why = slim_module_survives(module, model, inputs, training.backend)
    if not same:
        raise VerifyFailed(f"{net.name}: the fine-tuned module is not what the graph computes: {why}")
    return FineTuned(model, arrays, None, {"finetune": record | {"module": "slim"}})


def _tune_masked(
    traced: Trace, removed: Bools, teacher: nn.Module, plan: Plan, why: str, training: Training, clock: Clock
) -> FineTuned:
    net = traced.net
    assert net.torch is not None
    module = copied(net.torch.module)
    masks = masks_of(plan, module)
    settings = {"network": plan.model_hash, "plan": _digest(plan), "module": "masked"}
    record = _finetune(module, teacher, masks, training, settings, clock)
    now = trace(refreshed(net, module, training.backend), traced.allow_inexact, traced.prefer)
    return FineTuned(surgery.slim(now, removed), None, now, {"finetune": record | {"module": "masked", "why": why}})


def _finetune(
    module: nn.Module,
    teacher: nn.Module,
    masks: Masks | None,
    training: Training,
    settings: dict[str, Any],
    clock: Clock,
) -> dict[str, Any]:
    phase = training.finetune
    accelerator = accelerator_for(phase, training.device)
    module.to(accelerator.device)
    teacher = teacher.to(accelerator.device).eval() if phase.distill else None  # type: ignore[assignment]
    settings = {**settings, "data": training.data.name}
    run = Run(accelerator, module, training.data, phase, None, masks, teacher, training.file("finetune"), settings)
    with clock("finetune") as progress:
        run.watch = progress
        history = run.fit(training.resume)
    module.cpu()
    return _recorded(phase, history)


def trainable(net: Net, data: Data, what: str) -> nn.Module:
    """A copy of the module of a network whose parameters can be trained on the data. Raises as `check_trainable`."""
    check_trainable(net, data, what)
    assert net.torch is not None
    module: nn.Module = copied(net.torch.module)
    for p in module.parameters():
        p.requires_grad_(p.is_floating_point())
    return module


def check_trainable(net: Net, data: Data, what: str) -> None:
    """Find out whether the module of a network can be trained on the data; `what` does it, for the error.

    Raises:
        BadInput: there is no module, no training split, they do not fit, or accelerate is missing.
    """
    if net.torch is None:
        raise BadInput(
            f"{what}: trains, and {net.source or net.name} is a graph without its PyTorch class; "
            "give a checkpoint with `arch`"
        )
    if data.train is None:
        raise BadInput(f"`data` {data.name}: has no training split, which {what} needs")
    check_accelerate()
    check_classes(net.torch.module, data.train, data.name)


@torch.no_grad()
def masks_of(plan: Plan, module: nn.Module) -> Masks:
    """Masks of everything a plan removes: zero in all slices of removed units."""
    masks: Masks = {}
    params = dict(module.named_parameters(remove_duplicate=False))
    for key, axes in plan.kept.items():
        name, _, use = key.partition("@")
        if use or name not in params:
            continue
        mask = masks.setdefault(name, torch.ones(params[name].shape, dtype=torch.bool))
        for axis, kept in axes.items():
            removed = np.setdiff1d(np.arange(mask.shape[axis]), kept)
            mask.index_fill_(axis, torch.from_numpy(removed), False)
    return masks


def _digest(plan: Plan) -> str:
    """A hash of the kept indices, by which plans are told apart: two may keep as many indices, but others."""
    digest = hashlib.sha256()
    for name, axes in plan.kept.items():
        for axis, kept in axes.items():
            digest.update(f"{name}:{axis}:".encode() + kept.astype(np.int64).tobytes())
    return digest.hexdigest()[:16]


def _recorded(phase: Phase, history: list[dict[str, float]]) -> dict[str, Any]:
    return {"settings": phase.to_json(), "epochs": history}
