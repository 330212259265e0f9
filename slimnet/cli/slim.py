"""slimnet slim"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.errors import BadInput


def slim(
    model: o.Model,
    plan: Annotated[Path | None, typer.Option(help="plan.json of an earlier run.")] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help=".npz of boolean masks per parameter (true stays) or indices to keep; NAME:AXIS for others."),
    ] = None,
    out: o.Out = None,
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    data: o.DataSpec = None,
    threads: o.Threads = None,
    bench_seconds: o.BenchSeconds = 3.0,
    prove: o.Prove = True,
    json: o.Json = False,
) -> None:
    """Remove what a plan or a set of masks says."""
    if (plan is None) == (mask is None):
        raise BadInput("slim needs one of --plan plan.json and --mask masks.npz")
    target = out if out is not None else Path(f"{model.stem}-slim")
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock)
        from slimnet.pipeline.apply import slim_masked, slim_planned
        from slimnet.pipeline.export import Delivery
        from slimnet.runtime.onnxruntime import OnnxRuntime

        delivery = Delivery(
            target, OnnxRuntime(threads=threads), bench_seconds, prove, o.data_for(net, data), o.command_line()
        )
        if plan is not None:
            report = slim_planned(net, plan, delivery, clock)
        else:
            assert mask is not None
            report = slim_masked(net, mask, delivery, clock)
    o.show_report(report, json, target)
