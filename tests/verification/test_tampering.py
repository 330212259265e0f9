"""A slim file in which one thing was changed is noticed, wherever that changes what it computes."""

from __future__ import annotations

import numpy as np
import pytest

from slimnet.common.errors import SlimnetError
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.runtime.feeds import index_bounds
from slimnet.verification.verify import verify
from tests.networks.graphs import net
from tests.networks.tampered import Truth, tamperings

NETWORKS = {
    "mlp": """(float[N,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v, float[5,3] u>
        { a = MatMul(x, w) c = Add(a, b) d = Relu(c) e = MatMul(d, v) f = Tanh(e) y = MatMul(f, u) }""",
    "flattened": """(float[N,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] b, float[128,4] v, int64[2] t = {-1,128}>
        { a = Conv(x, w, b) c = Relu(a) f = Reshape(c, t) y = MatMul(f, v) }""",
    "detector": """(float[N,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] b, float[4,8,1,1] v, float[3,8,1,1] u,
        float scale = {640}> { a = Conv(x, w, b) c = Relu(a) d = Conv(c, v) e = Mul(d, scale) f = Conv(c, u)
        s = Sigmoid(f) y = Concat<axis=1>(e, s) }""",
    "winner": """(float[N,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v>
        { a = MatMul(x, w) c = Add(a, b) d = Relu(c) e = MatMul(d, v) y = ArgMax<axis=1>(e) }""",
    "low": """(float[N,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v, float small = {0.01}, float low = {-30}>
        { a = MatMul(x, w) c = Add(a, b) d = Relu(c) e = MatMul(d, v) f = Mul(e, small) g = Add(f, low)
          y = Sigmoid(g) }""",
    "words": """(int64[N,4] ids) => (y) <float[9,8] table, float[8] b, float[8,5] v>
        { a = Gather(table, ids) c = Add(a, b) d = Relu(c) y = MatMul(d, v) }""",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_changes_an_output_is_noticed(name):
    dense = net(NETWORKS[name], n=1)
    found = trace(dense)
    removed = np.arange(found.n_units) % 2 == 0
    model = slim(found, removed)
    truth = Truth(model, dense, index_bounds(found))
    assert not truth.changes(model)
    assert verify(found, removed, model, prove=False).exact
    tried = 0
    for _, changed in tamperings(model, np.random.default_rng(0)):
        if truth.changes(changed):
            tried += 1
            with pytest.raises(SlimnetError):
                verify(found, removed, changed, prove=False)
    assert tried >= 3
