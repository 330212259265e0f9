"""Recipes: TOML files that train, prune and measure a network, once or for every combination of a sweep."""

from __future__ import annotations

import copy
import itertools
import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file, replacing
from slimnet.common.settings import settings_of
from slimnet.data.load import Data
from slimnet.io.load import load
from slimnet.pipeline.config import (
    EPOCHS,
    DenseConfig,
    DeviceConfig,
    IterativeConfig,
    PruneConfig,
    RunConfig,
    TrainConfig,
    rounding,
)
from slimnet.pipeline.export import CHECKPOINTS
from slimnet.pipeline.iterative import prune_single
from slimnet.pipeline.load import loaded
from slimnet.pipeline.prune import prune
from slimnet.pipeline.train import train_dense
from slimnet.report.summary import Report

#: Recipes follow papers, which round no widths; the command line rounds to what the runtime likes. They also fine-tune
#: after every method (`EPOCHS` epochs), the command line only after those that train.
_DEFAULTS = {"round_to": None}


def _keys(config: type) -> dict[str, tuple[type, ...]]:
    """What the table of a config may hold, and of which type."""
    return {name: setting.keys for name, (setting, _) in settings_of(config).items() if setting.keys}


#: What each table may hold, and of which types; the tables of phases are checked by `training.phase.phase`.
_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "": {
        **dict.fromkeys(("title", "arch", "weights", "data", "note"), (str,)),
        **dict.fromkeys(("dense", "prune", "sparsify", "finetune", "search", "train", "reach"), (dict,)),
        "input": (str, list),
        "seeds": (list,),
        "sweep": (dict, list),
    },
    "prune": _keys(PruneConfig),
    "search": _keys(IterativeConfig),
}


@dataclass(frozen=True)
class Job:
    """One run of a recipe: its settings with those of the sweep filled in, and what tells it from the others."""

    settings: Mapping[str, Any]
    seed: int
    varied: Mapping[str, Any]

    @property
    def name(self) -> str:
        parts = [f"{key.rpartition('.')[2]}={value}" for key, value in self.varied.items()]
        return ",".join([*parts, f"seed={self.seed}"])


def read(path: Path) -> dict[str, Any]:
    """Read a recipe.

    Raises:
        BadInput: the file is not TOML, or says something a recipe cannot.
    """
    try:
        recipe = tomllib.loads(existing_file(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not TOML ({error})") from None
    _check(path, recipe)
    for key in ("arch", "data"):
        if key not in recipe:
            raise BadInput(f"{path}: {key} is missing")
    if ("prune" in recipe) == ("search" in recipe):
        raise BadInput(f"{path}: either [prune] or [search] says what to do")
    for sweep in sweeps_of(recipe):
        if not isinstance(sweep, dict) or not all(isinstance(values, list) for values in sweep.values()):
            raise BadInput(f'{path}: [sweep] needs lists of values, as in "prune.ratio" = [0.3, 0.5]')
    for job in jobs(recipe):
        _check(path, job.settings)
    return recipe


def _check(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse keys that no recipe has, and values of the wrong type."""
    for table, known in _KEYS.items():
        where = f"{path}: [{table}] " if table else f"{path}: "
        for key, value in (settings.get(table, {}) if table else settings).items():
            if key not in known:
                what = f"[{table}]" if table else "a recipe"
                raise BadInput(f"{where}{key} is not known; {what} has: {', '.join(sorted(known))}")
            if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
                raise BadInput(f"{where}{key} cannot be {value!r}")


def jobs(recipe: Mapping[str, Any]) -> Iterator[Job]:
    """Every combination of the sweep, or of each of several, for every seed."""
    for seed in recipe.get("seeds", [0]):
        for sweep in sweeps_of(recipe):
            for values in itertools.product(*sweep.values()):
                varied = dict(zip(sweep, values, strict=True))
                yield Job(_with(recipe, varied), seed, varied)


def sweeps_of(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables of a sweep: [sweep], or several of [[sweep]]."""
    sweeps = recipe.get("sweep", {})
    return sweeps if isinstance(sweeps, list) else [sweeps]


def _with(recipe: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with some settings changed, named like "prune.ratio"."""
    settings = copy.deepcopy(dict(recipe))
    for key, value in varied.items():
        *tables, last = key.split(".")
        place = settings
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = value
    return settings


def run_recipe(
    path: Path,
    out: Path | None,
    results: Path | None,
    run: RunConfig,
    device: DeviceConfig,
    clock: Clock,
    tell: Callable[[Mapping[str, Any]], None],
) -> tuple[Path, list[dict[str, Any]]]:
    """Run all jobs of a recipe that have no result yet, and write each result as it comes.

    Args:
        path: The TOML file of the recipe.
        out: The folder for the networks and checkpoints; None makes RECIPE-out in the working folder.
        results: The JSON file of results; None takes results/RECIPE.json beside the recipe. Jobs of the recipe that
            have a result there are not run again.
        run: The run config; its `data` is another place of the data than the recipe names, its `threads` and
            `provider` run the networks.
        device: The device that trains, and whether interrupted training is continued from its checkpoints.
        clock: The clock that times the steps and shows progress.
        tell: The function that is called with every new result.

    Returns:
        The file of results, and one record per job.
    """
    assert run.backend is not None
    results = results or path.parent / "results" / f"{path.stem}.json"
    out = out or Path(f"{path.stem}-out")
    recipe = read(path)
    content: dict[str, Any] = {"recipe": recipe, "rows": []}
    if results.exists():
        before = json.loads(results.read_text(encoding="utf-8"))
        content["rows"] = [row for row in before.get("rows", []) if row["name"] in {job.name for job in jobs(recipe)}]
    run = replace(run, data=loaded(run.data or recipe["data"]), bench_seconds=0.0, prove=False)
    for job in jobs(recipe):
        if any(row["name"] == job.name for row in content["rows"]):
            continue
        row = _run(job, run, out, device, clock)
        content["rows"].append(row)
        results.parent.mkdir(parents=True, exist_ok=True)
        with replacing(results) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        tell(row)
    return results, list(content["rows"])


def _run(job: Job, run: RunConfig, out: Path, device: DeviceConfig, clock: Clock) -> dict[str, Any]:
    start = time.perf_counter()
    assert run.dataset is not None
    weights, arch = _dense(job, run.dataset, out, device, clock)
    work = _searched if "search" in job.settings else _pruned
    report, more = work(job, weights, arch, replace(run, out=out / job.name, recover=False), device, clock)
    keys = ("accuracy", "params", "macs", "speedup", "gathered", "notes", "versions", "sparsity")
    widths = {group["name"]: group["after"] for group in report.content["groups"]}
    return {"name": job.name, **job.varied, "seed": job.seed, **{key: report.content[key] for key in keys}, **more,
            "widths": widths, "device": device_name(device.device),
            "seconds": round(time.perf_counter() - start)}  # fmt: skip


def _pruned(
    job: Job, weights: Path | None, arch: str, run: RunConfig, device: DeviceConfig, clock: Clock
) -> tuple[Report, dict[str, Any]]:
    """Prune filters by a method."""
    settings = job.settings
    assert run.dataset is not None
    assert run.folder is not None
    net = load(weights, arch, settings.get("input") or (1, *run.dataset.test.shape))
    config = prune_config(settings["prune"], job.seed)
    phases = {name: {"seed": job.seed, **settings.get(name, {})} for name in ("sparsify", "finetune")}
    train = TrainConfig(
        sparsify=phases["sparsify"],
        finetune={"epochs": EPOCHS, **phases["finetune"]},
        device=device.device,
        resume=device.resume,
        checkpoints=run.folder / CHECKPOINTS,
    )
    return prune(net, config, run, train, clock=clock), {}


def prune_config(table: Mapping[str, Any], seed: int) -> PruneConfig:
    """The config that a table [prune] asks for; the seed of a recipe is that of random pruning too."""
    given = {**_DEFAULTS, **table}
    if "round_to" in table:
        given["round_to"] = rounding(table["round_to"])
    if given.get("method") == "random":
        given["options"] = {**given.get("options", {}), "seed": seed}
    return PruneConfig(**given)


def _searched(
    job: Job, weights: Path | None, arch: str, run: RunConfig, device: DeviceConfig, clock: Clock
) -> tuple[Report, dict[str, Any]]:
    """Prune single weights in turns of training and rewinding."""
    train = {"seed": job.seed, **job.settings.get("train", {})}
    config = IterativeConfig(**job.settings["search"], train=train, device=device.device, resume=device.resume)
    report = prune_single(arch, weights, config, run, clock)
    kept = ("iteration", "remaining", "pq", "gini", "accuracy", "test")
    turns = [{key: turn[key] for key in kept} for turn in report.content["training"]["search"]["iterations"]]
    return report, {"iterations": turns}


def device_name(device: str) -> str:
    """The name of what trained: a GPU, or the CPU with its threads."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _dense(job: Job, data: Data, out: Path, device: DeviceConfig, clock: Clock) -> tuple[Path | None, str]:
    """The dense network: as given, or trained here where the recipe says how: once, if it names a seed for that."""
    settings = job.settings
    given = Path(settings["weights"]) if "weights" in settings else None
    if "dense" not in settings:
        return given, settings["arch"]
    how = DenseConfig(train={"seed": job.seed, **settings["dense"]}).phase
    file = out / f"dense-{how.seed}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        train_dense(settings["arch"], given, data, how, file, device.device, device.resume, clock)
    return file, settings["arch"]
