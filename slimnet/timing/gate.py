"""Has a model become slower? A verdict that noise does not change."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.runtime.backend import Backend
from slimnet.timing.conditions import Conditions
from slimnet.timing.latency import Comparison, Interval, compare

CANDIDATE, BASELINE = "candidate", "baseline"


@dataclass(frozen=True)
class Verdict:
    """A candidate measured against its baseline.

    Attributes:
        comparison: The times of both.
        conditions: What both were run on and with.
        tolerance: The fraction that the candidate may be slower.
        remarks: Remarks for the user, beside those of the comparison.
    """

    comparison: Comparison
    conditions: Conditions
    tolerance: float
    remarks: tuple[str, ...] = ()

    @property
    def ratio(self) -> Interval:
        """Median time of the candidate over that of the baseline."""
        return self.comparison.ratio(CANDIDATE, to=BASELINE)

    @property
    def slower(self) -> bool:
        """Whether the candidate is slower beyond both the tolerance and the noise."""
        return self.ratio.low > 1 + self.tolerance

    @property
    def notes(self) -> tuple[str, ...]:
        """All remarks for the user, one line each."""
        return (*self.remarks, *self.comparison.notes)

    def to_json(self) -> dict[str, Any]:
        """The verdict in plain values."""
        ratio = self.ratio
        times = {name: asdict(self.comparison.timing(name)) for name in (BASELINE, CANDIDATE)}
        return {
            "slower": self.slower,
            "ratio": ratio.value,
            "ratio_interval": [ratio.low, ratio.high],
            "tolerance": self.tolerance,
            "latency_ms": times,
            "conditions": self.conditions.to_json(),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        ratio = self.ratio
        new, old = (self.comparison.timing(name) for name in (CANDIDATE, BASELINE))
        return (
            f"the candidate takes {ratio.value:.3f} times the baseline's time "
            f"(95 % interval {ratio.low:.3f} to {ratio.high:.3f}, allowed {1 + self.tolerance:.3f}): "
            f"median {new.median:.4g} ms against {old.median:.4g} ms, p90 {new.p90:.4g} ms against {old.p90:.4g} ms, "
            f"{new.runs} and {old.runs} runs"
        )


def gate(
    candidate: ir.Model,
    baseline: ir.Model,
    conditions: Conditions,
    backend: Backend,
    tolerance: float = 0.05,
    seconds: float = 10.0,
    attempts: int = 2,
) -> Verdict:
    """Measure `candidate` against `baseline` with `backend`, interleaved, for at most `seconds` an attempt.

    A candidate that looks slower is measured again in fresh sessions made in the other order, because where a session's
    memory happens to lie can cost a few per cent all its life. It is slower only if all attempts say so.
    """
    models = [(BASELINE, baseline), (CANDIDATE, candidate)]
    feed = conditions.feed(baseline)
    now = replace(conditions, runtime=backend.describe())
    for attempt in range(attempts):
        ordered = dict(models[:: -1 if attempt % 2 else 1])
        verdict = Verdict(compare(ordered, feed, backend, max_seconds=seconds), now, tolerance)
        if not verdict.slower:
            break
    return verdict


def parse_tolerance(tolerance: str | float) -> float:
    """A tolerance as a fraction, from "5%", "0.05" or 0.05. Raises BadInput for anything that is not in [0, 1)."""
    text = str(tolerance).strip()
    try:
        fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction < 1:
        raise BadInput(f"`tolerance` {text}: is not a tolerance; write 5% or 0.05")
    return fraction
