"""Options that several verbs share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimnet.common.errors import BadInput
from slimnet.data.sources import forms

if TYPE_CHECKING:
    from slimnet.common.clock import Clock
    from slimnet.data.load import Data
    from slimnet.graph.net import Net
    from slimnet.report.summary import Report

Model = Annotated[
    Path, typer.Argument(help="An .onnx file, a PyTorch checkpoint (.pt .pth .safetensors) or a .pt2 program.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Class of a checkpoint: torchvision:NAME, timm:NAME, models:NAME, FILE.py:CALLABLE or "
        "package.module:CALLABLE, with keywords as in torchvision:resnet18?num_classes=10."
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", help="Input shape, 1x3x224x224 or NAME=1x16:int64; once per input."),
]
UnsafePickle = Annotated[
    bool, typer.Option("--unsafe-pickle", help="Allow pickles that run code. Only for files you trust.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of onnxruntime; all cores if not given.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Size of the first axis, where the model leaves it open.")]
Provider = Annotated[str, typer.Option(help="Execution provider of onnxruntime that is timed: cpu, cuda, ...")]
DataSpec = Annotated[
    str | None,
    typer.Option(
        help=f"Data to train with, verify with and measure accuracy on: {forms()}; "
        "with settings as in mnist:DIR?limit=10000."
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=0, help="Epochs of fine-tuning; 10 for methods that train, 0 for the others if not given."),
]
SparseEpochs = Annotated[int, typer.Option(min=1, help="Epochs in which a training method regularises the network.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Learning rate of fine-tuning; 0.01 if not given.")]
SparseLearningRate = Annotated[float | None, typer.Option("--sparse-lr", help="Learning rate of regularised training.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Samples per step and process.")]
Distill = Annotated[
    float | None, typer.Option(help="Weight in [0, 1] of the dense network's soft outputs while fine-tuning.")
]
Seed = Annotated[int, typer.Option(help="Of order, augmentation and dropout.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one) or cpu.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints of an interrupted run.")]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--train",
        help="NAME=VALUE: any other training setting, of both phases (momentum=0.8, optimizer=adam, patience=5) or one "
        "(finetune.schedule=step:60,90, sparsify.weight_decay=0); may be repeated.",
    ),
]
AllowInexact = Annotated[
    bool,
    typer.Option(
        "--allow-inexact",
        help="Also cut what goes through LayerNorm, softmax or a mean, where removing zeros changes the result.",
    ),
]
Heads = Annotated[bool, typer.Option("--heads", help="Cut whole attention heads and whole conv groups.")]
HeadDims = Annotated[bool, typer.Option("--head-dims", help="Cut inside every attention head and every conv group.")]
BenchSeconds = Annotated[float, typer.Option(min=0, help="Seconds to spend on measuring latency; 0 skips it.")]
Prove = Annotated[
    bool, typer.Option("--prove/--no-prove", help="Show for every group that a difference would have been noticed.")
]


def preference(heads: bool, head_dims: bool) -> str | None:
    """The one of --heads and --head-dims that was given."""
    if heads and head_dims:
        raise BadInput("--heads and --head-dims exclude each other; give one of them")
    return "heads" if heads else "head-dims" if head_dims else None


def load_net(
    model: Path,
    arch: str | None,
    inputs: Sequence[str] | None,
    unsafe_pickle: bool,
    clock: Clock,
    batch: int | None = None,
) -> Net:
    """Load a network and time that; `batch` is the size of its inputs' first axis, where the model leaves it open."""
    from slimnet.io.load import load

    with clock("load"):
        net = load(model, arch, list(inputs or ()) or None, unsafe_pickle)
    if batch is not None:
        from slimnet.timing.conditions import as_net

        net.inputs = as_net(net.model, net.inputs, batch).inputs
    return net


def check_alone(scope: str, measured: bool) -> None:
    """Refuse what does not go together with a target for the whole network."""
    if scope != "layer":
        raise BadInput(f"--scope {scope}: a target sets the widths of all groups together; leave it out")
    if measured and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInput("--speedup and --latency are measured, which several processes would disturb; use no launcher")


def data_for(net: Net, spec: str | None) -> Data | None:
    """The data asked for, or what the checkpoint says it was trained on if that is built in."""
    from slimnet.data.load import load_data

    if spec is None and net.torch is not None and str(net.torch.notes.get("data")).partition("?")[0] == "digits":
        spec = net.torch.notes["data"]
    return None if spec is None else load_data(spec)


def pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    """What an option that takes NAME=VALUE was given."""
    found = [text.rpartition("=") for text in given or ()]
    for name, _, value in found:
        if not name or not value:
            raise BadInput(f"{option} {name}{value}: write it as NAME=VALUE")
    return [(name, value) for name, _, value in found]


def plain(text: str) -> int | float | bool | str:
    """The number, truth value or text that a setting says."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def settings(given: list[str] | None, phases: tuple[str, ...] = ("sparsify", "finetune")) -> dict[str, dict[str, Any]]:
    """The `--train` settings of each phase; a command that has only one names it without a dot."""
    found: dict[str, dict[str, Any]] = {phase: {} for phase in phases}
    for name, value in pairs(given, "--train"):
        phase, dot, key = name.rpartition(".")
        if dot and len(phases) == 1:
            raise BadInput(f"--train {name}: there is one phase only; write {key}={value}")
        if dot and phase not in found:
            raise BadInput(f"--train {name}: there is no phase {phase!r}; choose {' or '.join(phases)}")
        for p in [phase] if dot else found:
            found[p][key.replace("-", "_")] = plain(value)
    return found


def typed(**options: object) -> list[str]:
    """Those options that were given, as they were typed."""
    return [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value is not None]


def command_line() -> str:
    """What was typed, for a report."""
    return shlex.join(["slimnet", *sys.argv[1:]])


def is_main_process() -> bool:
    """Whether this is the process that writes and prints, of those that a launcher has started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def watched() -> Iterator[Clock]:
    """A clock whose steps show on stderr while they run."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from slimnet.common.clock import Clock

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    # Where nobody watches, rich would still leave an empty line behind.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        shown = ""

        def show(step: str, fraction: float | None, detail: str) -> None:
            nonlocal shown
            if step != shown:
                progress.reset(bar, description=step, total=None)
                shown = step
            if detail:
                progress.update(bar, description=f"{step}: {detail}")
            if fraction is not None:
                progress.update(bar, total=1.0, completed=fraction)

        yield Clock(show)


def show_report(report: Report, json: bool, out: Path | None) -> None:
    """Print a report as JSON, or as a table with what else is worth knowing."""
    if json:
        print(report.to_json(), end="")
        return
    from rich.console import Console

    from slimnet.report.summary import summary_table

    console = Console()
    console.print(summary_table(report))
    unproven = report.content["verify"]["unproven"]
    if unproven:
        console.print(f"unproven (no kept channel moves the output enough to tell): {', '.join(unproven[:5])}"
                      + (f" and {len(unproven) - 5} more" if len(unproven) > 5 else ""), markup=False)  # fmt: skip
    torch_side = report.content["torch"]
    if torch_side is not None and not torch_side["survives"]:
        console.print(f"no slim.safetensors: {torch_side['why']}", markup=False)
    timing_notes = report.content["bench"]["notes"] if report.content["bench"] else []
    for note in (*report.content["notes"], *timing_notes):
        console.print(note, markup=False)
    if out is not None:
        console.print(f"written to {out}", markup=False)
