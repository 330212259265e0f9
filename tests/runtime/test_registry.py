"""Backends by name, and one that another package brings."""

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.graph.trace import trace
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.runtime.registry import backend
from slimnet.verification.verify import verify
from tests.networks.backends import Simulated, install
from tests.networks.graphs import net, run

MLP = """(float[4,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v>
    { a = MatMul(x, w) c = Add(a, b) d = Relu(c) y = MatMul(d, v) }"""


def test_a_backend_of_another_package_verifies_a_network(reference, monkeypatch):
    monkeypatch.setattr(OnnxRuntime, "session", None)  # nothing falls back to it
    found = trace(net(MLP))
    result = verify(found, np.arange(found.n_units) % 2 == 0, backend=reference)
    assert result.exact
    assert result.proven == ["w"]
    assert (reference.describe().name, reference.describe().threads) == ("reference", 2)


def test_a_backend_of_another_package_computes_the_same(reference):
    dense = net(MLP)
    feed = {"x": np.ones((4, 6), np.float32)}
    np.testing.assert_allclose(reference.session(dense.model).run(feed)[0], run(dense.model, feed)[0], rtol=1e-5)


def test_names_of_providers_are_onnxruntimes():
    assert backend("cpu", 3) == backend("onnxruntime", 3) == backend("onnxruntime:cpu", 3) == OnnxRuntime("cpu", 3)
    assert backend() == OnnxRuntime()


def test_names_of_other_runtimes_choose_them_and_their_provider(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    assert backend("simulated", 3) == Simulated("simulator", 3)
    assert backend("simulated:gpu") == Simulated("gpu")


def test_what_is_not_installed_is_bad_input():
    with pytest.raises(BadInput, match=r"abacus: is not installed; this onnxruntime has .*cpu"):
        backend("abacus")


def test_a_backend_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "nowhere.at_all:make")
    with pytest.raises(BadInput, match=r"simulated: nowhere\.at_all:make of .* cannot be loaded .*nowhere"):
        backend("simulated")
