"""The verb `slimnet analyze`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, RunConfig, TraceConfig

if TYPE_CHECKING:
    from rich.table import Table

    from slimnet.analysis.advice import Notice
    from slimnet.analysis.criteria import Study
    from slimnet.pipeline.analyze import Analysis

#: How many notices of one kind are printed.
_SHOWN = 3


@o.configured
def analyze(
    model: Annotated[ModelConfig, o.without("batch")],
    cut: TraceConfig,
    run: Annotated[RunConfig, o.only("out", "data", "threads", "provider")],
    ratio: Annotated[
        float, typer.Option(help="Fraction of the lowest filters whose sets are compared, between 0 and 1.")
    ] = 0.5,
    json: o.Json = False,
) -> None:
    """Show how ten criteria rank the filters, whether they can, and how compressible the weights are.

    Writes analysis.json, and analysis.html to look at, to the output folder (MODEL-analysis in the working folder if
    not given). Criteria that look at data (apoz, entropy, taylor-l1, taylor-l2) need `--data`; those with gradients
    also a PyTorch checkpoint.
    """
    run = o.recorded(run, model.model, "analysis")
    with o.watched() as clock:
        from slimnet.pipeline.analyze import PAGE, analyze_file

        found, text = analyze_file(model, cut, run, ratio, clock, o.translated)
    if json:
        print(text, end="")
        return
    _show(found, PAGE)
    print(f"written to {run.folder}")


def _show(found: Analysis, page: str) -> None:
    from rich.console import Console

    console = Console()
    console.print(_criteria(found.criteria))
    for name, why in found.criteria.skipped.items():
        console.print(f"{name}: skipped, {why}", markup=False)
    console.print()
    passing = ", ".join(f"{test} {share:.0%}" for test, share in found.distribution.passing.items())
    console.print(f"distribution tests passed by {found.distribution.counted}: {passing}", markup=False)
    whole, units = found.compressibility.whole, found.compressibility.all_units
    for what, of in (("weights", whole), ("units", units)):
        if of is not None:
            pairs = ", ".join(f"PQ({i.p:g},{i.q:g}) {i.index:.3f}, {i.ratio:.1%} may go" for i in of.indices)
            console.print(f"compressibility of the {of.size:,} {what}: {pairs}; Gini {of.gini:.3f}", markup=False)
    console.print()
    for line in _lines(found.notices, page):
        console.print(f"- {line}", markup=False, soft_wrap=True)


def _lines(notices: Sequence[Notice], page: str) -> Iterator[str]:
    """The first notices of every kind, and how many more there are."""
    shown: Counter[str] = Counter()
    for notice in notices:
        shown[notice.kind] += 1
        if shown[notice.kind] <= _SHOWN:
            yield notice.text
    more = {kind: count - _SHOWN for kind, count in shown.items() if count > _SHOWN}
    for kind, count in more.items():
        yield f"{count} more like that ({kind}), see {page}"


def _criteria(study: Study) -> Table:
    """Of each criterion: how it agrees with l1, and how far it tells filters apart."""
    from statistics import median

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="Criteria", title_justify="left")
    for heading in ("", "rank correlation with l1\nin layers (median)", "across", "Var/E", "Var/E²"):
        table.add_column(heading, justify="right" if heading else "left")
    l1 = study.criteria.index("l1")
    for k, name in enumerate(study.criteria):
        inside = [value for g in study.groups if not isnan(value := float(g.spearman[l1, k]))]
        spread = [a for g in study.groups if (a := g.applicability.get(name)) is not None and not isnan(a.by_mean)]
        table.add_row(
            name, f"{median(inside):.2f}" if inside else "", _number(float(study.raw.spearman[l1, k])),
            *(f"{median(values):.2g}" for values in zip(*((a.by_mean, a.by_square) for a in spread), strict=True))
        )  # fmt: skip
    return table


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.2f}"
