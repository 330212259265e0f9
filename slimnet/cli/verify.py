"""The verb `slimnet verify`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.settings import LARGEST_COUNT
from slimnet.pipeline.config import ModelConfig, RunConfig


@o.configured
def verify(
    dense: Annotated[Path, typer.Argument(help="The dense network, in any form that prune takes.")],
    slim: Annotated[Path, typer.Argument(help="slim.onnx.")],
    plan: Annotated[Path, typer.Option(help="plan.json that led from one to the other.")],
    model: Annotated[ModelConfig, o.without("model", "batch")],
    run: Annotated[RunConfig, o.without("out", "bench_seconds", "calib", "recover")],
    runs: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Number of standard normal inputs.")] = 12,
    json: o.Json = False,
) -> None:
    """Check that the slim network computes what the masked dense one computes; exit code 3 if it does not."""
    with o.watched() as clock:
        from slimnet.pipeline.verify import verify_files

        found = verify_files(replace(model, model=dense), slim, plan, run, runs, clock)
    if json:
        o.print_json(found.to_json())
        return
    total = len(found.proven) + len(found.unproven)
    state = "equal, but not proven" if found.unproven else "exact"
    print(f"{state}: largest relative difference {found.max_rel_error:.1e} (allowed {found.tolerance:.0e}), "
          f"{found.runs} inputs ({', '.join(found.inputs)}), {len(found.proven)} of {total} groups proven")  # fmt: skip
    if found.behind:
        print(f"compared as well, as the outputs do not show all of it: {', '.join(found.behind)}")
    if found.rounding is not None:
        print(f"rounding alone moves the masked network by {found.rounding:.0e}")
    if found.unsettled:
        print(f"not compared where rounding alone decides: {', '.join(found.unsettled)}")
    for what in found.not_compared:
        print(f"not compared: {what}")
    for name in found.unproven:
        print(f"unproven: {name}: no kept channel of it changes anything enough to tell")
