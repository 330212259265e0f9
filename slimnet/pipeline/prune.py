"""Pruning: a method decides what goes, within a budget, and the result is delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slimnet.analysis.compressibility import Rule
from slimnet.calibration.measurements import measure
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.shrink import shrinkable
from slimnet.graph.trace import cuts, trace
from slimnet.graph.units import Trace
from slimnet.methods import Method, by_mean, create, is_training, unranked
from slimnet.methods.base import Normalise, Scores, scored
from slimnet.methods.from_data import DataMethod
from slimnet.methods.lookup import find
from slimnet.methods.registry import canonical
from slimnet.pipeline.export import Decision, Delivery, Tuner, check_delivery, deliver
from slimnet.pipeline.search import Aim, Hit, Problem, Stopwatch, problem
from slimnet.planning.budget import choose
from slimnet.planning.pq import unit_ratios
from slimnet.planning.target import MEASURED, Target
from slimnet.report.summary import Report

if TYPE_CHECKING:
    from slimnet.methods.training import Pick
    from slimnet.pipeline.finetune import Sparse, Training


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
            own = {self.target.kind: self.target.asked, "macs_weight": self.target.macs_weight,
                   "round_to": self.round_to, "coupled": self.coupled}  # fmt: skip
        more = {"rule": rule, "picks": self.picks and canonical(self.picks), "ratio_for": dict(self.ratio_for),
                "ignore": list(self.ignore), "options": dict(options)}  # fmt: skip
        return {"method": canonical(method), **own, **{key: value for key, value in more.items() if value}}


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
    open_cut = prefer is None and budget.target is not None and budget.target.kind in MEASURED
    with clock("trace"):
        traces = cuts(net, allow_inexact) if open_cut else [trace(net, allow_inexact, prefer)]
    aim = aim or Aim(lambda t: Stopwatch(t, delivery.backend))
    job = _best([_Job(t, method, options or {}, budget, delivery, training, aim, clock) for t in traces])
    report = job.while_training() if is_training(method) else job.as_it_is()
    if training is not None and delivery.out is not None:
        training.forget()
    return report


@dataclass(frozen=True)
class _Job:
    """All that was asked for; the arguments of `prune`, and the traced network."""

    traced: Trace
    method: str
    options: Mapping[str, Any]
    budget: Budget
    delivery: Delivery
    training: Training | None
    aim: Aim
    clock: Clock

    @property
    def how(self) -> dict[str, Any]:
        """What plans and reports say about it."""
        return self.budget.how(self.method, self.options)

    def as_it_is(self) -> Report:
        """Rank the units of the network without training it."""
        scorer, scores = self.ranked
        hit = self.hit(scores)
        with self.clock("plan"):
            removed = self.chosen(scores, hit, scorer.normalise)
        notes = [*_unranked(unranked(self.traced.groups, scores), self.method), *(hit.notes if hit else ())]
        decision = Decision(self.traced, removed, self.how, notes, scores=scores, target=hit.record if hit else None)
        return deliver(decision, self.delivery, self.clock, self.tuner(self.traced, removed))

    def while_training(self) -> Report:
        """Let a method decide while the network trains."""
        from slimnet.pipeline.finetune import sparsify

        if self.training is None:
            raise BadInput(f"--method {self.method}: trains the network, which needs --data and a PyTorch checkpoint")
        pick, hit = self.picked()
        sparse = sparsify(self.traced, self.method, self.options, pick, self.training, self.clock)
        notes = [*sparse.notes, *(hit.notes if hit else ())]
        if sparse.masks is not None:
            return self.without_weights(sparse, notes)
        assert sparse.removed is not None, "a method gives units or masks"
        now = trace(sparse.net, self.traced.allow_inexact, self.traced.prefer)
        dense, target = self.traced.net.model, hit.record if hit else None
        decision = Decision(now, sparse.removed, self.how, notes, dense=dense, training=sparse.training,
                            scores=sparse.scores, target=target)  # fmt: skip
        return deliver(decision, self.delivery, self.clock, self.tuner(now, sparse.removed))

    def without_weights(self, sparse: Sparse, notes: Sequence[str]) -> Report:
        """Fine-tune with single weights at zero, and remove what that has emptied."""
        from slimnet.pipeline.finetune import finetune_masked

        assert self.training is not None
        assert sparse.masks is not None
        dense = self.traced.net
        net, record = finetune_masked(sparse.net, sparse.masks, dense.torch, self.training, self.clock)
        found = shrinkable(net)
        decision = Decision(found.trace, found.removed, self.how, notes, original=net.model, unchanged=True,
                            gather=True, dense=dense.model, training=sparse.training | record)  # fmt: skip
        return deliver(decision, self.delivery, self.clock)

    def picked(self) -> tuple[Pick, Hit | None]:
        """The budget as a training method asks for it; and the widths that meet the target, if there is one."""
        from slimnet.methods.elementwise import ElementWise

        budget, fixed, hit = self.budget, None, None
        if budget.target is not None and issubclass(find(self.method), ElementWise):
            raise BadInput(
                f"{budget.target.option}: --method {self.method} removes single weights and cannot aim at that"
            )
        if budget.picks is not None and is_training(budget.picks):
            raise BadInput(f"--picks {budget.picks}: trains itself; name a criterion, such as l1, random or fisher")
        if budget.picks is not None or budget.target is not None:
            # Widths come from the network as it is; without --picks the method decides which units they are.
            scorer, scores = self.ranked
            hit = self.hit(scores)
            fixed = self.chosen(scores, hit, scorer.normalise) if budget.picks is not None else None

        def pick(scores: Scores) -> list[Bools]:
            removed = fixed if fixed is not None else self.chosen(scores, hit, by_mean)
            return self.traced.by_group(removed)

        return pick, hit

    def chosen(self, scores: Scores, hit: Hit | None, normalise: Normalise) -> Bools:
        """The units that go: those the target's widths leave no room for, or those beyond the budget."""
        return hit.removed(self.traced, scores) if hit else self.budget.choose(self.traced, scores, normalise)

    def hit(self, scores: Scores) -> Hit | None:
        """The widths that meet the target, if there is one."""
        if self.budget.target is None:
            return None
        return self.aim.hit(self.budget.problem(self.traced, scores), self.budget.target, self.clock)

    @cached_property
    def ranked(self) -> tuple[Method, Scores]:
        """What ranks the network as it is, and its scores: the method, or the criterion a training one starts from."""
        method, options = self.method, self.options
        if is_training(method):
            method, options = self.budget.picks or "l1", {}
        scorer = create(method, **options)
        if isinstance(scorer, DataMethod):
            data = self.training.data if self.training is not None else self.delivery.data
            try:
                with self.clock("evidence"):
                    scorer.statistics = measure(scorer, self.traced, data, self.delivery.backend)
            except BadInput as error:
                raise BadInput(f"--method {method}: {error}") from error
        with self.clock("score"):
            return scorer, scored(scorer, self.traced.params(), self.traced.groups)

    def tuner(self, traced: Trace, removed: Bools) -> Tuner | None:
        """What fine-tunes the slim network, if anything is to."""
        if self.training is None or not self.training.finetune.epochs:
            return None
        from slimnet.pipeline.finetune import trainable, tuner

        teacher = trainable(self.traced.net, self.training, "fine-tuning")
        return tuner(traced, removed, teacher, self.training, self.delivery.backend, self.clock)


def _best(jobs: Sequence[_Job]) -> _Job:
    """Of jobs that cut heads or conv groups as a whole, or each a little, the one that a measured target favours."""
    first = jobs[0]
    if len(jobs) == 1 or first.budget.target is None:
        return first
    problems = [job.budget.problem(job.traced, job.ranked[1]) for job in jobs]
    return jobs[first.aim.best(problems, first.budget.target, first.clock)]


def _unranked(names: Sequence[str], method: str) -> list[str]:
    return [f"{name}: {method} cannot rank it, left dense" for name in names]
