"""One network analysed: everything `slimnet analyze` writes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slimnet.analysis.advice import Notice, notices
from slimnet.analysis.compressibility import Compressibility, compressibility
from slimnet.analysis.criteria import Study, study
from slimnet.analysis.cwda import Distribution, distribution, unavailable
from slimnet.analysis.layers import layers
from slimnet.common.clock import Clock
from slimnet.common.plain import plain
from slimnet.common.version import __version__
from slimnet.data.load import Data
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT


@dataclass(frozen=True)
class Analysis:
    """What is known about a network; `to_json` is analysis.json, whose keys the README documents."""

    model: str
    params: int
    macs: int
    data: str | None
    criteria: Study
    distribution: Distribution
    compressibility: Compressibility
    notices: tuple[Notice, ...]
    timing_s: Mapping[str, float]
    command: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers that are undefined are None."""
        content: dict[str, Any] = plain(self)
        return content | {"versions": {"slimnet": __version__, "python": platform.python_version()}}


def analyze(
    trace: Trace,
    data: Data | None = None,
    ratio: float = 0.5,
    clock: Clock | None = None,
    command: str | None = None,
    backend: Backend = DEFAULT,
) -> Analysis:
    """Analyse a network.

    Args:
        trace: of the network.
        data: what the criteria that look at data see; they are skipped without it.
        ratio: fraction of lowest units whose sets are compared.
        clock: times the steps.
        command: the command line that asked for it, for the record.
        backend: what runs the network on the data.

    Raises:
        BadInput: nothing can be removed, or the weights are not finite.
    """
    clock = clock or Clock()
    found = study(trace, data, ratio, clock, backend)
    with clock("distribution"):
        every = list(layers(trace))
        tests = distribution(every)
        left_out = [Notice("missing", why, (), ())] if (why := unavailable()) else []
    with clock("compressibility"):
        norms = [group.scores["l2"] for group in found.groups]
        measured = compressibility(every, [group.name for group in found.groups], norms)
    return Analysis(
        trace.net.name,
        trace.parameters(),
        sum(trace.macs().values()),
        None if data is None else data.name,
        found,
        tests,
        measured,
        (*notices(found), *left_out),
        clock.seconds,
        command,
    )
