"""The pytest helper, as a user would call it."""

import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.testing import assert_latency
from slimnet.timing import baseline
from slimnet.timing.run import bench
from tests.networks.backends import Simulated
from tests.networks.graphs import from_text


def products(count: int) -> ir.Model:
    """So many matrix products one after the other."""
    nodes = " ".join(f"x{k + 1} = MatMul(x{k}, x0)" for k in range(count))
    return from_text(f"(float[96,96] x0) => (float[96,96] x{count}) {{ {nodes} }}")


def machine() -> Simulated:
    """One on which a product takes 10 us for each sample."""
    return Simulated(seconds=lambda model: 1e-5 * len(model.graph))


def test_the_same_model_passes(tmp_path):
    ir.save(products(2), tmp_path / "a.onnx")
    ir.save(products(2), tmp_path / "b.onnx")
    assert_latency(tmp_path / "a.onnx", tmp_path / "b.onnx", tolerance="5%", backend=machine(), seconds=0.4)


def test_a_slower_model_fails_with_its_numbers():
    with pytest.raises(AssertionError, match=r"the candidate takes \d\.\d+ times .* ms against .* runs"):
        assert_latency(products(4), products(2), backend=machine(), seconds=0.4)


def test_a_saved_baseline_serves_as_well(tmp_path):
    base = tmp_path / "base.json"
    baseline.save(base, products(2), bench(products(4), products(2), backend=machine(), seconds=0.2))
    assert_latency(products(2), base, backend=machine(), seconds=0.4)
    with pytest.raises(AssertionError, match=r"slower than .*base\.json"):
        assert_latency(products(4), base, backend=machine(), seconds=0.4)


def test_a_saved_baseline_knows_its_inputs(tmp_path):
    with pytest.raises(BadInput, match=r"base\.json: knows its inputs"):
        assert_latency(products(2), tmp_path / "base.json", batch=4)


def test_one_thread_of_onnxruntime_measures_if_nothing_else_is_said(monkeypatch):
    asked = []
    monkeypatch.setattr(OnnxRuntime, "session", lambda self, m: asked.append(self) or machine().session(m))
    assert_latency(products(1), products(1), seconds=0)
    assert set(asked) == {OnnxRuntime("cpu", 1)}
