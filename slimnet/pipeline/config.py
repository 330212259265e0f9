"""What a job is asked for: public dataclasses, from which the command line's options and the keys of recipes are made.

Nothing here loads more than the standard library, so that `slimnet --help` is quick.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.common.errors import BadInput
from slimnet.common.settings import DAY, LARGEST_COUNT, LARGEST_SEED, Checked, PhaseOption, documented, setting
from slimnet.data.sources import forms
from slimnet.methods.registry import canonical, choices
from slimnet.training.phase import Phase, phase

if TYPE_CHECKING:
    from slimnet.analysis.compressibility import Rule
    from slimnet.data.load import Data
    from slimnet.data.unlabelled import Unlabelled
    from slimnet.planning.target import Target
    from slimnet.runtime.backend import Backend

#: How each phase is trained where nothing else is said: regularised training, fine-tuning, a dense network, and every
#: iteration of pruning single weights (as published, but for the epochs (200) and that the best epoch is one of the
#: validation split, not the test split).
SPARSIFY, FINETUNE = Phase(schedule="constant"), Phase(best=True)
DENSE = Phase(epochs=20, lr=0.05, best=True)
REWOUND = Phase(epochs=10, lr=0.1, nesterov=True, batch_size=250, schedule="cosine", clip=1.0, best=True)
#: Epochs of fine-tuning after a method that trains, where nothing else is said; there are none after the others.
EPOCHS = 10

_NUMBER = (int, float)
#: Methods that prune single weights in turns, and where they compare weights.
METHODS = ("sap", "lottery", "one-shot")
SCOPES = ("global", "layer", "neuron")

_BATCH_SIZE = PhaseOption("batch_size", int, "Samples per step and process.", low=1, high=LARGEST_COUNT)
_SEED = PhaseOption("seed", int, "Of order, augmentation and dropout.", low=0, high=LARGEST_SEED, default=0)


# -- from text ---------------------------------------------------------------------------------------------------------


def pairs(given: Sequence[str], name: str) -> list[tuple[str, str]]:
    """The (name, value) pairs of an argument that takes NAME=VALUE."""
    found = [text.rpartition("=") for text in given]
    for key, _, value in found:
        if not key or not value:
            raise BadInput(f"`{name}` {key}{value}: write it as NAME=VALUE")
    return [(key, value) for key, _, value in found]


def plain(text: str) -> int | float | bool | str:
    """The number, truth value or text that the text of a setting stands for; no integer has more than 64 bits."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if isinstance(number, float) or abs(number) < 2**63:
            return number
    return text


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{where}={text}: {text} is not a number") from None


def _ratios(given: Sequence[str]) -> tuple[tuple[str, float], ...]:
    return tuple((name, _number(value, f"`ratio_for` {name}")) for name, value in pairs(given, "ratio_for"))


def _options(given: Sequence[str]) -> dict[str, Any]:
    return {name: plain(value) for name, value in pairs(given, "options")}


def _constants(given: Sequence[str]) -> dict[str, Any]:
    return dict(pairs(given, "constants"))


def rounding(given: str | int) -> int | str | None:
    """The value of `round_to` from text: "auto", None for "none", or a number."""
    text = str(given)
    if text == "none":
        return None
    if text == "auto":
        return text
    number = plain(text)
    if isinstance(number, int) and 1 <= number <= LARGEST_COUNT:
        return number
    raise BadInput(f"`round_to` {text}: give auto, none, or a number from 1 to {LARGEST_COUNT}")


# -- configs -----------------------------------------------------------------------------------------------------------


@documented
@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """The network of a job, and how to load it."""

    model: Path = setting(
        Path(),
        "An .onnx file, a PyTorch checkpoint (.pt .pth .safetensors) or a .pt2 program.",
        kind=Path,
        argument=True,
    )
    arch: str | None = setting(
        None,
        "Class of a checkpoint: torchvision:NAME, timm:NAME, models:NAME, FILE.py:CALLABLE or "
        "package.module:CALLABLE, with keywords as in torchvision:resnet18?num_classes=10.",
        kind=str,
    )
    inputs: tuple[str, ...] = setting(
        (),
        "Input shape, 1x3x224x224, NAME=1x16:int64 or NAME=scalar; once per input.",
        kind=list[str],
        option=("--input",),
    )
    constants: Mapping[str, Any] = setting(
        dict,
        "NAME=VALUE: bind an input of an .onnx or .pt2 file to a constant, and take the branches that it chooses; "
        "once per input.",
        kind=list[str],
        option=("--set",),
        read=_constants,
    )
    unsafe_pickle: bool = setting(False, "Allow pickles that run code. Only for files you trust.", kind=bool)
    cache: bool = setting(
        True,
        "Take the graph of a PyTorch class from the cache folder where it was exported before, and keep it there.",
        kind=bool,
        option=("--cache/--no-cache",),
    )
    batch: int | None = setting(None, "Size of the first axis, where the model leaves it open.", kind=int, low=1)


@documented
@dataclass(frozen=True, kw_only=True)
class TraceConfig(Checked):
    """What may be removed from a network at all."""

    allow_inexact: bool = setting(
        False,
        "Also cut what goes through LayerNorm, softmax or a mean, where removing zeros changes the result.",
        kind=bool,
        keys=(bool,),
    )
    prefer: str | None = setting(
        None,
        '"heads" cuts whole attention heads and whole conv groups, "head-dims" inside every one of them.',
        flags={
            "--heads": ("heads", "Cut whole attention heads and whole conv groups."),
            "--head-dims": ("head-dims", "Cut inside every attention head and every conv group."),
        },
        keys=(str,),
    )


@documented
@dataclass(frozen=True, kw_only=True)
class PruneConfig(TraceConfig):
    """What goes and how much of it: a ratio, or a target that a solver finds the widths for.

    Raises BadInput where settings exclude each other.
    """

    method: str = setting(
        "l1",
        f"{choices()} FILE.py:CLASS is one of your own.",
        kind=str,
        keys=(str,),
    )
    ratio: float | str | Rule | None = setting(
        None,
        "Fraction of the removable channels to take, between 0 and 1; 0.5 if no target is given. auto: of "
        "each group what the PQ index of its scores lets go; with settings as in auto?gamma=3&beta=0.5.",
        kind=str,
        keys=(*_NUMBER, str),
    )
    speedup: float | str | tuple[float | str, ...] | None = setting(
        None,
        "Times faster, as measured here, such as 2.0; may be repeated for a folder each and a table.",
        kind=list[str],
        keys=(*_NUMBER, str),
    )
    latency: float | str | None = setting(
        None, "Time per run, as measured here, such as 8ms.", kind=str, keys=(*_NUMBER, str)
    )
    params: float | str | None = setting(
        None, "Parameters to keep: a fraction such as 0.3, or 1.2M.", kind=str, keys=(*_NUMBER, str)
    )
    macs: float | str | None = setting(
        None,
        "Multiply-adds to keep: a fraction such as 0.5, or 2G.",
        kind=str,
        option=("--macs", "--flops"),
        keys=(*_NUMBER, str),
    )
    best: bool = setting(False, "Take the smallest network where a target cannot be reached.", kind=bool, keys=(bool,))
    macs_weight: float | None = setting(
        None,
        "How much a target's plan keeps multiply-adds rather than importance; 1 if not given. About 16 makes "
        "MACs fall no faster than the time where that can be had: for networks that are trained long afterwards.",
        kind=float,
        low=0,
        high=1e6,
        keys=_NUMBER,
    )
    scope: str = setting(
        "layer",
        "layer: the ratio from every group; global or isomorphic: one threshold over many.",
        kind=str,
        keys=(str,),
    )
    round_to: int | str | None = setting(
        "auto",
        "Widths to aim for: auto (what the runtime here likes), a number, or none.",
        kind=str,
        read=rounding,
        keys=(str, int),
    )
    ratio_for: Mapping[str, float] | Sequence[tuple[str, float]] = setting(
        (), "PATTERN=R: another ratio for some layers; may be repeated.", kind=list[str], read=_ratios, keys=(dict,)
    )
    ignore: Sequence[str] = setting(
        (), "PATTERN of layers to leave alone; may be repeated.", kind=list[str], keys=(list,)
    )
    options: Mapping[str, Any] = setting(
        dict,
        "NAME=VALUE: a hyper-parameter of the method, such as seed=1 of random.",
        kind=list[str],
        option=("--option",),
        read=_options,
        keys=(dict,),
    )
    coupled: bool = setting(
        True,
        "Whether residual streams are pruned too, which the papers leave alone.",
        flags={"--skip-coupled": (False, "Leave residual streams alone, as the papers do.")},
        keys=(bool,),
    )
    picks: str | None = setting(
        None,
        "Criterion (l1, random, fisher, ...) that chooses what a training method then removes gently.",
        kind=str,
        keys=(str,),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [name for name in ("ratio", "speedup", "latency", "params", "macs") if self._given(name)]
        if len(named) > 1:
            raise BadInput(f"{' and '.join(f'`{name}`' for name in named)} exclude each other; give one of them")
        targeted = bool(named) and named != ["ratio"]
        for name, given in (("best", self.best), ("macs_weight", self.macs_weight is not None)):
            if given and not targeted:
                raise BadInput(f"`{name}` is for targets; give `speedup`, `latency`, `params` or `macs`")
        if targeted and self.scope != "layer":
            raise BadInput(f"`scope` {self.scope}: a target sets the widths of all groups together; leave it out")
        assert self.amount is not None
        assert self.targets is not None

    def _given(self, name: str) -> bool:
        return getattr(self, name) not in (None, (), [])

    @cached_property
    def amount(self) -> float | Rule:
        """The ratio, or the rule that gives each group its own from the compressibility of its scores.

        Raises:
            BadInput: it is neither.
        """
        given = self.ratio
        if isinstance(given, str) and given.partition("?")[0] == "auto":
            from slimnet.analysis.compressibility import Rule

            return Rule.parse(given)
        if given is not None and not isinstance(given, int | float | str):
            return given
        ratio = 0.5 if given is None else _number(given, "`ratio`") if isinstance(given, str) else given
        if not 0 < ratio < 1:
            raise BadInput(f"`ratio` {ratio:g} is not between 0 and 1; 0.5 removes half of the channels")
        return ratio

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets, the hardest first; none where a ratio says how much goes.

        Raises:
            BadInput: one that is not understood, or asks for nothing.
        """
        kinds = [kind for kind in ("speedup", "latency", "params", "macs") if self._given(kind)]
        if not kinds:
            return ()
        from slimnet.planning.solve import MACS_WEIGHT
        from slimnet.planning.target import parse_target

        weight = MACS_WEIGHT if self.macs_weight is None else self.macs_weight
        (kind,) = kinds
        given = getattr(self, kind)
        several = given if isinstance(given, tuple | list) else (given,)
        found = {parse_target(kind, each, self.best, weight) for each in several}
        return tuple(sorted(found, key=lambda target: -target.asked))

    @property
    def target(self) -> Target | None:
        """The target, if there is one. Raises BadInput where there are several, which no single network meets."""
        if len(self.targets) > 1:
            raise BadInput(f"`{self.targets[0].kind}` is given {len(self.targets)} times; one network meets one target")
        return self.targets[0] if self.targets else None

    def with_target(self, target: Target) -> PruneConfig:
        """The config with one of its targets alone."""
        asked: dict[str, Any] = {target.kind: target.asked}
        return replace(self, **asked)

    @property
    def own_ratios(self) -> tuple[tuple[str, float], ...]:
        """(pattern, ratio) pairs of the groups that get a ratio of their own."""
        given = self.ratio_for
        return tuple(given.items()) if isinstance(given, Mapping) else tuple(given)

    def provenance(self) -> dict[str, Any]:
        """The settings as plans and reports record them."""
        amount, target = self.amount, self.target
        rule = None if isinstance(amount, int | float) else amount.to_json()
        how = {"ratio": "auto" if rule else amount, "scope": self.scope}
        if target is not None:
            how = {target.kind: target.asked, "macs_weight": target.macs_weight}
        more = {"rule": rule, "picks": self.picks and canonical(self.picks), "ratio_for": dict(self.own_ratios),
                "ignore": list(self.ignore), "options": dict(self.options)}  # fmt: skip
        return {"method": canonical(self.method), **how, "round_to": self.round_to, "coupled": self.coupled,
                **{key: value for key, value in more.items() if value}}  # fmt: skip


@documented
@dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """Where the results go, and what is measured with what."""

    out: str | os.PathLike[str] | None = setting(None, "Folder for the results.", kind=Path, option=("--out", "-o"))
    data: str | Data | None = setting(
        None,
        f"Data to train with, verify with and measure accuracy on: {forms()}; with settings as in "
        "mnist:DIR?limit=10000.",
        kind=str,
    )
    calib: str | Unlabelled | Sequence[Mapping[str, Any]] | None = setting(
        None,
        "Inputs without labels that the weights that stay are fitted to: FILE.npz, FILE.npy, a folder of images, "
        "FILE.py:CALLABLE, or what --data takes; with settings as in pictures/?limit=256&normalize=imagenet. The "
        "training split of --data if not given.",
        kind=str,
    )
    recover: bool = setting(
        True,
        "Fit the weights that stay to what the dense network gives on those inputs.",
        kind=bool,
        option=("--recover/--no-recover",),
    )
    threads: int | None = setting(None, "Threads of onnxruntime; all cores if not given.", kind=int, low=1)
    provider: str | Backend | None = setting(
        None,
        "Execution provider of onnxruntime that runs the networks: cpu, cuda, ...; cpu if not given. RUNTIME or "
        "RUNTIME:PROVIDER names another installed runtime.",
        kind=str,
    )
    bench_seconds: float = setting(
        3.0,
        "Seconds to spend on measuring latency; 0 skips it.",
        kind=float,
        low=0,
        high=DAY,
        option=("--bench-seconds",),
    )
    prove: bool = setting(
        True,
        "Show for every group that a difference would have been noticed.",
        kind=bool,
        option=("--prove/--no-prove",),
    )
    command: str | None = setting(None, "The command line that asked for it, for the report.")

    @property
    def folder(self) -> Path | None:
        """The folder for the results; None writes nothing."""
        return None if self.out is None else Path(self.out)

    @cached_property
    def backend(self) -> Backend:
        """What runs every network: to verify it, to measure its accuracy and to time it.

        Raises:
            BadInput: it is not installed.
        """
        if self.provider is None or isinstance(self.provider, str):
            from slimnet.runtime.registry import backend

            return backend(self.provider or "cpu", self.threads)
        return self.provider if self.threads is None else self.provider.with_threads(self.threads)

    @property
    def dataset(self) -> Data | None:
        """The data, once it is loaded."""
        assert not isinstance(self.data, str), "export.prepared has loaded it"
        return self.data


@documented
@dataclass(frozen=True, kw_only=True)
class DeviceConfig(Checked):
    """The device that trains, and whether interrupted training is continued."""

    device: str = setting("auto", "auto (a GPU if there is one) or cpu.", kind=str)
    resume: bool = setting(False, "Go on from the checkpoints of an interrupted run.", kind=bool)


@documented
@dataclass(frozen=True, kw_only=True)
class TrainConfig(DeviceConfig):
    """How to train before and after units are removed.

    A phase is a `Phase`, or the settings in which it differs from `SPARSIFY` or `FINETUNE`.
    """

    finetune: Phase | Mapping[str, Any] = setting(
        dict,
        f"The phase after the removal; 0 epochs skip it. It has {EPOCHS} after methods that train, and 0 after others.",
        phase=(
            PhaseOption(
                "epochs",
                int,
                f"Epochs of fine-tuning; {EPOCHS} for methods that train, 0 for the others if not given.",
                low=0,
                high=LARGEST_COUNT,
            ),
            PhaseOption("lr", float, "Learning rate of fine-tuning; 0.01 if not given."),
            PhaseOption("distill", float, "Weight in [0, 1] of the dense network's soft outputs while fine-tuning."),
            _BATCH_SIZE,
            _SEED,
        ),
    )
    sparsify: Phase | Mapping[str, Any] = setting(
        dict,
        "The phase in which a training method regularises the network.",
        phase=(
            PhaseOption(
                "epochs",
                int,
                "Epochs in which a training method regularises the network.",
                option="--sparse-epochs",
                low=1,
                high=LARGEST_COUNT,
                default=SPARSIFY.epochs,
            ),
            PhaseOption("lr", float, "Learning rate of regularised training.", option="--sparse-lr"),
            _BATCH_SIZE,
            _SEED,
        ),
    )
    checkpoints: Path | None = setting(None, "Folder in which checkpoints are kept until the run is done.")

    def phases(self, epochs: int = EPOCHS) -> tuple[Phase, Phase]:
        """Regularised training and fine-tuning; the latter has `epochs` where it does not say how many itself."""
        return _phase(SPARSIFY, self.sparsify), _phase(replace(FINETUNE, epochs=epochs), self.finetune)


@documented
@dataclass(frozen=True, kw_only=True)
class DenseConfig(DeviceConfig):
    """How to train a dense network: `train` is a `Phase`, or the settings in which it differs from `DENSE`."""

    train: Phase | Mapping[str, Any] = setting(
        dict,
        "How the network is trained.",
        phase=(
            PhaseOption(
                "epochs",
                int,
                f"Passes over the training split; {DENSE.epochs} if not given.",
                low=1,
                high=LARGEST_COUNT,
            ),
            PhaseOption("lr", float, f"Learning rate at the start; {DENSE.lr:g} if not given."),
            _BATCH_SIZE,
            _SEED,
        ),
    )

    @property
    def phase(self) -> Phase:
        """The phase of training."""
        return _phase(DENSE, self.train)


@documented
@dataclass(frozen=True, kw_only=True)
class IterativeConfig(DeviceConfig):
    """How single weights are pruned in turns of training and rewinding.

    "sap" takes as many weights as the PQ index allows, "lottery" a fixed fraction; both the smallest of the trained
    weights. "one-shot" takes the same fraction, the smallest of the trained dense network. `train` is a `Phase`, or the
    settings in which it differs from `REWOUND`; the network is trained once more often than weights are taken.
    """

    method: str = setting(
        "sap",
        "sap: as many weights as the PQ index allows; lottery: a fraction; one-shot: ranked once.",
        kind=str,
        keys=(str,),
    )
    scope: str = setting(
        "global", "Where weights are compared: global, layer, or neuron (a row or filter).", kind=str, keys=(str,)
    )
    iterations: int = setting(
        30, "How often weights are taken and the rest is retrained.", kind=int, low=0, high=LARGEST_COUNT, keys=(int,)
    )
    p: float = setting(0.5, "p of the PQ index, in (0, 1].", kind=float, option=("--pq-p",), keys=_NUMBER)
    q: float = setting(1.0, "q of the PQ index, at least 1 and above p.", kind=float, option=("--pq-q",), keys=_NUMBER)
    eta: float = setting(0.0, "Slack of the bound; above 0 prunes more.", kind=float, keys=_NUMBER)
    gamma: float = setting(1.0, "Scales what the bound allows; above 1 prunes more.", kind=float, keys=_NUMBER)
    beta: float = setting(0.9, "Largest fraction to take at once.", kind=float, keys=_NUMBER)
    fraction: float = setting(0.2, "What lottery and one-shot take of the weights left.", kind=float, keys=_NUMBER)
    train: Phase | Mapping[str, Any] = setting(
        dict,
        "How every iteration is trained.",
        phase=(
            PhaseOption(
                "epochs",
                int,
                "Epochs of every iteration; the paper has 200.",
                low=1,
                high=LARGEST_COUNT,
                default=REWOUND.epochs,
            ),
            PhaseOption("lr", float, f"Learning rate at the start; {REWOUND.lr:g} if not given."),
            _BATCH_SIZE,
            _SEED,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (("method", self.method, METHODS), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise BadInput(f"`{name}` {value}: is not known; choose one of: {', '.join(known)}")
        if not (self.iterations >= 0 and 0 < self.fraction < 1):
            raise BadInput(
                f"`iterations` {self.iterations}, `fraction` {self.fraction:g}: iterations cannot be negative, and the "
                "fraction lies between 0 and 1"
            )

    @property
    def rule(self) -> Rule:
        """The rule of SAP. Raises BadInput for what it cannot be."""
        from slimnet.analysis.compressibility import Rule

        return Rule(self.p, self.q, self.eta, self.gamma, self.beta)

    @property
    def phase(self) -> Phase:
        """The phase of training of every iteration."""
        return _phase(REWOUND, self.train)

    def provenance(self) -> dict[str, Any]:
        """The settings as plans and reports record them."""
        amount = self.rule.to_json() if self.method == "sap" else {"fraction": self.fraction}
        return {"method": self.method, "scope": self.scope, "iterations": self.iterations, **amount}


def _phase(base: Phase, given: Phase | Mapping[str, Any]) -> Phase:
    return given if isinstance(given, Phase) else phase(base, **given)
