"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slimnet.graph.axes import Bools
    from slimnet.graph.plan import Plan
    from slimnet.graph.units import Trace
    from slimnet.methods.base import Scores
    from slimnet.recovery.recover import Recovered
    from slimnet.timing.result import BenchResult
    from slimnet.verification.verify import Verification


@dataclass
class Measured:
    """Figures of a run.

    Attributes:
        params: The parameters before and after.
        macs: The multiply-adds before and after.
        accuracy: The accuracies "before", "pruned" (before fine-tuning) and "after", those that were measured.
        sparsity: Of all weights (two axes or more) the "total" there was, how many are "stored" now, and how many of
            those are "nonzero"; only where single weights were set to zero.
        timed: The latencies.
        gathered: Per weight the inputs it read before and reads now, where a Gather skips the others.
        scores: What the units of each group were ranked by, where they were.
        recovery: What fitting the weights that stay has given, where there were inputs.
        recovered_on: What those inputs were.
        command: The command line that asked for the run, if one did.
        target: What was asked for and how it was met, with the predicted milliseconds of each layer.
    """

    params: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    accuracy: dict[str, float] = field(default_factory=dict)
    sparsity: dict[str, int] | None = None
    timed: BenchResult | None = None
    gathered: dict[str, tuple[int, int]] = field(default_factory=dict)
    scores: Scores | None = None
    recovery: Recovered | None = None
    recovered_on: str = ""
    command: str | None = None
    target: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """Everything that a run found, from which the sections of its report take what they show.

    Attributes:
        trace: The trace of the network that was pruned.
        removed: The units that were removed, bool [units].
        plan: The plan, with the settings that led to it.
        checked: The comparison of the slim network with the masked one.
        figures: What was counted and measured.
        seconds: The time that every step took, in s.
        torch_side: Whether the PyTorch class `survives` the new widths, else `why` not; None for other networks.
        notes: Remarks for the user.
        training: What the phases of training recorded.
    """

    trace: Trace
    removed: Bools
    plan: Plan
    checked: Verification
    figures: Measured
    seconds: Mapping[str, float]
    torch_side: Mapping[str, Any] | None
    notes: Sequence[str]
    training: Mapping[str, Any]
