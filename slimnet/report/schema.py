"""The schema of report.json: a dataclass for every object in it, an attribute for every key.

Other tools read the file, so keys do not change and are never left out: what there is nothing to say about is null or
empty. A `TypedDict` describes an object whose keys may be missing, or that may have others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file, replacing
from slimnet.report import reading

#: No report comes near: a larger file is something else.
MAX_BYTES = 1 << 28
_ADVICE = "give output folders of slimnet prune"


# -- pairs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A number of things in the dense network and in the slim one.

    Attributes:
        before: The count in the dense network.
        after: The count in the slim network.
    """

    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """A quantity of one layer in the dense network and in the slim one.

    Attributes:
        before: The quantity in the dense network, null where it is not known.
        after: The quantity in the slim network, null where it is not known.
    """

    before: float | None
    after: float | None


# -- speed ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """How much less work there is, and how much faster it is done.

    Attributes:
        flops: The MACs before over those after, null for what has none.
        latency: The latency before over that after, null where it was not measured.
        efficiency: The latency speedup over `flops`: below 1, saved MACs saved less time than they promised.
    """

    flops: float | None
    latency: float | None
    efficiency: float | None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The latency of one network.

    Attributes:
        median: The median time of a run, in ms.
        p90: The time that nine runs of ten stay below, in ms.
        runs: The number of runs that were timed.
    """

    median: float
    p90: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """The latencies of both networks, timed in turns.

    Attributes:
        before: The latency of the dense network, null where nothing was timed.
        after: The latency of the slim network, null where nothing was timed.
    """

    before: Timing | None
    after: Timing | None


@dataclass(frozen=True, kw_only=True)
class TimedLayer:
    """One layer in the profile of both networks.

    Attributes:
        name: The name of the layer; operators that are no layers are summed under their type, in brackets.
        ms: The time of the layer in a run, in ms.
        macs: The multiply-adds of the layer.
        speedup: The layer's own speedup.
    """

    name: str
    ms: Amounts
    macs: Amounts
    speedup: Speedup


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a latency depends on beside the network.

    Attributes:
        inputs: The shapes of the inputs.
        bounds: The exclusive upper bounds of integer inputs, 2 for those that are not named.
        seed: The seed that the inputs were drawn with.
        threads: The size of the runtime's thread pool, null where the choice was left to the runtime.
        runtime: The name of the runtime.
        provider: The part of the runtime that computed, null where that is not known.
        machine: The version of the runtime under its name, the "cpu", and the number of "cores".
    """

    inputs: dict[str, list[int]]
    bounds: dict[str, int]
    seed: int
    threads: int | None
    runtime: str = "onnxruntime"
    provider: str | None = None
    machine: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How the latency was measured, and where it went.

    Attributes:
        latency_interval: The lower and the upper end of the bootstrap 95 % interval of the latency speedup.
        conditions: What the times depend on beside the networks.
        notes: Remarks on the timing, one sentence each.
        layers: The profile, layer by layer.
    """

    latency_interval: list[float]
    conditions: Conditions
    notes: list[str]
    layers: list[TimedLayer]


# -- a target ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Try:
    """One plan that was measured on the way to a target, in the unit of the target.

    Attributes:
        predicted: What the latency model promised of the plan.
        measured: What was measured of it.
    """

    predicted: float
    measured: float


@dataclass(frozen=True, kw_only=True)
class ModelError:
    """How far the latency model's predictions are from measurements of networks that it was not fitted to.

    Attributes:
        total: The mean error of the time of a whole network, relative to the measured time.
        layers: The mean error of the time of a layer, weighted by that time.
    """

    total: float
    layers: float


@dataclass(frozen=True, kw_only=True)
class TargetLayer:
    """Where a layer stands in the plan that met the target.

    Attributes:
        name: The name of the layer, as in the profile.
        macs_share: The fraction of the dense network's multiply-adds that this layer has, null where it has none.
        macs: The multiply-adds of the layer.
        predicted_ms: The time that the latency model promised of the slim layer, in ms, null without a prediction.
        ms: The time of the layer in the profile, in ms.
    """

    name: str
    macs_share: float | None
    macs: Amounts
    predicted_ms: float | None
    ms: Amounts


@dataclass(frozen=True, kw_only=True)
class Target:
    """What was asked for, and how it was met.

    Attributes:
        kind: What was asked for: "speedup", "latency", "params" or "flops", which counts MACs.
        asked: The number that was asked for; latencies are in ms, sizes below 1 are fractions.
        predicted: What was predicted of the plan that was taken.
        measured: What was measured of it; sizes are counted.
        tries: The plans that were measured, in order; none where sizes are counted.
        importance: The fraction of all scores that was kept, each group counting as one.
        model_error: The error of the latency model, null where there was none to use or to test it with.
        layers: The plan, layer by layer.
    """

    kind: str
    asked: float
    predicted: float
    measured: float
    tries: list[Try]
    importance: float | None = None
    model_error: ModelError | None = None
    layers: list[TargetLayer] = field(default_factory=list)


# -- proof ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The comparison of the slim network with the masked dense one.

    Attributes:
        max_abs_error: The largest difference at any output.
        max_rel_error: The largest difference relative to its slice: the largest value of the masked network in the same
            channel, row or column.
        tolerance: The largest `max_rel_error` that is accepted.
        exact: Whether the difference stayed within the tolerance, on finite values only.
        runs: The number of different inputs.
        inputs: What they were: "given", "normal", "0 to 1", "0 to 255", or other sizes such as "x=3x8".
        not_compared: What nothing was said of, such as branches that do not run on these inputs.
        behind: The inner values that were compared as well, because an output does not show every change of them.
        rounding: The part of its slice by which rounding alone moves the masked network, where it moves it most; null
            where the difference was small enough without asking.
        unsettled: The outputs and inner values that rounding alone decides for some of the inputs, such as boxes of
            which two are as likely; for those inputs they are not compared.
        proven: The groups of which a kept unit that is set to zero is noticed.
        inside: Those of them where it shows only inside the network, where the group is read.
        perturbed: Those of them where it shows only with larger random weights in one kept unit.
        unproven: The groups of which no kept unit changes anything, so that equality says nothing about them.
        plain_mask_error: The relative distance to the plain mask, where units were removed inexactly, else null.
        dense_error: The relative distance to the network as it was given, where that was asked for, else null.
    """

    max_abs_error: float
    max_rel_error: float
    tolerance: float
    exact: bool
    runs: int
    inputs: list[str]
    not_compared: list[str]
    behind: list[str]
    rounding: float | None
    unsettled: list[str]
    proven: list[str]
    inside: list[str]
    perturbed: list[str]
    unproven: list[str]
    plain_mask_error: float | None = None
    dense_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Fractions of the test split that are classified correctly, as onnxruntime computes them.

    Attributes:
        before: The accuracy of the dense network, null without data.
        pruned: The accuracy of the slim network before anything else was done, null where nothing was.
        recovered: Its accuracy with fitted weights, before fine-tuning, null where there was not both.
        after: The accuracy of the slim network, null without data.
    """

    before: float | None
    pruned: float | None
    recovered: float | None = None
    after: float | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the slim network agrees with the dense one on inputs held back.

    Attributes:
        distance: The distance of the outputs, relative to how far the dense ones are from their means: 0 is equality,
            and 1 what a constant would reach.
        top1: The fraction of inputs for which both pick the same class, null where the first output is no vector of
            scores for each input.
        cosine: The mean cosine of the vectors of the first output, null where it has none.
    """

    distance: float
    top1: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What fitting the weights that stay has recovered.

    Attributes:
        inputs: What they were fitted to, such as "digits, training split".
        fitted_to: The number of inputs that they were fitted to.
        held_back: The number of inputs that the result was judged on.
        pruned: How the slim network agrees with the dense one, as cut.
        recovered: How it agrees with fitted weights, null where they did not help and were left as they were.
        layers: For each layer the squared error relative to the spread of what it is to give, on inputs held back:
            before and after it was fitted.
    """

    inputs: str
    fitted_to: int
    held_back: int
    pruned: Agreement
    recovered: Agreement | None
    layers: dict[str, list[float]]


# -- widths --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Where the scores of a group's units lie, in equal bins.

    Attributes:
        low: The lowest score, the left end of the first bin.
        high: The highest score, the right end of the last bin.
        kept: The number of kept units in every bin.
        removed: The number of removed units in every bin.
    """

    low: float
    high: float
    kept: list[int]
    removed: list[int]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that can only be removed together.

    Attributes:
        name: The name of the group: that of the first weight in it.
        kind: The structure of the group; groups of the same structure have the same text here.
        before: The number of units in the dense network.
        after: The number of units that were kept.
        proven: Whether a kept unit was shown to change the outputs, null where that was not tried.
        tensors: The parameters that a unit of the group lies on.
        scores: What the units were ranked by, null where they were not ranked.
    """

    name: str
    kind: str
    before: int
    after: int
    proven: bool | None
    tensors: list[str]
    scores: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class AxisPin:
    """Indices of one axis of a weight that must stay.

    Attributes:
        units: The number of units that are pinned.
        op: The operator that pins them, or "input" or "output" of the network.
        node: The name of the node.
        why: The reason, as the end of a sentence.
    """

    units: int
    op: str
    node: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a weight, and what decides its size.

    Attributes:
        axis: The number of the axis.
        role: What its indices are: "out" for filters, "in" for channels.
        before: The size in the dense network.
        after: The size in the slim network.
        groups: The names of the groups that its indices belong to.
        pinned: The pins that hold its other indices.
    """

    axis: int
    role: str
    before: int
    after: int
    groups: list[str]
    pinned: list[AxisPin]


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight whose filters or channels can matter.

    Attributes:
        name: The name of the initializer.
        op: The operator that uses it.
        axes: The axes that hold filters or channels.
    """

    name: str
    op: str
    axes: list[Axis]


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Units that must stay, at the first tensor they lie on.

    Attributes:
        units: The number of units that are pinned.
        tensor: The name of the tensor.
        axis: The number of the tensor's axis.
        op: The operator that pins them, or "input" or "output" of the network.
        node: The name of the node.
        why: The reason, as the end of a sentence.
    """

    units: int
    tensor: str
    axis: int
    op: str
    node: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Single weights that were set to zero; biases do not count.

    Attributes:
        total: The number of weights in the dense network.
        stored: The number of weights in the slim network.
        nonzero: The number of those that are not zero.
    """

    total: int
    stored: int
    nonzero: int


# -- training ------------------------------------------------------------------------------------------------------


class Epoch(TypedDict, total=False):
    """One epoch of training; the figures of a method stand beside these under names of their own.

    Attributes:
        epoch: The number of the epoch, from 0 on.
        loss: The mean loss.
        accuracy: The accuracy on the validation split, null where there is none.
        lr: The learning rate.
    """

    epoch: int
    loss: float | None
    accuracy: float | None
    lr: float


class Iteration(TypedDict, total=False):
    """One turn of pruning single weights; what else it says is that of its training.

    Attributes:
        iteration: The number of the iteration, from 0 on.
        remaining: The fraction of the weights in the mask.
        pq: The PQ index for p = 0.5, q = 1 and for p = 1, q = 2.
        gini: The Gini index.
        accuracy: The accuracy on the validation split, null where there is none.
        test: The accuracy on the test split.
    """

    iteration: int
    remaining: float
    pq: list[float | None]
    gini: float | None
    accuracy: float | None
    test: float | None


class Phase(TypedDict, total=False):
    """One phase of training: sparsifying, fine-tuning or the search of a mask.

    Attributes:
        settings: The settings of the phase, its seed among them.
        epochs: What every epoch recorded.
        iterations: What every turn of pruning single weights recorded.
        module: Which network was fine-tuned: "slim" or "masked".
    """

    settings: dict[str, Any] | None
    epochs: list[Epoch]
    iterations: list[Iteration]
    module: str


@dataclass(frozen=True, kw_only=True)
class Torch:
    """What became of a PyTorch module.

    Attributes:
        survives: Whether the class can carry the new widths, so that slim.safetensors was written.
        why: The reason where it cannot, else null.
    """

    survives: bool
    why: str | None


# -- the whole -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of report.json.

    Attributes:
        model: The name of the network.
        method: The method that ranked the units, null where a plan does not say.
        how: The settings that led to the plan.
        params: The parameters of the network; running statistics of batch norms are none.
        macs: The multiply-adds of one run.
        speedup: The speedup of the whole network.
        target: The target, null where none was asked for.
        latency_ms: The latencies of both networks.
        bench: The conditions and layers of the timing, null where nothing was timed.
        verify: The proof that slim and masked network are equal.
        accuracy: The accuracies, as far as there was data to measure them.
        recovery: What fitting the weights that stay has recovered, null where there were no inputs for it.
        groups: The groups of channels and how many of each were kept.
        weights: The weights and what decides their sizes.
        pinned: What must stay, and why.
        sparsity: The weights that are not zero, null where no single weights were set to zero.
        gathered: Per weight the inputs it reads, where a Gather skips the others.
        training: The phases of training by name.
        torch: The PyTorch side, null for networks that do not come from PyTorch.
        notes: What else is worth knowing, one sentence each.
        command: The command line that asked for the run, null where none did.
        timing_s: The seconds that every step of the run took.
        versions: The versions of slimnet, of Python and of the runtime.
        more: What sections beyond these collected, by their keys in report.json.
    """

    model: str
    method: str | None
    how: dict[str, Any] = field(default_factory=dict)
    params: Counts
    macs: Counts
    speedup: Speedup
    target: Target | None = None
    latency_ms: Latencies
    bench: Bench | None = None
    verify: Verify
    accuracy: Accuracy
    recovery: Recovery | None = None
    groups: list[Group]
    weights: list[Weight] = field(default_factory=list)
    pinned: list[Pin] = field(default_factory=list)
    sparsity: Sparsity | None = None
    gathered: dict[str, Counts] = field(default_factory=dict)
    training: dict[str, Phase] = field(default_factory=dict)
    torch: Torch | None = None
    notes: list[str] = field(default_factory=list)
    command: str | None = None
    timing_s: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Report:
        """The report that has these values by key; those that no attribute is named after are `more`."""
        known = {f.name for f in fields(cls)} - {"more"}
        return cls(**{key: value for key, value in values.items() if key in known},
                   more={key: value for key, value in values.items() if key not in known})  # fmt: skip

    @cached_property
    def content(self) -> dict[str, Any]:
        """The plain values of report.json by key."""
        content: dict[str, Any] = reading.to_json(self)
        more: dict[str, Any] = content.pop("more")
        return content | more

    def to_json(self) -> str:
        """The text of report.json."""
        return json.dumps(self.content, indent=2) + "\n"

    def save(self, path: Path) -> None:
        """Write report.json; an existing file is replaced as a whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(cls, content: Any, source: object = "report.json") -> Report:
        """Read and check the plain values of a report; it may lack keys that are newer than itself.

        Args:
            content: The plain values, as `content` gives them.
            source: What messages call the file.

        Raises:
            BadInput: The content is not a report; the message names the key.
        """
        try:
            known = reading.from_json(cls, content)
        except reading.Mismatch as error:
            raise BadInput(f"{source}: is not a report: {error}; {_ADVICE}") from None
        values = {f.name: getattr(known, f.name) for f in fields(cls) if f.name != "more"}
        return cls.of({**content, **values})

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read and check the report.json of an output folder, or the file itself.

        Raises:
            BadInput: There is no report, or it is damaged; the message says where.
        """
        file = path / "report.json" if path.is_dir() else path
        if path.is_dir() and not file.exists():
            raise BadInput(f"{path}: has no report.json; {_ADVICE}")
        if existing_file(file).stat().st_size > MAX_BYTES:
            raise BadInput(f"{file}: is too large for a report; {_ADVICE}")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):  # not text, not JSON, or nested too deeply
            raise BadInput(f"{file}: is not a report; {_ADVICE}") from None
        return cls.from_json(content, file)
