"""What every backend does: the tests of one that is new begin here."""

from dataclasses import FrozenInstanceError

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.backend import Backend, RunFailed, tap
from slimnet.runtime.onnxruntime import OnnxRuntime
from tests.networks.backends import Simulated
from tests.networks.graphs import net

MLP = """(float[4,6] x, float[5] z) => (y, r) <float[6,8] w, float[8,5] v>
    { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) r = Identity(b) y = Add(c, z) }"""


@pytest.fixture(params=["onnxruntime", "simulated", "reference"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend there is."""
    made = {"onnxruntime": OnnxRuntime, "simulated": Simulated}
    return made[request.param](threads=2) if request.param in made else request.getfixturevalue("reference")


@pytest.fixture
def feed() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((4, 6), np.float32), "z": rng.standard_normal(5, np.float32)}


def test_all_outputs_are_computed(backend, feed):
    model = net(MLP).model
    w, v = (model.graph.initializers[name].const_value.numpy() for name in ("w", "v"))
    hidden = np.maximum(feed["x"] @ w, 0)
    for optimise in (True, False):
        y, r = backend.session(model, optimise).run(feed)
        np.testing.assert_allclose(y, hidden @ v + feed["z"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(r, hidden, rtol=1e-4, atol=1e-5)


def test_a_file_runs_as_its_model_does(backend, feed, tmp_path):
    ir.save(net(MLP).model, tmp_path / "net.onnx")
    from_file, from_model = (backend.session(m).run(feed)[0] for m in (tmp_path / "net.onnx", net(MLP).model))
    np.testing.assert_array_equal(from_file, from_model)


def test_the_inputs_that_have_to_be_fed_are_named(backend):
    assert list(backend.session(net(MLP).model).inputs) == ["x", "z"]


def test_a_model_is_left_as_it_is(backend, feed):
    model = net(MLP).model
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    backend.session(model).run(feed)
    assert all(model.graph.initializers[name].const_value is tensor for name, tensor in before.items())


def test_inner_values_can_be_put_out(backend, feed):
    model = net(MLP).model
    a, x = tap(model, ["a", "x"], backend).run(feed)
    np.testing.assert_allclose(a, feed["x"] @ model.graph.initializers["w"].const_value.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(x, feed["x"])


def test_inputs_that_do_not_fit_fail_on_one_line(backend, feed):
    with pytest.raises(RunFailed) as caught:
        backend.session(net(MLP).model).run(feed | {"x": np.zeros((4, 7), np.float32)})
    assert caught.value.reason
    assert isinstance(caught.value, BadInput)


def test_bound_inputs_are_run_as_often_as_asked(backend, feed):
    timed = backend.session(net(MLP).model).bind(feed)
    assert timed(1) > 0
    assert timed(1000) > 0


def test_a_backend_is_immutable_and_its_threads_can_be_replaced(backend):
    other = backend.with_threads(3)
    assert (other.threads, backend.threads) == (3, 2)
    assert other.provider == backend.provider
    assert other.with_threads(2) == backend
    with pytest.raises(FrozenInstanceError):
        backend.threads = 3


def test_a_backend_describes_itself(backend):
    told = backend.describe()
    assert (told.provider, told.threads) == (backend.provider, backend.threads)
    assert told.name
    assert told.version
    assert told.cores >= 1
