"""slimnet verify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o


def verify(
    dense: Annotated[Path, typer.Argument(help="The dense network, in any form that prune takes.")],
    slim: Annotated[Path, typer.Argument(help="slim.onnx.")],
    plan: Annotated[Path, typer.Option(help="plan.json that led from one to the other.")],
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    runs: Annotated[int, typer.Option(min=1, help="Number of random inputs.")] = 3,
    data: o.DataSpec = None,
    threads: o.Threads = None,
    prove: o.Prove = True,
    json: o.Json = False,
) -> None:
    """Check that the slim network computes what the masked dense one computes; exit code 3 if it does not."""
    with o.watched() as clock:
        net = o.load_net(dense, arch, input_, unsafe_pickle, clock)
        from slimnet.pipeline.apply import verify_files
        from slimnet.runtime.onnxruntime import OnnxRuntime

        found = verify_files(net, slim, plan, o.data_for(net, data), runs, OnnxRuntime(threads=threads), prove, clock)
    if json:
        import json as encoder

        print(encoder.dumps(found.to_json(), indent=2))
        return
    total = len(found.proven) + len(found.unproven)
    state = "equal, but not proven" if found.unproven else "exact"
    print(f"{state}: largest relative difference {found.max_rel_error:.1e} (allowed {found.tolerance:.0e}), "
          f"{found.runs} inputs, {len(found.proven)} of {total} groups proven")  # fmt: skip
    for name in found.unproven:
        print(f"unproven: {name}: no kept channel of it moves the output enough to tell")
