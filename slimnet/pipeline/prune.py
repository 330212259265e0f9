"""Pruning: a method decides what is removed, within a ratio or for a target, and the decision is carried out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from slimnet.calibration.measurements import measure
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.common.files import check_writable, replacing
from slimnet.common.processes import is_main_process, process_count
from slimnet.data.unlabelled import Unlabelled
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.shrink import shrinkable
from slimnet.graph.trace import cuts, trace
from slimnet.graph.units import Trace
from slimnet.methods import Method, create, is_training, unranked
from slimnet.methods.base import Budget, DataMethod, Normalise, Scores, scored
from slimnet.methods.lookup import find
from slimnet.pipeline.config import ModelConfig, PruneConfig, RunConfig, TrainConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.pipeline.export import CHECKPOINTS, carry_out, prepared
from slimnet.pipeline.load import load_network, with_data
from slimnet.pipeline.search import LatencySearch, Problem, SearchResult, Stopwatch, problem
from slimnet.pipeline.training import Training, training_for
from slimnet.planning.budget import choose
from slimnet.planning.pq import unit_ratios
from slimnet.planning.target import MEASURED
from slimnet.recovery.importance import removal_losses
from slimnet.report.pareto import pareto, pareto_svg
from slimnet.report.summary import Report

#: What is written beside the folders of several targets.
PARETO, PICTURE = "pareto.json", "pareto.svg"


def prune_file(
    model: ModelConfig, config: PruneConfig, run: RunConfig, train: TrainConfig, clock: Clock
) -> dict[Path, Report]:
    """Prune a file; for several targets into a folder each, with the trade-off between them.

    Args:
        model: The dense network.
        config: The method, and the ratio or the targets that say how much is removed.
        run: The run config; its `out` is the folder of the results, or of one folder per target.
        train: How the network is trained; checkpoints lie in the folders of the results.
        clock: The clock that times the steps.

    Returns:
        The report of each folder in the main process; nothing in the others.

    Raises:
        BadInput: an option that does not fit the others, the network or the data.
        VerifyFailed: slim and mask differ; nothing is written.
        TrainingFailed: the loss is no longer a number.
    """
    out = run.folder
    assert out is not None
    if any(target.kind in MEASURED for target in config.targets) and process_count() > 1:
        raise BadInput("`speedup` and `latency` are measured, which several processes would disturb; use no launcher")
    check_writable(out)
    backend = run.backend
    net = load_network(model, clock)
    run = with_data(run, net)
    training_for(config, run, train)
    if not is_main_process():
        run = replace(run, out=None, bench_seconds=0.0, prove=False)
    search = LatencySearch(lambda t: Stopwatch(t, backend, run.bench_seconds or Stopwatch.seconds))
    # The hardest comes first: if it cannot be reached, nothing is written.
    goals = [config.with_target(target) for target in config.targets] or [config]
    reports = {}
    for goal in goals:
        folder = out / f"{goal.target.asked:g}x" if goal.target is not None and len(goals) > 1 else out
        here = replace(run, out=folder if run.folder is not None else None)
        kept = replace(train, checkpoints=folder / CHECKPOINTS)
        reports[folder] = prune(net, goal, here, kept, search=search, clock=clock)
    if not is_main_process():
        return {}
    if len(reports) > 1:
        _write_pareto(reports, out)
    return reports


def _write_pareto(reports: dict[Path, Report], out: Path) -> None:
    rows = pareto({folder.name: reports[folder] for folder in sorted(reports)})
    for name, content in ((PARETO, json.dumps(rows, indent=2) + "\n"), (PICTURE, pareto_svg(rows))):
        with replacing(out / name) as file:
            file.write_text(content, encoding="utf-8")


def prune(
    net: Net,
    config: PruneConfig | str | None = None,
    run: RunConfig | None = None,
    train: TrainConfig | None = None,
    *,
    search: LatencySearch | None = None,
    clock: Clock | None = None,
) -> Report:
    """Score, plan, slim, verify, time and write a network; train it where the method or fine-tuning needs it.

    Args:
        net: The dense network.
        config: The method and how much is removed; the name of a method is short for `PruneConfig(method=...)`.
        run: The run config: where the results go, and what is measured.
        train: How the network is trained; without it nothing is trained.
        search: The latency search that meets a target; given for several targets, it profiles the network once.
        clock: The clock that times the steps.

    Raises:
        BadInput: an option that does not fit the network.
        VerifyFailed: slim and mask differ; nothing is written.
        TrainingFailed: the loss is no longer a number.
    """
    config = PruneConfig(method=config) if isinstance(config, str) else config or PruneConfig()
    run, clock = prepared(net, run or RunConfig()), clock or Clock()
    training = training_for(config, run, train) if train is not None else None
    target = config.target
    with clock("trace"):
        if config.prefer is None and target is not None and target.kind in MEASURED:
            traces = cuts(net, config.allow_inexact)
        else:
            traces = [trace(net, config.allow_inexact, config.prefer)]
    search = search or LatencySearch(lambda t: Stopwatch(t, run.backend))
    job = _best([_Job(t, config, run, training, search, clock) for t in traces])
    decision = job.while_training() if is_training(config.method) else job.as_it_is()
    # Weights that a method has set to zero are fine-tuned as they are, before anything is removed.
    report = carry_out(decision, run, clock, None if decision.unchanged else training)
    if training is not None and run.folder is not None:
        training.forget()
    return report


@dataclass(frozen=True)
class _Job:
    """All that was asked for, and the traced network."""

    traced: Trace
    config: PruneConfig
    run: RunConfig
    training: Training | None
    search: LatencySearch
    clock: Clock

    def as_it_is(self) -> PruningDecision:
        """Rank the units of the network without training it."""
        if self.training is not None:
            from slimnet.pipeline.finetune import check_trainable

            check_trainable(self.traced.net, self.training.data, "fine-tuning")
        scorer, scores = self.ranked
        found = self.searched(scores)
        with self.clock("plan"):
            removed = self.chosen(scores, found, scorer.normalise)
        notes = [f"{name}: {self.config.method} cannot rank it, left dense"
                 for name in unranked(self.traced.groups, scores)]  # fmt: skip
        return PruningDecision.ranked(self.traced, removed, self.config.provenance(), scores, found, notes)

    def while_training(self) -> PruningDecision:
        """Let a method decide while the network trains."""
        from slimnet.pipeline.finetune import finetune_masked, sparsify

        config, training = self.config, self.training
        if training is None:
            raise BadInput(f"`method` {config.method}: trains the network, which needs `data` and a PyTorch checkpoint")
        budget, found = self.budget()
        sparse = sparsify(self.traced, config.method, config.options, budget, training, self.clock)
        dense, how = self.traced.net, config.provenance()
        if sparse.masks is not None:
            net, record = finetune_masked(sparse.net, sparse.masks, dense.torch, training, self.clock)
            return PruningDecision.masked_weights(shrinkable(net), net, how, sparse.notes, dense=dense,
                                                  training=sparse.training | record)  # fmt: skip
        assert sparse.removed is not None, "a method gives units or masks"
        now = trace(sparse.net, self.traced.allow_inexact, self.traced.prefer)
        return PruningDecision.trained(now, sparse.removed, how, sparse.scores, found, sparse.notes, dense=dense,
                                       training=sparse.training)  # fmt: skip

    def budget(self) -> tuple[Budget, SearchResult | None]:
        """The budget that tells a training method which units to remove, and the widths for the target, if any."""
        from slimnet.methods.elementwise import ElementWise

        config, target = self.config, self.config.target
        if target is not None and issubclass(find(config.method), ElementWise):
            raise BadInput(f"{target.argument}: `method` {config.method} removes single weights and cannot aim at that")
        if config.picks is not None and is_training(config.picks):
            raise BadInput(f"`picks` {config.picks}: trains itself; name a criterion, such as l1, random or fisher")
        found, fixed = None, None
        if config.picks is not None or target is not None:
            # Widths come from the network as it is; without --picks the method decides which units they are.
            scorer, scores = self.ranked
            found = self.searched(scores)
            fixed = self.chosen(scores, found, scorer.normalise) if config.picks is not None else None

        def take(scores: Scores, normalise: Normalise) -> list[Bools]:
            removed = fixed if fixed is not None else self.chosen(scores, found, normalise)
            return self.traced.by_group(removed)

        return Budget(take), found

    def chosen(self, scores: Scores, found: SearchResult | None, normalise: Normalise) -> Bools:
        """The units to remove: those that the target's widths leave no room for, or those that the ratio takes."""
        if found is not None:
            return found.removed(self.traced, scores)
        config, amount = self.config, self.config.amount
        return choose(
            self.traced,
            scores,
            amount if isinstance(amount, int | float) else unit_ratios(scores, amount),
            scope=config.scope,
            ratio_for=config.own_ratios,
            ignore=config.ignore,
            round_to=config.round_to,
            coupled=config.coupled,
            alike=self.has_one_width,
            normalise=normalise,
        )

    @property
    def has_one_width(self) -> bool:
        """Whether whole heads go from a network whose class has one number of them for all layers."""
        source = self.traced.net.torch
        if source is None or self.config.prefer != "heads":
            return False
        from slimnet.io.torch_pretrained import is_pretrained

        return is_pretrained(source.module)

    def problem(self, scores: Scores) -> Problem:
        """The problem of choosing widths, where a target has to be met."""
        config = self.config
        return problem(self.traced, scores, round_to=config.round_to, ratio_for=config.own_ratios,
                       ignore=config.ignore, coupled=config.coupled, adds_up=self.ranked[0].adds_up)  # fmt: skip

    def searched(self, scores: Scores) -> SearchResult | None:
        """The widths that meet the target, if there is one."""
        target = self.config.target
        return None if target is None else self.search.find(self.problem(scores), target, self.clock)

    @cached_property
    def ranked(self) -> tuple[Method, Scores]:
        """What ranks the network as it is, and its scores: the method, or the criterion a training one starts from."""
        method, options = self.config.method, self.config.options
        if is_training(method):
            method, options = self.config.picks or "l1", {}
        scorer = create(method, **options)
        if isinstance(scorer, DataMethod):
            try:
                with self.clock("evidence") as progress:
                    scorer.statistics = (
                        self.losses(progress)
                        if scorer.needs == "losses"
                        else measure(scorer, self.traced, self.run.dataset, self.run.backend)
                    )
            except BadInput as error:
                raise BadInput(f"`method` {method}: {error}") from error
        with self.clock("score"):
            return scorer, scored(scorer, self.traced.params(), self.traced.groups)

    def losses(self, progress: Callable[[float], None]) -> Mapping[str, Any]:
        """What the removal of each unit costs, by group."""
        inputs = self.run.calib
        if not isinstance(inputs, Unlabelled):
            raise BadInput("needs inputs; give `calib`, or `data` with a training split")
        return removal_losses(self.traced, inputs.feeds, self.run.backend, progress)


def _best(jobs: Sequence[_Job]) -> _Job:
    """Of jobs that cut heads or conv groups as a whole, or each a little, the one that a measured target favours."""
    first, target = jobs[0], jobs[0].config.target
    if len(jobs) == 1 or target is None:
        return first
    return jobs[first.search.best([job.problem(job.ranked[1]) for job in jobs], target, first.clock)]
