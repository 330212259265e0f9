"""The command line: one file per verb, no logic. Heavy modules are imported when a verb runs."""

from __future__ import annotations

import gc
import sys

import typer

from slimnet.cli.analyze import analyze
from slimnet.cli.bench import bench
from slimnet.cli.compare import compare
from slimnet.cli.eval import eval
from slimnet.cli.options import translated
from slimnet.cli.profile import profile
from slimnet.cli.prune import prune
from slimnet.cli.run import run
from slimnet.cli.sap import sap
from slimnet.cli.shrink import shrink
from slimnet.cli.slim import slim
from slimnet.cli.trace import trace
from slimnet.cli.train import train
from slimnet.cli.verify import verify
from slimnet.common.errors import SlimnetError

app = typer.Typer(
    help=(
        "Make trained networks physically smaller, prove that the small one equals the masked one, ship it as ONNX.\n\n"
        "Start with: slimnet prune model.onnx -o out/"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for verb in (prune, trace, profile, shrink, slim, verify, bench, train, eval, run, analyze, sap, compare):
    app.command()(verb)

#: Objects made between two searches for garbage: importing and exporting make millions that all stay.
_GARBAGE = (50_000, 20, 100)

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; whatever goes wrong is one line on stderr and an exit code."""
    gc.set_threshold(*_GARBAGE)
    try:
        app()
    except SlimnetError as error:
        print(f"slimnet: {translated(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("slimnet: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from slimnet.cli import crash

        print(f"slimnet: {crash.told(error)}", file=sys.stderr)
        sys.exit(crash.EXIT_CODE)
