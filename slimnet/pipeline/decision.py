"""Pruning decisions: which units of a network are removed, and what the result is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.plan import Plan
from slimnet.graph.shrink import Shrinkable
from slimnet.graph.units import Trace
from slimnet.methods.base import Scores
from slimnet.pipeline.search import SearchResult


@dataclass(frozen=True, kw_only=True)
class PruningDecision:
    """Which units are removed, how that was decided, and what it is to be compared with.

    Attributes:
        traced: The trace of the network as it is now, after any training.
        removed: The units to remove, bool [n_units].
        provenance: The method and its settings, for plan and report.
        notes: The remarks for the user.
        original: The network to which the distance is measured too; with `unchanged` the result must equal it.
        unchanged: Whether the result must compute what `original` computes.
        gather: Whether to skip the input positions that all readers multiply by zero.
        dense: The network as it was given, if training has changed it since; "before" is measured on it.
        training: The records of the phases of training, for the report.
        scores: The scores that the units of each group were ranked by, for the report.
        target: The target and how it was met, for the report.
    """

    traced: Trace
    removed: Bools
    provenance: Mapping[str, Any]
    notes: Sequence[str] = ()
    original: ir.Model | None = None
    unchanged: bool = False
    gather: bool = False
    dense: ir.Model | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores | None = None
    target: Mapping[str, Any] | None = None

    @classmethod
    def ranked(
        cls,
        traced: Trace,
        removed: Bools,
        provenance: Mapping[str, Any],
        scores: Scores,
        found: SearchResult | None,
        notes: Sequence[str],
    ) -> PruningDecision:
        """A criterion has ranked the units of the network as it is; `found` are the widths of a target."""
        target, more = (found.record, found.notes) if found else (None, ())
        return cls(traced=traced, removed=removed, provenance=provenance, notes=[*notes, *more], scores=scores,
                   target=target)  # fmt: skip

    @classmethod
    def trained(
        cls,
        traced: Trace,
        removed: Bools,
        provenance: Mapping[str, Any],
        scores: Scores | None,
        found: SearchResult | None,
        notes: Sequence[str],
        *,
        dense: Net,
        training: Mapping[str, Any],
    ) -> PruningDecision:
        """A method has decided while it trained the `dense` network into the traced one."""
        target, more = (found.record, found.notes) if found else (None, ())
        return cls(traced=traced, removed=removed, provenance=provenance, notes=[*notes, *more], scores=scores,
                   target=target, dense=dense.model, training=training)  # fmt: skip

    @classmethod
    def masked_weights(
        cls,
        found: Shrinkable,
        sparse: Net,
        provenance: Mapping[str, Any],
        notes: Sequence[str],
        *,
        dense: Net,
        training: Mapping[str, Any],
    ) -> PruningDecision:
        """Single weights of the `dense` network were set to zero while it trained; what that empties is removed."""
        return cls(traced=found.trace, removed=found.removed, provenance=provenance, notes=notes, original=sparse.model,
                   unchanged=True, gather=True, dense=dense.model, training=training)  # fmt: skip

    @classmethod
    def planned(cls, traced: Trace, plan: Plan) -> PruningDecision:
        """An earlier run has decided. Raises BadInput where the plan is of another network."""
        return cls(traced=traced, removed=traced.removed(plan), provenance=plan.provenance)

    @classmethod
    def masked(cls, traced: Trace, removed: Bools, original: Net) -> PruningDecision:
        """Masks of another tool name the units; the distance to the `original` network is reported."""
        return cls(traced=traced, removed=removed, provenance={"method": "mask"}, original=original.model)

    @classmethod
    def already_zero(
        cls, found: Shrinkable, original: Net, notes: Sequence[str], *, absorb: bool, assume_masked: bool, gather: bool
    ) -> PruningDecision:
        """Another tool has set the units to zero; unless that is only assumed, the outputs must stay as they are."""
        provenance = {"method": "shrink", "assume_masked": assume_masked, "absorb": absorb}
        return cls(traced=found.trace, removed=found.removed, provenance=provenance, notes=notes,
                   original=original.model, unchanged=not assume_masked, gather=gather)  # fmt: skip
