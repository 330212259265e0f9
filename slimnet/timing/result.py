"""What a benchmark found: the dense model against the slim one, as a whole and layer by layer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from slimnet.timing.conditions import Conditions
from slimnet.timing.latency import Comparison, Interval
from slimnet.timing.profile import Profile

BEFORE, AFTER = "before", "after"

MacsPerLayer = Mapping[str, float]
Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class Layer:
    """One layer before and after: milliseconds per run and multiply-adds, None where they are not known."""

    name: str
    ms: Pair
    macs: Pair

    @property
    def flops(self) -> float | None:
        """Multiply-adds before, as a multiple of those after."""
        return _quotient(*self.macs)

    @property
    def latency(self) -> float | None:
        """Milliseconds before, as a multiple of those after."""
        return _quotient(*self.ms)

    @property
    def efficiency(self) -> float | None:
        """Latency speedup per speedup in MACs: below 1, multiply-adds were removed without their time."""
        return _quotient(self.latency, self.flops)

    def to_json(self) -> dict[str, Any]:
        """`name`, `ms` and `macs` before and after, and `speedup` as in report.json."""
        ms, macs = (dict(zip((BEFORE, AFTER), pair, strict=True)) for pair in (self.ms, self.macs))
        return {"name": self.name, "ms": ms, "macs": macs, "speedup": self.speedup}

    @property
    def speedup(self) -> dict[str, float | None]:
        """All three, by the keys of report.json."""
        return {"flops": self.flops, "latency": self.latency, "efficiency": self.efficiency}


@dataclass(frozen=True)
class BenchResult:
    """How "before" compares with "after", under which conditions, and every layer if that was asked for."""

    comparison: Comparison
    conditions: Conditions
    macs: Pair
    layers: tuple[Layer, ...]

    @property
    def latency(self) -> Interval:
        """Latency speedup: the ratio of the median times."""
        return self.comparison.ratio(BEFORE, to=AFTER)

    @property
    def model(self) -> Layer:
        """The whole model, as one layer."""
        before, after = (self.comparison.timing(name).median for name in (BEFORE, AFTER))
        return Layer("model", (before, after), self.macs)

    def to_json(self) -> dict[str, Any]:
        """`speedup` and `latency_ms` as in report.json; the interval, conditions, notes and layers under `bench`."""
        latency = self.latency
        return {
            "speedup": self.model.speedup,
            "latency_ms": {name: asdict(self.comparison.timing(name)) for name in (BEFORE, AFTER)},
            "bench": {
                "latency_interval": [latency.low, latency.high],
                "conditions": self.conditions.to_json(),
                "notes": list(self.comparison.notes),
                "layers": [layer.to_json() for layer in self.layers],
            },
        }


def pair_layers(profiles: Mapping[str, Profile], macs: tuple[MacsPerLayer, MacsPerLayer] | None) -> tuple[Layer, ...]:
    """The layers of both models side by side, in the order they run; last what is no layer, summed by op."""
    times = [profiles[name].layers for name in (BEFORE, AFTER)]
    counts = macs or ({}, {})
    names = sorted(dict.fromkeys([*times[0], *times[1]]), key=lambda name: name.startswith("("))
    return tuple(
        Layer(name, (times[0].get(name), times[1].get(name)), (counts[0].get(name), counts[1].get(name)))
        for name in names
    )


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
