"""Baselines on disk: a model, and what was measured of it, to hold later models against.

A latency on its own says nothing on another machine or a busy one. So the model itself is kept, and every check
measures it again next to the candidate.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slimnet.common.errors import BadInput, LatencyRegression
from slimnet.common.files import essence, existing_file, replacing
from slimnet.graph.net import Net
from slimnet.io.onnx_file import load_onnx, save_onnx
from slimnet.runtime.backend import Backend, Model, RuntimeInfo, title
from slimnet.runtime.registry import backend as named
from slimnet.timing.conditions import Conditions, as_net
from slimnet.timing.gate import Verdict, gate, parse_tolerance
from slimnet.timing.result import AFTER, BenchResult

FORMAT = 1


@dataclass(frozen=True)
class Baseline:
    """A stored model and the conditions it was measured under, from the JSON file `path`."""

    path: Path
    net: Net
    conditions: Conditions

    def backend(self, provider: str | None = None, threads: int | None = None) -> Backend:
        """The backend that the model was measured with, except for what is given.

        Raises:
            BadInput: The runtime is not installed here.
        """
        then = self.conditions.runtime
        stored = then.name if then.provider is None else f"{then.name}:{then.provider}"
        return named(provider or stored, then.threads if threads is None else threads)


def save(path: str | os.PathLike[str], model: Model, result: BenchResult) -> None:
    """Write a baseline: `path` (JSON) and beside it the model, under the same name ending in .onnx.

    `model` is the one that `result` has measured as "after". Both files appear whole or not at all.
    Raises BadInput if they cannot be written or would replace a model that belongs to no baseline.
    """
    file = Path(path)
    stored = file.with_suffix(".onnx")
    if stored == file:
        raise BadInput(f"{file}: a baseline is a JSON file, its model lies beside it; name it {file.stem}.json")
    if stored.exists():
        _check_replaceable(file, stored)
    net = as_net(model, result.conditions.inputs)
    with replacing(file) as temporary:
        save_onnx(net.model, temporary.with_suffix(".onnx"))
        hashes = {f.name: _sha256(f) for f in sorted(temporary.parent.iterdir())}
        document = {
            "format": FORMAT,
            "model": stored.name,
            "sha256": hashes,
            "conditions": result.conditions.to_json(),
            "latency_ms": asdict(result.comparison.timing(AFTER)),
        }
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline. Raises BadInput if it is none, or if its model is missing or not the one it was made with."""
    file = existing_file(path)
    document = _read(file)
    try:
        conditions = Conditions.from_json(document["conditions"])
        model, hashes = file.parent / document["model"], dict(document["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{file}: is not a baseline ({essence(error)}); write one with `save`") from error
    for name, digest in hashes.items():
        if _sha256(existing_file(file.parent / name)) != digest:
            raise BadInput(
                f"{file.parent / name}: is not the model {file.name} was made with; write it anew with `save`"
            )
    return Baseline(file, load_onnx(model, conditions.inputs), conditions)


def check(
    candidate: Model,
    baseline: Baseline | str | os.PathLike[str],
    tolerance: str | float = 0.05,
    backend: Backend | None = None,
    seconds: float = 10.0,
) -> Verdict:
    """Measure `candidate` against the model of a baseline, under its conditions.

    Args:
        candidate: An ONNX file or model.
        baseline: What `load` has read, or the JSON file.
        tolerance: How much slower the candidate may be, "5%" or 0.05.
        backend: What runs both; the baseline's own if None. One without a number of threads takes the baseline's.
        seconds: The time to measure; a candidate that looks slower gets as much again.

    Raises:
        LatencyRegression: The candidate is slower beyond noise and tolerance.
        BadInput: A file or an option cannot be used.
    """
    allowed = parse_tolerance(tolerance)
    stored = baseline if isinstance(baseline, Baseline) else load(baseline)
    conditions, then = stored.conditions, stored.conditions.runtime
    backend = backend or stored.backend()
    if backend.threads is None:
        backend = backend.with_threads(then.threads)
    try:
        net = as_net(candidate, conditions.inputs)
    except BadInput as error:
        raise BadInput(f"{error} (those are the inputs of {stored.path})") from error
    verdict = gate(net.model, stored.net.model, conditions, backend, allowed, seconds)
    verdict = replace(verdict, remarks=_changes(then, backend.describe()))
    if verdict.slower:
        raise LatencyRegression(f"{title(candidate)} is slower than {stored.path}: {verdict}")
    return verdict


def _changes(then: RuntimeInfo, now: RuntimeInfo) -> tuple[str, ...]:
    """A remark where a baseline was stored with another runtime, version or provider; an old one names no provider."""
    same = (then.name, then.version) == (now.name, now.version) and then.provider in (None, now.provider)
    return () if same else (f"measured with {now}, but the baseline was stored with {then}",)


def _check_replaceable(file: Path, stored: Path) -> None:
    """Refuse to write over a model that is somebody's own, which `--save model.json` beside model.onnx would do."""
    if not file.exists() or _read(file).get("model") != stored.name:
        raise BadInput(f"{stored}: exists and belongs to no baseline, `save` would replace it; choose another name")


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: is not a baseline ({essence(error)}); write one with `save`") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInput(f"{file}: is not a baseline of format {FORMAT}; write one with `save`")
    return document


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
