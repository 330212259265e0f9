"""How many units of every group were kept, and which."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.graph import units
from slimnet.graph.axes import Bools
from slimnet.report import bars, schema
from slimnet.report.layers import histogram
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Section

#: Groups shown at once; the others are folded, and drawn up to a number that no reader gets to.
_SHOWN, _DRAWN = 24, 240


class Widths(Section):
    """The groups: their widths, and where the scores of the kept and the removed units lie."""

    template, anchor, link = "widths.html.j2", "widths", "Widths"

    def collect(self, run: Run) -> Mapping[str, Any]:
        scores = run.figures.scores or repeat(None)
        return {"groups": [_group(group, run, ranks) for group, ranks in zip(run.trace.groups, scores, strict=False)]}

    def show(self, report: Report) -> Mapping[str, Any] | None:
        groups = report.content["groups"]
        if not groups:
            return None
        shown, folded = groups[:_SHOWN], groups[_SHOWN:]
        return {
            "chart": bars.widths(shown),
            "more": bars.widths(folded[: _DRAWN - _SHOWN]) if folded else None,
            "folded": len(folded),
            "drawn": _DRAWN - _SHOWN,
        }


def _group(group: units.Group, run: Run, scores: npt.NDArray[np.float64] | None) -> schema.Group:
    kept: Bools = ~run.removed[group.units]
    tried = run.checked.proven or run.checked.unproven
    return schema.Group(
        name=group.name,
        kind=group.kind,
        before=len(group),
        after=int(kept.sum()),
        proven=group.name not in run.checked.unproven if tried else None,
        tensors=list(dict.fromkeys(member.tensor for member in group.members)),
        scores=None if scores is None else histogram(scores, kept),
    )
