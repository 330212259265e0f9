"""Check a slim file against the dense network and the plan that led from one to the other."""

from __future__ import annotations

from pathlib import Path

from slimnet.common.clock import Clock
from slimnet.common.errors import explained
from slimnet.common.inputs import specs
from slimnet.io.onnx_file import load_onnx
from slimnet.pipeline.apply import traced_for
from slimnet.pipeline.config import ModelConfig, RunConfig
from slimnet.pipeline.load import load_network, with_data
from slimnet.pipeline.recover import fitted_trace
from slimnet.runtime.accuracy import real_inputs
from slimnet.verification.verify import Verification, verify


def verify_files(model: ModelConfig, slim: Path, plan: Path, run: RunConfig, runs: int, clock: Clock) -> Verification:
    """Compare what a slim.onnx computes with the masked dense network.

    Args:
        model: The dense network.
        slim: The .onnx file to check.
        plan: The plan.json that led from the dense network to the file.
        run: The `data` to compare on, `prove`, and the `threads` and `provider` that run the networks.
        runs: The number of standard normal inputs.
        clock: The clock that times the steps.

    Raises:
        VerifyFailed: the outputs differ.
        BadInput: the plan is of another network.
    """
    backend = run.backend
    net = load_network(model, clock)
    data = with_data(run, net).dataset
    traced, made = traced_for(net, plan, clock)
    traced = fitted_trace(traced, made)
    removed = traced.removed(made)
    candidate = load_onnx(slim, specs(net.inputs)).model
    if data is not None:
        data.test.check(net)
    with clock("verify") as progress, explained(f"is {slim} what {plan} makes of {net.source or net.name}?"):
        inputs = real_inputs(net, data)
        return verify(traced, removed, candidate, inputs, runs, backend, run.prove, foreign=True, progress=progress)
