"""slimnet prune"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.errors import BadInput


def prune(
    model: o.Model,
    method: Annotated[str, typer.Option(help="l1, l2, bn-gamma, bn-beta, gm, fermat or random.")] = "l1",
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
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    data: o.Data = None,
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

    Exit codes: 0 fine, 2 bad input, 3 the small network is not equal to the masked one.
    """
    prefer = o.preference(heads, head_dims)
    ratios = tuple((name, _number(value, f"--ratio-for {name}")) for name, value in _pairs(ratio_for, "--ratio-for"))
    hyper = {name: _value(value) for name, value in _pairs(option, "--option")}
    rounding = _rounding(round_to)
    _check_ratio(ratio)
    target = out if out is not None else Path(f"{model.stem}-slim")
    from slimnet.io.files import check_writable

    check_writable(target)
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock)
        from slimnet.pipeline import Budget, Delivery
        from slimnet.pipeline import prune as run

        report = run(
            net,
            method,
            Budget(ratio, scope, rounding, ratios, tuple(ignore or ())),
            Delivery(target, threads, bench_seconds, prove, o.data_for(net, data)),
            options=hyper,
            allow_inexact=allow_inexact,
            prefer=prefer,
            clock=clock,
        )
    o.show_report(report, json, target)


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = [text.rpartition("=") for text in given or ()]
    for name, _, value in pairs:
        if not name or not value:
            raise BadInput(f"{option} {name}{value}: write it as NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{where}={text}: {text} is not a number") from None


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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
