"""slimnet sap"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimnet.cli import options as o

if TYPE_CHECKING:
    from rich.table import Table


def sap(
    arch: Annotated[
        str,
        typer.Option(help="Class to train: torchvision:NAME, timm:NAME, models:NAME, FILE.py:CALLABLE, ..."),
    ],
    data: Annotated[str, typer.Option(help="Data with a training split, as for prune.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("sap-slim"),
    method: Annotated[
        str,
        typer.Option(help="sap: as many weights as the PQ index allows; lottery: a fraction; one-shot: ranked once."),
    ] = "sap",
    scope: Annotated[
        str, typer.Option(help="Where weights are compared: global, layer, or neuron (a row or filter).")
    ] = "global",
    iterations: Annotated[int, typer.Option(min=0, help="How often weights are taken and the rest is retrained.")] = 30,
    p: Annotated[float, typer.Option("--pq-p", help="p of the PQ index, in (0, 1].")] = 0.5,
    q: Annotated[float, typer.Option("--pq-q", help="q of the PQ index, at least 1 and above p.")] = 1.0,
    eta: Annotated[float, typer.Option(help="Slack of the bound; above 0 prunes more.")] = 0.0,
    gamma: Annotated[float, typer.Option(help="Scales what the bound allows; above 1 prunes more.")] = 1.0,
    beta: Annotated[float, typer.Option(help="Largest fraction to take at once.")] = 0.9,
    fraction: Annotated[float, typer.Option(help="What lottery and one-shot take of the weights left.")] = 0.2,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to rewind to; random weights if not given.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every iteration; the paper has 200.")] = 10,
    lr: Annotated[float | None, typer.Option(help="Learning rate at the start; 0.1 if not given.")] = None,
    batch_size: o.BatchSize = None,
    train: o.Setting = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    resume: o.Resume = False,
    threads: o.Threads = None,
    bench_seconds: o.BenchSeconds = 3.0,
    prove: o.Prove = True,
    json: o.Json = False,
) -> None:
    """Prune single weights in turns of training and rewinding: SAP, the lottery ticket, one-shot.

    Every iteration trains from the first weights under the mask so far, and takes the smallest weights out of it. The
    channels that this empties are removed; the folder holds slim.onnx, plan.json and report.json.
    """
    from slimnet.common.files import check_writable

    check_writable(out)
    with o.watched() as clock:
        from slimnet.analysis.compressibility import Rule
        from slimnet.data.load import load_data
        from slimnet.pipeline.export import Delivery
        from slimnet.pipeline.iterative import TRAIN, Search, prune_single
        from slimnet.runtime.onnxruntime import OnnxRuntime
        from slimnet.training.phase import phase

        how = Search(method, scope, iterations, Rule(p, q, eta, gamma, beta), fraction)
        settings = phase(TRAIN, epochs=epochs, lr=lr, batch_size=batch_size, seed=seed)
        settings = phase(settings, **o.settings(train, ("train",))["train"])
        with clock("data"):
            split = load_data(data)
        delivery = Delivery(out, OnnxRuntime(threads=threads), bench_seconds, prove, split, command=o.command_line())
        report = prune_single(arch, weights, split, how, settings, delivery, device, resume, clock)
    if not json:
        from rich.console import Console

        Console().print(_table(report.content["training"]["search"]["iterations"]))
    o.show_report(report, json, out)


def _table(iterations: Sequence[Mapping[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="Iterations", title_justify="left")
    for heading in ("", "weights left", "validation", "test", "PQ(.5,1)", "PQ(1,2)", "Gini"):
        table.add_column(heading, justify="right")
    for row in iterations:
        val = "" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        figures = (f"{value:.3f}" for value in (*row["pq"], row["gini"]))
        table.add_row(str(row["iteration"]), f"{row['remaining']:.2%}", val, f"{row['test']:.2%}", *figures)
    return table
