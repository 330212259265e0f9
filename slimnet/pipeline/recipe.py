"""Recipes: TOML files that train, prune and measure a network, once or for every combination of a sweep."""

from __future__ import annotations

import copy
import itertools
import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimnet.analysis.compressibility import Rule
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file, replacing
from slimnet.data.load import Data, load_data
from slimnet.io.load import load
from slimnet.methods import is_training
from slimnet.pipeline.export import CHECKPOINTS, Delivery
from slimnet.pipeline.finetune import FINETUNE, SPARSIFY, Training
from slimnet.pipeline.iterative import TRAIN, Search, prune_single
from slimnet.pipeline.prune import Budget, prune
from slimnet.pipeline.train import DENSE, train_dense
from slimnet.report.summary import Report
from slimnet.training.phase import phase

_RULE = ("p", "q", "eta", "gamma", "beta")
_NUMBER = (int, float)
#: What each table may hold, and of which type.
_KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "": {
        **dict.fromkeys(("title", "arch", "weights", "data", "note"), str),
        **dict.fromkeys(("dense", "prune", "sparsify", "finetune", "search", "train", "reach"), dict),
        "input": (str, list),
        "seeds": list,
        "sweep": (dict, list),
    },
    "prune": {
        **dict.fromkeys(("method", "scope", "picks"), str),
        **dict.fromkeys(("ratio_for", "options"), dict),
        "ratio": _NUMBER,
        "round_to": (str, int),
        "ignore": list,
        "coupled": bool,
    },
    "search": {
        **dict.fromkeys(("method", "scope"), str),
        "iterations": int,
        **dict.fromkeys(("fraction", *_RULE), _NUMBER),
    },
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
                raise BadInput(f"{where}{key} is not known; a recipe has: {', '.join(sorted(known))}")
            if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
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


def run(
    path: Path, out: Path, results: Path, data: str | None, device: str, resume: bool, clock: Clock,
    tell: Callable[[Mapping[str, Any]], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """Run all jobs of a recipe that have no result yet, and write each result as it comes.

    Args:
        path: the recipe.
        out: folder for the networks and checkpoints.
        results: the JSON file of results; what is in it already, from the same recipe, is not run again.
        data: another place of the data than the recipe names.
        device: "auto" or "cpu".
        resume: continue interrupted training from its checkpoints.
        clock: times the steps and shows progress.
        tell: called with every new result.

    Returns:
        One record per job.
    """
    recipe = read(path)
    content: dict[str, Any] = {"recipe": recipe, "rows": []}
    if results.exists():
        before = json.loads(results.read_text(encoding="utf-8"))
        content["rows"] = [row for row in before.get("rows", []) if row["name"] in {job.name for job in jobs(recipe)}]
    loaded = load_data(data or recipe["data"])
    for job in jobs(recipe):
        if any(row["name"] == job.name for row in content["rows"]):
            continue
        row = _run(job, loaded, out, device, resume, clock)
        content["rows"].append(row)
        results.parent.mkdir(parents=True, exist_ok=True)
        with replacing(results) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        tell(row)
    return list(content["rows"])


def _run(job: Job, data: Data, out: Path, device: str, resume: bool, clock: Clock) -> dict[str, Any]:
    start = time.perf_counter()
    weights, arch = _dense(job, data, out, device, resume, clock)
    delivery = Delivery(out / job.name, data=data, bench_seconds=0, prove=False)
    work = _searched if "search" in job.settings else _pruned
    report, more = work(job, weights, arch, delivery, device, resume, clock)
    keys = ("accuracy", "params", "macs", "speedup", "gathered", "notes", "versions", "sparsity")
    widths = {group["name"]: group["after"] for group in report.content["groups"]}
    return {"name": job.name, **job.varied, "seed": job.seed, **{key: report.content[key] for key in keys}, **more,
            "widths": widths, "device": device_name(device),
            "seconds": round(time.perf_counter() - start)}  # fmt: skip


def _pruned(
    job: Job, weights: Path | None, arch: str, delivery: Delivery, device: str, resume: bool, clock: Clock
) -> tuple[Report, dict[str, Any]]:
    """Filters, by a method."""
    settings, data = job.settings, delivery.data
    assert data is not None
    assert delivery.out is not None
    net = load(weights, arch, settings.get("input") or (1, *data.test.shape))
    chosen = settings["prune"]
    method = chosen.get("method", "l1")
    sparse = phase(SPARSIFY, **{"seed": job.seed, **settings.get("sparsify", {})})
    tuned = phase(FINETUNE, **{"seed": job.seed, **settings.get("finetune", {})})
    training = Training(data, sparse, tuned, device, delivery.out / CHECKPOINTS, resume)
    options = {**chosen.get("options", {}), **({"seed": job.seed} if method == "random" else {})}
    rounding = chosen.get("round_to", "none")
    budget = Budget(
        chosen.get("ratio", 0.5),
        chosen.get("scope", "layer"),
        None if rounding == "none" else rounding,
        tuple(chosen.get("ratio_for", {}).items()),
        tuple(chosen.get("ignore", ())),
        chosen.get("coupled", True),
        chosen.get("picks"),
    )
    needed = training if is_training(method) or tuned.epochs else None
    return prune(net, method, budget, delivery, options=options, training=needed, clock=clock), {}


def _searched(
    job: Job, weights: Path | None, arch: str, delivery: Delivery, device: str, resume: bool, clock: Clock
) -> tuple[Report, dict[str, Any]]:
    """Single weights, in turns of training and rewinding."""
    settings = dict(job.settings["search"])
    rule = Rule(**{"p": 0.5, "q": 1.0} | {key: settings.pop(key) for key in _RULE if key in settings})
    train = phase(TRAIN, **{"seed": job.seed, **job.settings.get("train", {})})
    assert delivery.data is not None
    report = prune_single(
        arch, weights, delivery.data, Search(**settings, rule=rule), train, delivery, device, resume, clock
    )
    kept = ("iteration", "remaining", "pq", "gini", "accuracy", "test")
    turns = [{key: turn[key] for key in kept} for turn in report.content["training"]["search"]["iterations"]]
    return report, {"iterations": turns}


def device_name(device: str) -> str:
    """What the results were computed on."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _dense(job: Job, data: Data, out: Path, device: str, resume: bool, clock: Clock) -> tuple[Path | None, str]:
    """The dense network: as given, or trained here where the recipe says how: once, if it names a seed for that."""
    settings = job.settings
    given = Path(settings["weights"]) if "weights" in settings else None
    if "dense" not in settings:
        return given, settings["arch"]
    how = phase(DENSE, **{"seed": job.seed, **settings["dense"]})
    file = out / f"dense-{how.seed}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        train_dense(settings["arch"], given, data, how, file, device, resume, clock)
    return file, settings["arch"]
