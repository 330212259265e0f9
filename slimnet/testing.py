"""Helpers for your own tests."""

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from slimnet.common.errors import BadInput, LatencyRegression
from slimnet.common.inputs import Inputs
from slimnet.runtime.backend import Backend, Model
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing.baseline import check
from slimnet.timing.conditions import Conditions, as_net
from slimnet.timing.gate import gate, parse_tolerance


def assert_latency(
    candidate: Model,
    baseline: Model,
    tolerance: str | float = 0.05,
    backend: Backend | None = None,
    *,
    inputs: Inputs = None,
    batch: int | None = None,
    bounds: Mapping[str, int] | None = None,
    seconds: float = 10.0,
) -> None:
    """Assert that a model runs no slower than its baseline, on this machine.

    Both run now, interleaved, so it does not matter how fast the machine is or what else it does. The assertion fails
    only if the ratio of the median times exceeds `tolerance` with its whole 95 % interval, and does so again in fresh
    sessions.

        from slimnet.testing import assert_latency

        def test_the_release_is_as_fast_as_the_last_one():
            assert_latency("build/model.onnx", "tests/data/base.json", tolerance="5%")

    Args:
        candidate: An ONNX file or model.
        baseline: What `slimnet bench --save base.json` wrote, or an ONNX file or model.
        tolerance: How much slower the candidate may be: 0.05 or "5%".
        backend: What runs both; None takes what a base.json was measured with, else one thread of onnxruntime on the
            CPU. A number of threads that it leaves open is filled in alike.
        inputs: The input shapes, where the models leave them open; a base.json knows its own.
        batch: The size of the inputs' first axis, likewise.
        bounds: Exclusive upper bounds of integer inputs, such as the row count of the table they index; likewise.
        seconds: The time to measure; a candidate that looks slower gets as much again.

    Raises:
        AssertionError: The candidate is slower; the message has the numbers.
        BadInput: A model cannot be loaded or does not take these inputs.
    """
    __tracebackhide__ = True
    if not isinstance(baseline, ir.Model) and Path(baseline).suffix == ".json":
        if (inputs, batch, bounds) != (None, None, None):
            raise BadInput(f"{baseline}: knows its inputs; leave out inputs, batch and bounds")
        try:
            check(candidate, baseline, tolerance, backend, seconds)
        except LatencyRegression as slower:
            raise AssertionError(str(slower)) from None
        return
    old = as_net(baseline, inputs, batch)
    new = as_net(candidate, old.inputs)
    backend = backend or OnnxRuntime()
    if backend.threads is None:
        backend = backend.with_threads(1)
    conditions = Conditions(old.inputs, dict(bounds or {}), 0, backend.describe())
    verdict = gate(new.model, old.model, conditions, backend, parse_tolerance(tolerance), seconds)
    assert not verdict.slower, str(verdict)
