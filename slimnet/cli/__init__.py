"""The command line: one file per verb, no logic. Heavy modules are imported when a verb runs."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, NoReturn

import typer

from slimnet.cli.analyze import analyze
from slimnet.cli.bench import bench
from slimnet.cli.compare import compare
from slimnet.cli.eval import eval
from slimnet.cli.options import translated
from slimnet.cli.profile import profile
from slimnet.cli.prune import prune
from slimnet.cli.recover import recover
from slimnet.cli.run import run
from slimnet.cli.sap import sap
from slimnet.cli.shrink import shrink
from slimnet.cli.slim import slim
from slimnet.cli.trace import trace
from slimnet.cli.train import train
from slimnet.cli.verify import verify
from slimnet.common.errors import BadInput, SlimnetError

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
for verb in (prune, trace, profile, shrink, slim, recover, verify, bench, train, eval, run, analyze, sap, compare):
    app.command()(verb)

#: Objects made between two searches for garbage: importing and exporting make millions that all stay.
_GARBAGE = (50_000, 20, 100)
#: How a process ends that somebody has stopped by Ctrl-C.
_INTERRUPTED = 130
#: The signals that ask a process to end, and how it then ends; Windows has no SIGHUP.
_ENDS = {
    getattr(signal, name): how
    for name, how in (("SIGTERM", "terminated"), ("SIGHUP", "hung up"))
    if hasattr(signal, name)
}

__all__ = ["app", "main"]


#: What typer's own errors are: none of its public names is this one.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


def main() -> None:
    """Run the command line; whatever goes wrong is one line on stderr and an exit code."""
    gc.set_threshold(*_GARBAGE)
    # A folder that results are gathered in is removed when the process is asked to end, too.
    for number in _ENDS:
        # nohup has a process ignore that its terminal was closed.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ended)
    try:
        _check_values(sys.argv[1:])
        code = app(standalone_mode=False)
    except SlimnetError as error:
        _end(translated(str(error)), error.exit_code)
    except _UsageError as error:
        if not sys.argv[1:]:  # the help was printed
            sys.exit(BadInput.exit_code)
        _end(_usage(error), BadInput.exit_code)
    except Exception as error:
        from slimnet.cli import crash

        _end(crash.told(error), crash.EXIT_CODE)
    if code == _INTERRUPTED:
        _end("interrupted", _INTERRUPTED)
    sys.exit(code)


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # the terminal is gone
        print(f"slimnet: {message}", file=sys.stderr)
    sys.exit(code)


def _ended(number: int, _: object) -> NoReturn:
    _end(_ENDS[number], 128 + number)


def _check_values(words: Sequence[str]) -> None:
    """Refuse empty values, which unset variables of a shell leave: an empty path would be the working folder."""
    for before, word in pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("-") and equals and not value):
            named = next((name for name in (option, before) if name.startswith("-")), "an argument")
            raise BadInput(f"{named}: is empty; give a value, or leave it out")


def _usage(error: Any) -> str:
    """What is wrong with a command line, and which help says how it is."""
    verb = f" {error.ctx.info_name}" if error.ctx is not None and error.ctx.parent is not None else ""
    return f"{error.format_message().rstrip('.')}; `slimnet{verb} --help` lists what there is"
