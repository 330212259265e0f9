"""One network analysed: everything `slimnet analyze` writes."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from slimnet.analysis.advice import Notice, notices
from slimnet.analysis.compressibility import Compressibility, compressibility
from slimnet.analysis.criteria import Study, study
from slimnet.analysis.cwda import Distribution, distribution, unavailable
from slimnet.analysis.layers import layers
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.common.files import check_writable, replacing
from slimnet.common.plain import plain
from slimnet.common.version import __version__
from slimnet.data.load import Data
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.pipeline.config import ModelConfig, RunConfig, TraceConfig
from slimnet.pipeline.load import load_network, with_data
from slimnet.report.analysis import write_analysis
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT

ANALYSIS, PAGE = "analysis.json", "analysis.html"


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
        """The analysis as plain values; numbers that are undefined are None."""
        content: dict[str, Any] = plain(self)
        return content | {"versions": {"slimnet": __version__, "python": platform.python_version()}}


def analyze_file(
    model: ModelConfig,
    cut: TraceConfig,
    run: RunConfig,
    ratio: float,
    clock: Clock,
    translated: Callable[[str], str] = str,
) -> tuple[Analysis, str]:
    """Analyse a file and write analysis.json and analysis.html to the folder of the run.

    Args:
        model: The network.
        cut: What may be removed from the network.
        run: The run config: `data` for the criteria that look at data, and what runs the network on them.
        ratio: The fraction of lowest filters whose sets are compared.
        clock: The clock that times the steps.
        translated: A function that puts the reason why a criterion was skipped into the caller's words, such as the
            options of the command line in place of arguments.

    Returns:
        The analysis, and the text of analysis.json.

    Raises:
        BadInput: A ratio that is none, data that do not fit, or nothing that can be removed.
    """
    if not 0 < ratio < 1:
        raise BadInput(f"`ratio` {ratio:g} is not between 0 and 1; 0.5 compares the lower halves")
    out = run.folder
    assert out is not None
    check_writable(out)
    backend = run.backend
    net = load_network(model, clock)
    data = with_data(run, net).dataset
    if data is not None:
        data.test.check(net)
    with clock("trace"):
        traced = trace(net, cut.allow_inexact, cut.prefer)
    found = analyze(traced, data, ratio, clock, run.command, backend)
    skipped = {name: translated(why) for name, why in found.criteria.skipped.items()}
    found = replace(found, criteria=replace(found.criteria, skipped=skipped))
    content = found.to_json()
    text = json.dumps(content, indent=1) + "\n"
    with clock("report"):
        write_analysis(content, out / PAGE)
    with replacing(out / ANALYSIS) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return found, text


def analyze(
    traced: Trace,
    data: Data | None = None,
    ratio: float = 0.5,
    clock: Clock | None = None,
    command: str | None = None,
    backend: Backend = DEFAULT,
) -> Analysis:
    """Analyse a network.

    Args:
        traced: The trace of the network.
        data: The data for the criteria that look at data; None skips these criteria.
        ratio: The fraction of units with the lowest scores whose sets are compared, in (0, 1).
        clock: The clock that times the steps.
        command: The command line that asked for the analysis, for the record.
        backend: The backend that runs the network on the data.

    Raises:
        BadInput: nothing can be removed, or the weights are not finite.
    """
    clock = clock or Clock()
    found = study(traced, data, ratio, clock, backend)
    with clock("distribution"):
        every = list(layers(traced))
        tests = distribution(every)
        left_out = [Notice("missing", why, (), ())] if (why := unavailable()) else []
        read = [Notice("read", note, (), ()) for note in traced.net.notes]
    with clock("compressibility"):
        norms = [group.scores["l2"] for group in found.groups]
        measured = compressibility(every, [group.name for group in found.groups], norms)
    return Analysis(
        traced.net.name,
        traced.parameters(),
        sum(traced.macs().values()),
        None if data is None else data.name,
        found,
        tests,
        measured,
        (*read, *notices(found), *left_out),
        clock.seconds,
        command,
    )
