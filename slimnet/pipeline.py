"""The jobs behind the verbs: choose what goes, and have it delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx_ir as ir

from slimnet.aiming import Aim, Hit, Problem, Stopwatch, problem
from slimnet.analysis.compressibility import Rule, unit_ratios
from slimnet.clock import Clock
from slimnet.delivery import (
    Decision,
    Delivery,
    Tuner,
    check_data,
    check_delivery,
    deliver,
    explained,
    macs_by_layer,
    real_inputs,
    specs,
)
from slimnet.errors import BadInput
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.optimise import optimise
from slimnet.graph.shrink import absorb, shrinkable
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.data import Data
from slimnet.io.onnx_file import load_onnx
from slimnet.masks import masked_units, read_masks
from slimnet.methods import Method, by_mean, create, is_training, unranked
from slimnet.methods.base import Normalise, Scores, find
from slimnet.methods.from_data import DataMethod
from slimnet.planning.budget import choose
from slimnet.planning.plan import Plan
from slimnet.planning.target import Target
from slimnet.report.summary import Report
from slimnet.timing.baseline import save as save_baseline
from slimnet.timing.conditions import as_net
from slimnet.timing.result import BenchResult
from slimnet.timing.run import bench, check_alike
from slimnet.timing.session import random_inputs, session
from slimnet.verification import Verification, index_bounds, verify

if TYPE_CHECKING:
    from slimnet.training.job import Training


@dataclass(frozen=True)
class Budget:
    """How much to remove: see `planning.budget.choose`.

    `ratio` may be a rule that gives each group its own from the compressibility of its scores ("auto").
    `picks` names a criterion that chooses the units before a training method starts, instead of that method. With a
    `target`, a solver finds the widths instead of `ratio` and `scope` (see `aiming`).
    """

    ratio: float | Rule = 0.5
    scope: str = "layer"
    round_to: int | str | None = "auto"
    ratio_for: tuple[tuple[str, float], ...] = ()
    ignore: tuple[str, ...] = ()
    coupled: bool = True
    picks: str | None = None
    target: Target | None = None

    def problem(self, traced: Trace, scores: Scores) -> Problem:
        """What there is to choose when a target has to be met."""
        return problem(traced, scores, round_to=self.round_to, ratio_for=self.ratio_for, ignore=self.ignore,
                       coupled=self.coupled)  # fmt: skip

    def choose(self, traced: Trace, scores: Scores, normalise: Normalise) -> Bools:
        """The units that go."""
        return choose(
            traced,
            scores,
            unit_ratios(scores, self.ratio) if isinstance(self.ratio, Rule) else self.ratio,
            scope=self.scope,
            ratio_for=self.ratio_for,
            ignore=self.ignore,
            round_to=self.round_to,
            coupled=self.coupled,
            normalise=normalise,
        )

    def how(self, method: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """What plans and reports say about it."""
        rule = self.ratio.to_json() if isinstance(self.ratio, Rule) else None
        ratio = "auto" if rule else self.ratio
        own = {"ratio": ratio, "scope": self.scope, "round_to": self.round_to, "coupled": self.coupled}
        if self.target is not None:
            own = {self.target.kind: self.target.asked, "round_to": self.round_to, "coupled": self.coupled}
        more = {"rule": rule, "picks": self.picks, "ratio_for": dict(self.ratio_for), "ignore": list(self.ignore),
                "options": dict(options)}  # fmt: skip
        return {"method": method, **own, **{key: value for key, value in more.items() if value}}


def prune(
    net: Net,
    method: str = "l1",
    budget: Budget | None = None,
    delivery: Delivery | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    allow_inexact: bool = False,
    prefer: str | None = None,
    training: Training | None = None,
    aim: Aim | None = None,
    clock: Clock | None = None,
) -> Report:
    """Score, plan, slim, verify, time and write a network; train it where the method or fine-tuning needs it.

    Args:
        net: the dense network.
        method: name of a method; `options` are its hyper-parameters.
        budget: how much goes.
        delivery: where the results go.
        allow_inexact: follow channels through layer norms, softmax and means.
        prefer: "heads" or "head-dims".
        training: data and settings to train with; without it nothing is trained.
        aim: meets `budget.target`; give the same one for several targets, and the network is profiled once.
        clock: times the steps.

    Raises:
        BadInput: an option that does not fit the network.
        VerifyFailed: slim and mask differ; nothing is written.
        TrainingFailed: the loss is no longer a number.
    """
    budget, delivery, clock = budget or Budget(), delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
    with clock("trace"):
        traced = trace(net, allow_inexact, prefer)
    how = budget.how(method, options or {})
    if is_training(method):
        report = _prune_trained(traced, method, options or {}, budget, delivery, training, aim, clock, how)
    else:
        report = _prune_scored(traced, method, options or {}, budget, delivery, training, aim, clock, how)
    if training is not None and delivery.out is not None:
        training.forget()
    return report


def _prune_scored(
    traced: Trace,
    method: str,
    options: Mapping[str, Any],
    budget: Budget,
    delivery: Delivery,
    training: Training | None,
    aim: Aim | None,
    clock: Clock,
    how: Mapping[str, Any],
) -> Report:
    """Rank the units of the network as it is."""
    scorer, scores = _scored(traced, method, options, training, delivery.data, clock)
    hit = _hit(budget, traced, scores, delivery, aim, clock)
    with clock("plan"):
        removed = hit.removed(traced, scores) if hit else budget.choose(traced, scores, scorer.normalise)
    notes = [*_unranked(unranked(traced.groups, scores), method), *(hit.notes if hit else ())]
    decision = Decision(traced, removed, how, notes, scores=scores, target=hit.record if hit else None)
    return deliver(decision, delivery, clock, _tuner(traced, removed, traced.net, training, clock))


def _hit(
    budget: Budget, traced: Trace, scores: Scores, delivery: Delivery, aim: Aim | None, clock: Clock
) -> Hit | None:
    """The widths that meet the target, if there is one."""
    if budget.target is None:
        return None
    aim = aim or Aim(lambda traced: Stopwatch(traced, delivery.threads, provider=delivery.provider))
    return aim.hit(budget.problem(traced, scores), budget.target, clock)


def _scored(
    traced: Trace,
    method: str,
    options: Mapping[str, Any],
    training: Training | None,
    data: Data | None,
    clock: Clock,
) -> tuple[Method, Scores]:
    """A criterion, and what it makes of the network."""
    scorer = create(method, **options)
    if isinstance(scorer, DataMethod):
        scorer.evidence = _evidence(scorer, method, traced, training, data, clock)
    with clock("score"):
        return scorer, scorer.score(traced.params(), traced.groups)


def _prune_trained(
    traced: Trace,
    method: str,
    options: Mapping[str, Any],
    budget: Budget,
    delivery: Delivery,
    training: Training | None,
    aim: Aim | None,
    clock: Clock,
    how: Mapping[str, Any],
) -> Report:
    """Let a method decide while the network trains."""
    from slimnet.methods.elementwise import ElementWise
    from slimnet.training.job import finetune_masked, sparsify

    if training is None:
        raise BadInput(f"--method {method}: trains the network, which needs --data and a PyTorch checkpoint")

    if budget.target is not None and issubclass(find(method), ElementWise):
        raise BadInput(f"{budget.target.option}: --method {method} removes single weights and cannot aim at that")
    chosen, hit = None, None
    if budget.picks is not None:
        if is_training(budget.picks):
            raise BadInput(f"--picks {budget.picks}: trains itself; name a criterion, such as l1, random or obd")
        scorer, fixed = _scored(traced, budget.picks, {}, training, delivery.data, clock)
        hit = _hit(budget, traced, fixed, delivery, aim, clock)
        chosen = hit.removed(traced, fixed) if hit else budget.choose(traced, fixed, scorer.normalise)
    elif budget.target is not None:
        # The widths come from the network as it is; which units they are, the method decides.
        _, fixed = _scored(traced, "l1", {}, training, delivery.data, clock)
        hit = _hit(budget, traced, fixed, delivery, aim, clock)

    def pick(scores: Scores) -> list[Bools]:
        if chosen is not None:
            removed = chosen
        else:
            removed = hit.removed(traced, scores) if hit else budget.choose(traced, scores, by_mean)
        return [removed[group.units] for group in traced.groups]

    sparse = sparsify(traced, method, options, pick, training, clock)
    notes = [*sparse.notes, *(hit.notes if hit else ())]
    net, dense = sparse.net, traced.net
    if sparse.masks is not None:
        net, record = finetune_masked(net, sparse.masks, dense.torch, training, clock)
        found = shrinkable(net)
        decision = Decision(found.trace, found.removed, how, notes, net.model, True, True, dense.model,
                            sparse.training | record)  # fmt: skip
        return deliver(decision, delivery, clock)
    assert sparse.removed is not None, "a method gives units or masks"
    now = trace(net, traced.allow_inexact, traced.prefer)
    decision = Decision(now, sparse.removed, how, notes, dense=dense.model, training=sparse.training,
                        scores=sparse.scores, target=hit.record if hit else None)  # fmt: skip
    return deliver(decision, delivery, clock, _tuner(now, sparse.removed, dense, training, clock))


def _tuner(traced: Trace, removed: Bools, dense: Net, training: Training | None, clock: Clock) -> Tuner | None:
    """What fine-tunes the slim network, if anything is to."""
    if training is None or not training.finetune.epochs:
        return None
    from slimnet.training.job import trainable, tuner

    teacher = trainable(dense, training, "fine-tuning")
    return tuner(traced, removed, teacher, training, clock)


def _evidence(
    scorer: DataMethod, method: str, traced: Trace, training: Training | None, data: Data | None, clock: Clock
) -> Any:
    """What a method that scores from data has to see: activations of the graph, or gradients of the module."""
    data = training.data if training is not None else data
    if data is None:
        raise BadInput(f"--method {method}: scores from data; give --data")
    samples = data.train or data.test
    with clock("evidence"):
        if scorer.needs == "maps":
            from slimnet.activations import maps

            return maps(traced, samples, **scorer.evidence_options())
        from slimnet.training.evidence import fisher, gradients

        if traced.net.torch is None:
            raise BadInput(
                f"--method {method}: needs gradients, so a PyTorch checkpoint with --arch, not a graph alone"
            )
        return (fisher if scorer.needs == "fisher" else gradients)(traced.net.torch.module, samples)


def shrink(
    net: Net,
    delivery: Delivery | None = None,
    *,
    fold: bool = False,
    assume_masked: bool = False,
    skip_inputs: bool = False,
    clock: Clock | None = None,
) -> Report:
    """Remove the channels of a network that are zero already.

    Args:
        net: a network some tool has masked.
        delivery: where the results go.
        fold: first fold the constants that zero filters leave behind into the next biases, where that is exact.
        assume_masked: also remove zero filters whose bias or batch norm leaves a constant; the difference is reported.
        skip_inputs: also skip positions of an input that all readers multiply by zero, by a Gather in front of them.
        clock: times the steps.
    """
    delivery, clock = delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
    notes = []
    original = net.model
    if fold:
        with clock("absorb"):
            net, count = absorb(net, _probe(net))
        notes.append(f"absorbed {count} constant input channels into biases")
    with clock("trace"):
        found = shrinkable(net, assume_masked)
    for name, count in found.constant.items():
        notes.append(f"{name}: {count} zero filters leave a constant (bias or batch norm); --absorb or --assume-masked")
    if not found.removed.any() and not skip_inputs:
        raise BadInput(f"{net.name}: no channel is zero everywhere it matters. {'; '.join(notes)}".rstrip(". "))
    how = {"method": "shrink", "assume_masked": assume_masked, "absorb": fold}
    decision = Decision(
        found.trace, found.removed, how, notes, original=original, unchanged=not assume_masked, gather=skip_inputs
    )
    return deliver(decision, delivery, clock)


def slim_planned(net: Net, path: Path, delivery: Delivery | None = None, clock: Clock | None = None) -> Report:
    """Remove what a plan.json says."""
    delivery, clock = delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
    traced, removed, plan = _traced_for(net, path, clock)
    return deliver(Decision(traced, removed, plan.how), delivery, clock)


def slim_masked(net: Net, path: Path, delivery: Delivery | None = None, clock: Clock | None = None) -> Report:
    """Remove what the masks in an .npz file say (see `masks.read_masks`)."""
    delivery, clock = delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
    masks = read_masks(path, net)
    with clock("trace"):
        traced, removed = masked_units(net, masks)
    return deliver(Decision(traced, removed, {"method": "mask"}, original=net.model), delivery, clock)


def verify_files(
    net: Net,
    slim: Path,
    plan: Path,
    data: Data | None = None,
    runs: int = 3,
    threads: int | None = None,
    prove: bool = True,
    clock: Clock | None = None,
) -> Verification:
    """Check a slim.onnx against the dense network and the plan that led to it."""
    clock = clock or Clock()
    traced, removed, _ = _traced_for(net, plan, clock)
    candidate = load_onnx(slim, specs(net)).model
    check_data(net, data)
    with clock("verify") as progress, explained(f"is {slim} what {plan} makes of {net.source or net.name}?"):
        return verify(traced, removed, candidate, real_inputs(net, data), runs, threads, prove, progress=progress)


def bench_files(
    dense: Path,
    slim: Path,
    inputs: Sequence[str] | None,
    threads: int | None,
    batch: int | None,
    seconds: float,
    layers: bool,
    save: Path | None = None,
) -> BenchResult:
    """Time two ONNX files, both after the same optimiser; `save` keeps the second one as a baseline."""
    nets = [as_net(path, list(inputs or ()) or None, batch) for path in (dense, slim)]
    check_alike(*nets)
    traces = [trace(net) for net in nets]
    models = [replace(net, model=optimise(net.model)) for net in nets]
    macs = (macs_by_layer(traces[0]), macs_by_layer(traces[1]))
    bounds = index_bounds(traces[0])
    result = bench(
        models[0].model, models[1].model, nets[0].inputs, threads, None, seconds, layers, macs=macs, bounds=bounds
    )
    if save is not None:
        save_baseline(save, models[1].model, result)
    return result


def _traced_for(net: Net, path: Path, clock: Clock) -> tuple[Trace, Bools, Plan]:
    """Trace a network the way it was traced for a plan."""
    plan = Plan.load(path)
    with clock("trace"):
        traced = trace(net, bool(plan.how.get("allow_inexact")), plan.how.get("prefer"))
    return traced, traced.removed(plan), plan


def _unranked(names: Sequence[str], method: str) -> list[str]:
    return [f"{name}: {method} cannot rank it, left dense" for name in names]


def _probe(net: Net) -> Any:
    """Runs a model for some of its inner values on two random inputs."""

    def run(model: ir.Model, names: list[str]) -> list[list[npt.NDArray[Any]]]:
        copy = model.clone()
        found = {v.name: v for node in copy.graph for v in node.outputs}
        found |= {v.name: v for v in copy.graph.inputs}
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(found[name] for name in names)
        runner = session(copy)
        return [runner.run(None, random_inputs(net, net.inputs, seed)) for seed in (0, 1)]

    return run
