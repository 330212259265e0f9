"""slimnet shrink"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o


def shrink(
    model: o.Model,
    out: o.Out = None,
    absorb: Annotated[
        bool,
        typer.Option("--absorb", help="Fold what zero filters leave behind (bias, BN) into the next bias, if exact."),
    ] = False,
    assume_masked: Annotated[
        bool,
        typer.Option("--assume-masked", help="Remove zero filters although bias or BN leaves a constant."),
    ] = False,
    gather: Annotated[
        bool,
        typer.Option("--gather", help="Also skip inputs (pixels, positions of a flattened map) that no layer weighs."),
    ] = False,
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    data: o.DataSpec = None,
    threads: o.Threads = None,
    bench_seconds: o.BenchSeconds = 3.0,
    prove: o.Prove = True,
    json: o.Json = False,
) -> None:
    """Remove the channels that are zero already, whichever tool made them so; the outputs stay the same."""
    target = out if out is not None else Path(f"{model.stem}-slim")
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock)
        from slimnet.pipeline.export import Delivery
        from slimnet.pipeline.shrink import shrink as run
        from slimnet.runtime.onnxruntime import OnnxRuntime

        delivery = Delivery(
            target, OnnxRuntime(threads=threads), bench_seconds, prove, o.data_for(net, data), o.command_line()
        )
        report = run(net, delivery, fold=absorb, assume_masked=assume_masked, skip_inputs=gather, clock=clock)
    o.show_report(report, json, target)
