"""slimnet prune"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.errors import BadInput


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
    ratio: Annotated[float, typer.Option(help="Fraction of the removable channels to take, between 0 and 1.")] = 0.5,
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
    bench_seconds: o.BenchSeconds = 3.0,
    prove: o.Prove = True,
    json: o.Json = False,
) -> None:
    """Remove the least important channels, prove the result and measure it.

    Writes slim.onnx, plan.json and report.json to the output folder (MODEL-slim in the working folder if not given),
    and slim.safetensors where the PyTorch class can carry the new widths.

    Methods that train regularise the network first; `--epochs` fine-tunes the small one, on the training split of
    `--data`, watched on its validation split.

    Exit codes: 0 fine, 2 bad input, 3 the small network is not equal to the masked one, 5 training failed.
    """
    prefer = o.preference(heads, head_dims)
    ratios = tuple((name, _number(value, f"--ratio-for {name}")) for name, value in o.pairs(ratio_for, "--ratio-for"))
    hyper = {name: o.plain(value) for name, value in o.pairs(option, "--option")}
    rounding = _rounding(round_to)
    _check_ratio(ratio)
    given = o.settings(train)
    target = out if out is not None else Path(f"{model.stem}-slim")
    from slimnet.io.files import check_writable

    check_writable(target)
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock)
        from slimnet.delivery import CHECKPOINTS, Delivery
        from slimnet.methods import is_training
        from slimnet.pipeline import Budget
        from slimnet.pipeline import prune as run

        split = o.data_for(net, data)
        count = epochs if epochs is not None else 10 if is_training(method) else 0
        training = None
        if split is not None and (count or is_training(method)):
            from slimnet.training.job import Training
            from slimnet.training.phase import phase

            shared = {"batch_size": batch_size, "seed": seed}
            before = phase(Training.sparsify, **shared, epochs=sparse_epochs, lr=sparse_lr)
            after = phase(Training.finetune, **shared, epochs=count, lr=lr, distill=distill)
            training = Training(
                split,
                phase(before, **given["sparsify"]),
                phase(after, **given["finetune"]),
                device,
                target / CHECKPOINTS,
                resume,
            )
        elif count:
            raise BadInput(f"--epochs {count}: fine-tuning needs --data")
        delivery = Delivery(target, threads, bench_seconds, prove, split)
        if not o.is_main_process():
            delivery = Delivery(data=split, bench_seconds=0, prove=False)
        report = run(
            net,
            method,
            Budget(ratio, scope, rounding, ratios, tuple(ignore or ()), not skip_coupled),
            delivery,
            options=hyper,
            allow_inexact=allow_inexact,
            prefer=prefer,
            training=training,
            clock=clock,
        )
    if o.is_main_process():
        o.show_report(report, json, target)


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


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio < 1:
        raise BadInput(f"--ratio {ratio:g} is not between 0 and 1; 0.5 removes half of the channels")
