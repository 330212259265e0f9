"""What a benchmark found: the dense model against the slim one, as a whole and layer by layer."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from slimnet.bench.latency import Comparison, Interval, cores
from slimnet.bench.profile import Profile
from slimnet.bench.session import random_inputs

BEFORE, AFTER = "before", "after"

MacsPerLayer = Mapping[str, float]


@dataclass(frozen=True)
class Conditions:
    """What a latency depends on beside the model: what is fed, and the machine.

    `inputs` are concrete shapes, `bounds` the exclusive upper bound of integer inputs (2 where none is given).
    """

    inputs: dict[str, tuple[int, ...]]
    bounds: dict[str, int]
    seed: int
    threads: int | None
    onnxruntime: str = ort.__version__
    cpu: str = ""
    cores: int = 0

    def feed(self, model: ir.Model) -> dict[str, np.ndarray]:
        """The inputs themselves."""
        return random_inputs(model, self.inputs, self.seed, self.bounds)


@dataclass(frozen=True)
class Layer:
    """One layer before and after: milliseconds per run and multiply-accumulates, None where they are not known."""

    name: str
    ms: tuple[float | None, float | None]
    macs: tuple[float | None, float | None]

    @property
    def latency(self) -> float | None:
        """Latency speedup."""
        return _quotient(*self.ms)

    @property
    def flops(self) -> float | None:
        """FLOPs speedup."""
        return _quotient(*self.macs)

    @property
    def efficiency(self) -> float | None:
        """Latency speedup per FLOPs speedup: below 1, FLOPs went without their time."""
        return _quotient(self.latency, self.flops)


@dataclass(frozen=True)
class BenchResult:
    """The comparison of "before" with "after", the conditions it holds under and, if asked for, every layer."""

    comparison: Comparison
    conditions: Conditions
    macs: tuple[float | None, float | None] = (None, None)
    layers: tuple[Layer, ...] = ()

    @property
    def latency(self) -> Interval:
        """Latency speedup: the ratio of the median times."""
        return self.comparison.ratio(BEFORE, to=AFTER)

    @property
    def model(self) -> Layer:
        """The whole model, as if it were a layer."""
        before, after = (self.comparison.timing(name).median for name in (BEFORE, AFTER))
        return Layer("model", (before, after), self.macs)

    def to_json(self) -> dict[str, Any]:
        """`speedup` and `latency_ms` as in report.json; intervals, conditions, notes and layers under `bench`."""
        latency, model = self.latency, self.model
        return {
            "speedup": _speedup(model),
            "latency_ms": {name: asdict(self.comparison.timing(name)) for name in (BEFORE, AFTER)},
            "bench": {
                "latency_interval": [latency.low, latency.high],
                "conditions": asdict(self.conditions),
                "notes": list(self.comparison.notes),
                "layers": [_layer_json(layer) for layer in self.layers],
            },
        }


def this_machine() -> dict[str, Any]:
    """The machine's part of the conditions."""
    return {"onnxruntime": ort.__version__, "cpu": _cpu(), "cores": cores()}


def pair_layers(
    profiles: Mapping[str, Profile], macs: tuple[MacsPerLayer, MacsPerLayer] | None
) -> tuple[Layer, ...]:
    """The layers of both models side by side, in the order the dense one runs them."""
    times = [profiles[name].layers for name in (BEFORE, AFTER)]
    counts = macs or ({}, {})
    names = dict.fromkeys([*times[0], *times[1]])
    return tuple(
        Layer(name, (times[0].get(name), times[1].get(name)), (counts[0].get(name), counts[1].get(name)))
        for name in names
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or not b else a / b


def _speedup(layer: Layer) -> dict[str, float | None]:
    return {"flops": layer.flops, "latency": layer.latency, "efficiency": layer.efficiency}


def _layer_json(layer: Layer) -> dict[str, Any]:
    ms, macs = (dict(zip((BEFORE, AFTER), pair, strict=True)) for pair in (layer.ms, layer.macs))
    return {"layer": layer.name, "ms": ms, "macs": macs, "speedup": _speedup(layer)}
