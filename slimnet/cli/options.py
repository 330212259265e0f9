"""From the configs of a job to the options of a verb, and back: each option is declared once, at the config's field."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from slimnet.common.errors import BadInput
from slimnet.common.settings import PhaseOption, Setting, settings_of
from slimnet.pipeline.config import (
    DenseConfig,
    IterativeConfig,
    ModelConfig,
    PruneConfig,
    RunConfig,
    TrainConfig,
    pairs,
    plain,
)

if TYPE_CHECKING:
    from slimnet.common.clock import Clock
    from slimnet.report.summary import Report

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Arch = Annotated[
    str, typer.Option(help="Class to train: torchvision:NAME, timm:NAME, models:NAME, FILE.py:CALLABLE, ...")
]

_CONFIGS = (ModelConfig, PruneConfig, RunConfig, TrainConfig, DenseConfig, IterativeConfig)
_TRAIN = "NAME=VALUE: any other training setting (momentum=0.8, optimizer=adam, patience=5); may be repeated."
_TRAIN_PHASES = (
    "NAME=VALUE: any other training setting, of both phases (momentum=0.8, optimizer=adam, patience=5) or one "
    "(finetune.schedule=step:60,90, sparsify.weight_decay=0); may be repeated."
)
Verb = TypeVar("Verb", bound=Callable[..., None])


@dataclass(frozen=True)
class Only:
    """The fields of a config that a verb has options for: these, or all but these."""

    names: tuple[str, ...]
    given: bool = True


def only(*names: str) -> Only:
    """The annotation of a config of which a verb takes these fields, in their order, and no others."""
    return Only(names)


def without(*names: str) -> Only:
    """The annotation of a config of which a verb takes all fields but these."""
    return Only(names, given=False)


# -- options of configs ------------------------------------------------------------------------------------------------


def configured(verb: Verb) -> Verb:
    """Decorator: every parameter of a verb that takes a config becomes the options of the config's fields.

    `Annotated[RunConfig, only("threads")]` takes some of them.
    """
    configs: dict[str, tuple[Any, dict[str, tuple[Setting, Any]]]] = {}
    parameters: dict[str, inspect.Parameter] = {}
    for name, hint in get_type_hints(verb, include_extras=True).items():
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if name == "return":
            continue
        if is_dataclass(kind):
            configs[name] = kind, _chosen(kind, hint)
            parameters |= {option.name: option for option in _options(configs[name][1])}
        else:
            given = inspect.signature(verb).parameters[name]
            parameters[name] = given.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)

    @functools.wraps(verb)
    def run(**values: Any) -> None:
        built = {name: _built(kind, settings, values) for name, (kind, settings) in configs.items()}
        rest = {name: values[name] for name in inspect.signature(verb).parameters if name not in configs}
        verb(**built, **rest)

    options = sorted(parameters.values(), key=lambda p: not _is_argument(p))
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {name: option.annotation for name, option in parameters.items()}
    return run  # type: ignore[return-value]


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(extra, typer.models.ArgumentInfo) for extra in get_args(parameter.annotation))


def _chosen(config: Any, hint: Any) -> dict[str, tuple[Setting, Any]]:
    """The settings of a config that are options here."""
    found = settings_of(config)
    chosen = next((extra for extra in get_args(hint) if isinstance(extra, Only)), without())
    names = chosen.names if chosen.given else [name for name in found if name not in chosen.names]
    return {name: found[name] for name in names}


def _options(settings: Mapping[str, tuple[Setting, Any]]) -> Iterator[inspect.Parameter]:
    for name, (setting, default) in settings.items():
        for flag, (_, help) in setting.flags.items():
            yield _parameter(_python(flag), bool, False, typer.Option(flag, help=help))
        for option in setting.phase:
            info = typer.Option(option.name, help=option.help, min=option.low, max=option.high)
            yield _parameter(_python(option.name), option.kind, option.default, info)
        if setting.argument:
            yield _parameter(name, setting.kind, inspect.Parameter.empty, typer.Argument(help=setting.help))
        elif setting.kind is not None:
            several = get_origin(setting.kind) is list
            info = typer.Option(*_declared(name, setting), help=setting.help, min=setting.low, max=setting.high)
            yield _parameter(name, setting.kind, None if several else default, info)
    phases = [name for name, (setting, _) in settings.items() if setting.phase]
    if phases:
        help = _TRAIN_PHASES if len(phases) > 1 else _TRAIN
        yield _parameter("train", list[str], None, typer.Option("--train", help=help))


def _declared(name: str, setting: Setting) -> tuple[str, ...]:
    """The option's names; one that is false says only how to make it true."""
    return setting.option or (f"--{name.replace('_', '-')}",)


def _parameter(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    kind = Annotated[kind if default is not None else kind | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _python(option: str) -> str:
    return option.strip("-").replace("-", "_")


def _built(config: Any, settings: Mapping[str, tuple[Setting, Any]], values: Mapping[str, Any]) -> Any:
    """A config from the values of its options."""
    phases = tuple(name for name, (setting, _) in settings.items() if setting.phase)
    train = phase_settings(values["train"], phases) if phases else {}
    given: dict[str, Any] = {}
    for name, (setting, _) in settings.items():
        if setting.flags:
            chosen = [flag for flag in setting.flags if values[_python(flag)]]
            if len(chosen) > 1:
                raise BadInput(f"{' and '.join(chosen)} exclude each other; give one of them")
            if chosen:
                given |= {name: setting.flags[chosen[0]][0]}
        elif setting.phase:
            given |= {name: _short(setting.phase, values) | train[name]}
        elif setting.kind is not None and values[name] is not None:
            read = setting.read or (tuple if get_origin(setting.kind) is list else lambda value: value)
            given |= {name: read(values[name])}
    return config(**given)


def _short(options: Sequence[PhaseOption], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a phase that have options of their own, as these were given."""
    found = {option.setting: values[_python(option.name)] for option in options}
    return {name: value for name, value in found.items() if value is not None}


def phase_settings(given: list[str] | None, phases: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The `--train` settings of each phase; a command that has only one names it without a dot."""
    found: dict[str, dict[str, Any]] = {phase: {} for phase in phases}
    for name, value in pairs(given or (), "train"):
        phase, dot, key = name.rpartition(".")
        if dot and len(phases) == 1:
            raise BadInput(f"`train` {name}: there is one phase only; write {key}={value}")
        if dot and phase not in found:
            raise BadInput(f"`train` {name}: there is no phase {phase!r}; choose {' or '.join(phases)}")
        for p in [phase] if dot else found:
            found[p][key.replace("-", "_")] = plain(value)
    return found


# -- errors ------------------------------------------------------------------------------------------------------------


def translated(message: str) -> str:
    """An error of the library with arguments as the options of the command line: `round_to` is --round-to."""
    return re.sub(r"`([a-z_]+)(?:\.([a-z_]+))?(?:=([^`\s]*))?`", _option, message)


def _option(match: re.Match[str]) -> str:
    name, part, value = match.groups()
    for config in _CONFIGS:
        setting, _ = settings_of(config).get(name, (None, None))
        if setting is None or not (setting.kind or setting.flags or setting.phase):
            continue
        if part is not None:
            return _as_typed(setting.phase, name, part, value)
        if setting.flags:
            return next((flag for flag, (stands_for, _) in setting.flags.items() if value == str(stands_for)), name)
        return _with_value(_declared(name, setting)[0].partition("/")[0], value)
    return _with_value(f"--{name.replace('_', '-')}", value) if part is None else match.group()


def _with_value(option: str, value: str | None) -> str:
    return option if value in (None, "True") else f"{option} {value.lower()}"


def _as_typed(options: Sequence[PhaseOption], phase: str, setting: str, value: str) -> str:
    """The option that has set something of a phase of training."""
    for word in (f"{phase}.{setting}={value}", f"{setting}={value}"):
        if any(typed in (word, f"--train={word}") for typed in sys.argv):
            return f"--train {word}"
    return next((f"{option.name} {value}" for option in options if option.setting == setting), f"--train {word}")


# -- what every verb does ----------------------------------------------------------------------------------------------


def recorded(run: RunConfig, model: Path | None = None, kind: str = "slim") -> RunConfig:
    """The config with what was typed, and a folder in the working folder where none was given: MODEL-slim."""
    out = run.out if run.out is not None or model is None else Path(f"{model.stem}-{kind}")
    return replace(run, out=out, command=command_line())


def command_line() -> str:
    """The command line as it was typed, for a report."""
    return shlex.join(["slimnet", *sys.argv[1:]])


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


def print_json(content: Any) -> None:
    import json

    print(json.dumps(content, indent=2))


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
        console.print(f"unproven (no kept channel changes anything enough to tell): {', '.join(unproven[:5])}"
                      + (f" and {len(unproven) - 5} more" if len(unproven) > 5 else ""), markup=False)  # fmt: skip
    torch_side = report.content["torch"]
    if torch_side is not None and not torch_side["survives"]:
        console.print(translated(f"no slim.safetensors: {torch_side['why']}"), markup=False)
    timing_notes = report.content["bench"]["notes"] if report.content["bench"] else []
    for note in (*report.content["notes"], *timing_notes):
        console.print(translated(note), markup=False)
    if out is not None:
        console.print(f"written to {out}", markup=False)
