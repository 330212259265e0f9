"""Whatever runs a network runs it with the backend that it was given: its provider and its threads, nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

import slimnet
from slimnet.analysis.criteria import study
from slimnet.calibration.activations import activation_statistics
from slimnet.calibration.measurements import measure
from slimnet.common.errors import VerifyFailed
from slimnet.data.load import Data
from slimnet.data.samples import Samples
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.io.torch_slim import slim_module_survives
from slimnet.methods import create
from slimnet.pipeline.search import Stopwatch
from slimnet.runtime.accuracy import accuracy_of
from slimnet.runtime.backend import tap
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.testing import assert_latency
from slimnet.timing import baseline
from slimnet.timing.conditions import Conditions
from slimnet.timing.gate import gate
from slimnet.timing.latency import compare
from slimnet.timing.profile import profile
from slimnet.verification.verify import verify
from tests.networks.backends import Simulated
from tests.networks.graphs import net
from tests.networks.named import conv_net

CLASSIFIER = """(float[n,2,4,4] x) => (y) <float[6,2,3,3] w, float[6] b, float[24,3] v>
    { a = Conv(x, w, b) c = Relu(a) d = Flatten(c) y = MatMul(d, v) }"""
NORMED = """(float[4,6] x) => (y) <float[6,8] w, float[8] scale, float[8] shift, float[8,5] v>
    { a = MatMul(x, w) b = LayerNormalization(a, scale, shift) y = MatMul(b, v) }"""
IMAGE = {"x": np.ones((1, 3, 16, 16), np.float32)}


def samples(count: int = 20) -> Samples:
    rng = np.random.default_rng(0)
    return Samples(rng.standard_normal((count, 2, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


def data() -> Data:
    return Data("made up", samples(), None, samples(), "none")


def verified(backend: Simulated, **options: object) -> None:
    """Every network that verification runs.

    Masked and slim, both with other weights, slim with a kept channel changed, masked without its wrapping, and the
    original.
    """
    dense = net(NORMED)
    found = trace(dense, allow_inexact=True)
    verify(found, np.arange(found.n_units) % 2 == 0, backend=backend, original=dense.model, **options)


def failed(backend: Simulated) -> None:
    """Also the masked network without optimisations and with its weights shaken twice, to tell what rounding does."""
    found, other = trace(net(CLASSIFIER)), trace(net(CLASSIFIER, seed=1))
    removed = np.arange(found.n_units) % 2 == 0
    with pytest.raises(VerifyFailed):
        verify(found, removed, slim(other, removed), backend=backend)


def by_the_api(backend: Simulated) -> None:
    found = trace(net(CLASSIFIER))
    slimnet.verify(found, slimnet.plan(found), backend=backend)


def checked(backend: Simulated) -> None:
    baseline.save("base.json", conv_net(8), slimnet.bench(conv_net(8), conv_net(8), backend=backend, seconds=0))
    backend.log.clear()
    baseline.check(conv_net(8), "base.json", backend=backend, seconds=0)


def asserted(backend: Simulated) -> None:
    baseline.save("base.json", conv_net(8), slimnet.bench(conv_net(8), conv_net(8), backend=backend, seconds=0))
    backend.log.clear()
    assert_latency(conv_net(8), "base.json", backend=backend, seconds=0)


def gated(backend: Simulated) -> None:
    conditions = Conditions({"x": (1, 3, 16, 16)}, {}, 0, OnnxRuntime().describe())
    gate(conv_net(16), conv_net(8), conditions, backend, seconds=0)


def survived(backend: Simulated) -> None:
    module = torch.nn.Linear(4, 3, bias=False).eval()
    graph = net("(float[1,4] x) => (y) <float[3,4] w> { y = Gemm<transB=1>(x, w) }", w=module.weight.detach().numpy())
    assert slim_module_survives(module, graph.model, random_inputs(graph, graph.inputs), backend)[0]


#: What is called, and how many networks it loads for sessions and for probes.
CASES: dict[str, tuple[Callable[[Simulated], object], int, int]] = {
    "bench": (lambda b: slimnet.bench(conv_net(8), conv_net(8), backend=b, seconds=0, layers=True), 2, 2),
    "compare": (lambda b: compare({"a": conv_net(8)}, IMAGE, b, max_seconds=0), 1, 0),
    "profile": (lambda b: profile({"a": conv_net(8)}, IMAGE, b, 1, max_seconds=0), 0, 1),
    "gate, both attempts": (gated, 4, 0),
    "baseline": (checked, 2, 0),
    "assert_latency": (lambda b: assert_latency(conv_net(8), conv_net(8), backend=b, seconds=0), 2, 0),
    "assert_latency, saved": (asserted, 2, 0),
    "verify": (verified, 7, 0),
    "verify without proof": (lambda b: verified(b, prove=False), 4, 0),
    "verify, failing": (failed, 6, 0),
    "slimnet.verify": (by_the_api, 5, 0),
    "accuracy": (lambda b: accuracy_of(net(CLASSIFIER).model, net(CLASSIFIER), samples(), b), 1, 0),
    "activations": (lambda b: activation_statistics(trace(net(CLASSIFIER)), samples(), backend=b), 1, 0),
    "a criterion's data": (lambda b: measure(create("apoz"), trace(net(CLASSIFIER)), data(), b), 1, 0),
    "all criteria": (lambda b: study(trace(net(CLASSIFIER)), data(), backend=b), 1, 0),
    "inner values": (lambda b: tap(net(CLASSIFIER).model, ["c"], b), 1, 0),
    "a slim module": (survived, 1, 0),
    "stopwatch, dense": (lambda b: Stopwatch(trace(net(CLASSIFIER)), b, 0.01).dense_ms(), 1, 0),
    "stopwatch, speedup": (lambda b: Stopwatch(trace(net(CLASSIFIER)), b, 0.01).speedup(net(CLASSIFIER).model), 16, 0),
    "stopwatch, layers": (lambda b: Stopwatch(trace(net(CLASSIFIER)), b).layers([net(CLASSIFIER).model]), 0, 1),
}


@pytest.fixture(autouse=True)
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is loaded into onnxruntime but by the simulated backend."""

    def refuse(self: OnnxRuntime, model: ir.Model, *_: object) -> None:
        raise AssertionError("the backend that was given is not used")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OnnxRuntime, "session", refuse)
    monkeypatch.setattr(OnnxRuntime, "probe", refuse)


@pytest.mark.parametrize("case", CASES)
def test_every_network_is_run_with_the_provider_and_the_threads_given(case):
    call, sessions, probes = CASES[case]
    backend = Simulated("gpu", 3)
    call(backend)
    assert {(provider, threads) for _, provider, threads in backend.log} == {("gpu", 3)}
    did = [what for what, *_ in backend.log]
    assert (did.count("session"), did.count("probe")) == (sessions, probes)
