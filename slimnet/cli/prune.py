"""slimnet prune"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.errors import BadInput

if TYPE_CHECKING:
    from slimnet.analysis.compressibility import Rule
    from slimnet.planning.target import Target
    from slimnet.report.summary import Report


def prune(
    model: o.Model,
    method: Annotated[
        str,
        typer.Option(
            help="From the weights: l1, l2, max, bn-gamma, bn-beta, gm, fermat, random. "
            "From data: apoz, entropy, taylor-l1, taylor-l2, obd. "
            "Training: greg-1, greg-2, group-hs, group-lasso, spp, increg. "
            "Single weights: hoyer, hoyer-square, transformed-l1."
        ),
    ] = "l1",
    ratio: Annotated[
        str | None,
        typer.Option(
            help="Fraction of the removable channels to take, between 0 and 1; 0.5 if no target is given. auto: of "
            "each group what the PQ index of its scores lets go; with settings as in auto?gamma=3&beta=0.5."
        ),
    ] = None,
    speedup: Annotated[
        list[str] | None,
        typer.Option(
            help="Times faster, as measured here, such as 2.0; may be repeated for a folder each and a table."
        ),
    ] = None,
    latency: Annotated[str | None, typer.Option(help="Time per run, as measured here, such as 8ms.")] = None,
    params: Annotated[str | None, typer.Option(help="Parameters to keep: a fraction such as 0.3, or 1.2M.")] = None,
    flops: Annotated[str | None, typer.Option(help="Multiply-adds to keep: a fraction such as 0.5, or 2G.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Take the smallest network where a target cannot be reached.")
    ] = False,
    macs_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            help="How much a target's plan keeps multiply-adds rather than importance; 1 if not given. About 16 makes "
            "FLOPs fall no faster than the time where that can be had: for networks that are trained long afterwards.",
        ),
    ] = None,
    out: o.Out = None,
    scope: Annotated[
        str, typer.Option(help="layer: the ratio from every group; global or isomorphic: one threshold over many.")
    ] = "layer",
    round_to: Annotated[
        str, typer.Option(help="Widths to aim for: auto (what the runtime here likes), a number, or none.")
    ] = "auto",
    ratio_for: Annotated[
        list[str] | None, typer.Option(help="PATTERN=R: another ratio for some layers; may be repeated.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="PATTERN of layers to leave alone; may be repeated.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: a hyper-parameter of the method, such as seed=1 of random.")
    ] = None,
    skip_coupled: Annotated[
        bool, typer.Option("--skip-coupled", help="Leave residual streams alone, as the papers do.")
    ] = False,
    picks: Annotated[
        str | None,
        typer.Option(help="Criterion (l1, random, obd, ...) that chooses what a training method then removes gently."),
    ] = None,
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    data: o.DataSpec = None,
    epochs: o.Epochs = None,
    lr: o.LearningRate = None,
    sparse_epochs: o.SparseEpochs = 10,
    sparse_lr: o.SparseLearningRate = None,
    batch_size: o.BatchSize = None,
    distill: o.Distill = None,
    train: o.Setting = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    resume: o.Resume = False,
    allow_inexact: o.AllowInexact = False,
    heads: o.Heads = False,
    head_dims: o.HeadDims = False,
    threads: o.Threads = None,
    batch: o.Batch = None,
    provider: o.Provider = "cpu",
    bench_seconds: o.BenchSeconds = 3.0,
    prove: o.Prove = True,
    json: o.Json = False,
) -> None:
    """Remove the least important channels, prove the result and measure it.

    Writes slim.onnx, plan.json, report.json and report.html to the output folder (MODEL-slim in the working folder if
    not given), and slim.safetensors where the PyTorch class can carry the new widths.

    Methods that train regularise the network first; `--epochs` fine-tunes the small one, on the training split of
    `--data`, watched on its validation split.

    Exit codes: 0 fine, 2 bad input, 3 the small network is not equal to the masked one, 5 training failed.
    """
    prefer = o.preference(heads, head_dims)
    ratios = tuple((name, _number(value, f"--ratio-for {name}")) for name, value in o.pairs(ratio_for, "--ratio-for"))
    hyper = {name: o.plain(value) for name, value in o.pairs(option, "--option")}
    rounding = _rounding(round_to)
    amount = _ratio(ratio)
    targets = _targets(ratio, speedup, {"latency": latency, "params": params, "flops": flops}, best, macs_weight)
    if targets != [None]:
        o.check_alone(scope, measured=bool(speedup or latency))
    given = o.settings(train)
    target = out if out is not None else Path(f"{model.stem}-slim")
    from slimnet.common.files import check_writable

    check_writable(target)
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock, batch)
        from slimnet.methods import is_training
        from slimnet.pipeline.export import CHECKPOINTS, Delivery
        from slimnet.pipeline.prune import Budget
        from slimnet.pipeline.prune import prune as run
        from slimnet.pipeline.search import Aim, Stopwatch
        from slimnet.runtime.registry import backend

        runtime = backend(provider, threads)
        split = o.data_for(net, data)
        count = epochs if epochs is not None else 10 if is_training(method) else 0
        training = None
        if split is not None and (count or is_training(method)):
            from slimnet.pipeline.finetune import Training
            from slimnet.training.phase import phase

            shared = {"batch_size": batch_size, "seed": seed}
            before = phase(Training.sparsify, **shared, epochs=sparse_epochs, lr=sparse_lr)
            after = phase(Training.finetune, **shared, epochs=count, lr=lr, distill=distill)
            before, after = phase(before, **given["sparsify"]), phase(after, **given["finetune"])
            training = Training(split, before, after, device, resume=resume)
        elif count:
            raise BadInput(f"--epochs {count}: fine-tuning needs --data")
        elif idle := [*o.typed(lr=lr, sparse_lr=sparse_lr, distill=distill), *(f"--train {t}" for t in train or ())]:
            raise BadInput(f"{idle[0]}: nothing is trained; give --data and --epochs")
        delivery = Delivery(target, runtime, bench_seconds, prove, split, o.command_line())
        if not o.is_main_process():
            delivery = Delivery(data=split, bench_seconds=0, prove=False)
        budget = Budget(amount, scope, rounding, ratios, tuple(ignore or ()), not skip_coupled, picks)
        aim = Aim(lambda traced: Stopwatch(traced, runtime, bench_seconds or Stopwatch.seconds))
        reports = {}
        for goal in targets:
            # The hardest comes first: if it cannot be reached, nothing is written.
            folder = target if goal is None or len(targets) == 1 else target / f"{goal.asked:g}x"
            reports[folder] = run(
                net,
                method,
                replace(budget, target=goal),
                replace(delivery, out=delivery.out and folder),
                options=hyper,
                allow_inexact=allow_inexact,
                prefer=prefer,
                training=training and replace(training, folder=folder / CHECKPOINTS),
                aim=aim,
                clock=clock,
            )
    if o.is_main_process():
        _show(reports, json, target)


def _show(reports: Mapping[Path, Report], json: bool, target: Path) -> None:
    """Print the report, or of several the trade-off between them, which is also written."""
    if len(reports) == 1:
        return o.show_report(next(iter(reports.values())), json, target)
    import json as encoder

    from slimnet.common.files import replacing
    from slimnet.report.pareto import pareto, pareto_svg, pareto_table

    rows = pareto({folder.name: reports[folder] for folder in sorted(reports)})
    text = encoder.dumps(rows, indent=2) + "\n"
    for name, content in (("pareto.json", text), ("pareto.svg", pareto_svg(rows))):
        with replacing(target / name) as file:
            file.write_text(content, encoding="utf-8")
    if json:
        print(text, end="")
        return None
    from rich.console import Console

    console = Console()
    console.print(pareto_table(rows))
    console.print(f"written to {target}", markup=False)
    return None


def _targets(
    ratio: str | None,
    speedups: Sequence[str] | None,
    others: Mapping[str, str | None],
    best: bool,
    macs_weight: float | None,
) -> list[Target | None]:
    """What to aim at, the hardest first; [None] where a ratio says how much goes."""
    named = ["--ratio"] if ratio is not None else []
    named += ["--speedup"] if speedups else []
    named += [f"--{kind}" for kind, text in others.items() if text is not None]
    if len(named) > 1:
        raise BadInput(f"{' and '.join(named)} exclude each other; give one of them")
    if not named or ratio is not None:
        for name, given in (("--best", best), ("--macs-weight", macs_weight is not None)):
            if given:
                raise BadInput(f"{name} is for targets; give --speedup, --latency, --params or --flops")
        return [None]
    from slimnet.planning.solve import MACS_WEIGHT
    from slimnet.planning.target import parse_target

    weight = MACS_WEIGHT if macs_weight is None else macs_weight
    asked = [("speedup", text) for text in speedups or ()]
    asked += [(kind, text) for kind, text in others.items() if text is not None]
    found = {parse_target(kind, text, best, weight) for kind, text in asked}
    return [*sorted(found, key=lambda goal: -goal.asked)]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{where}={text}: {text} is not a number") from None


def _rounding(text: str) -> int | str | None:
    if text == "none":
        return None
    if text == "auto":
        return text
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise BadInput(f"--round-to {text}: give auto, none, or a positive number")


def _ratio(text: str | None) -> float | Rule:
    if text is not None and text.partition("?")[0] == "auto":
        from slimnet.analysis.compressibility import Rule

        return Rule.parse(text)
    ratio = 0.5 if text is None else _number(text, "--ratio")
    if not 0 < ratio < 1:
        raise BadInput(f"--ratio {ratio:g} is not between 0 and 1; 0.5 removes half of the channels")
    return ratio
