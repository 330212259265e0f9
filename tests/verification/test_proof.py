"""The proof that a comparison could have failed."""

import numpy as np
import pytest

from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.verification.proof import TRIES, TRIES_INSIDE, weights_as_inputs
from slimnet.verification.verify import TOLERANCE, verify
from tests.networks.backends import Simulated
from tests.networks.graphs import net

#: One output that is 1 and a little more: what each of eight units adds.
ADDING = """(float[1,1] x) => (y) <float[1,8] w, float[8,1] v, float one>
    { h = MatMul(x, w) s = MatMul(h, v) y = Add(s, one) }"""


def adding(each: float):
    found = trace(net(ADDING, w=1.0, v=each, one=1.0))
    removed = np.arange(found.n_units) % 2 == 0
    return found, removed, [{"x": np.ones((1, 1), np.float32)}]


@pytest.mark.parametrize(("tolerances", "noticed"), [(2, False), (8, False), (13, True), (50, True)])
def test_a_kept_unit_has_to_show_ten_times_the_tolerance(tolerances, noticed):
    found, removed, feeds = adding(tolerances * TOLERANCE)
    result = verify(found, removed, inputs=feeds, runs=0)
    assert result.proven == ["w"]
    assert result.inside == ([] if noticed else ["w"])  # the sum that `one` drowns shows it


def test_so_many_units_are_tried_before_a_group_is_unproven():
    """Each try is one run, after two for masked and slim, at the outputs and inside."""
    found = trace(net(ADDING.replace("8", "64"), w=1.0, v=0.0, one=1.0))
    backend = Simulated()
    result = verify(found, np.arange(found.n_units) % 2 == 0, None, [{"x": np.ones((1, 1), np.float32)}], 0, backend)
    assert result.unproven == ["w"]
    assert [what for what, *_ in backend.log].count("run") == 2 + TRIES + 2 + TRIES_INSIDE


def test_weights_become_inputs_and_the_model_stays():
    found, removed, (feed,) = adding(1.0)
    thin = slim(found, removed)
    model, weights = weights_as_inputs(thin, {"w", "v", "nothing"})
    assert {value.name for value in model.graph.inputs} == {"x", "w", "v"}
    assert set(thin.graph.initializers) == {"w", "v", "one"}
    session = Simulated().session(model)
    assert session.run({**feed, **weights})[0].item() == pytest.approx(5)
    assert session.run({**feed, **weights, "v": np.zeros((4, 1), np.float32)})[0].item() == pytest.approx(1)
