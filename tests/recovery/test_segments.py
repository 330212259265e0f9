"""A network that is run in segments computes what it computes in one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from slimnet.recovery.segments import Stepper, segments
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT, OnnxRuntime
from tests.networks.graphs import net

NETWORK = """(float[1,4] x) => (y) <float[4,5] w, float[5,5] v, float[5,3] u>
    { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Add(b, c) e = Tanh(d) y = MatMul(e, u) }"""


def test_values_at_stops_are_those_of_one_run():
    network = net(NETWORK)
    feeds = [random_inputs(network, network.inputs, seed) for seed in range(3)]
    stepper = Stepper(network.model, [["a"], ["b", "c"], ["b"], ["y"]], feeds, DEFAULT)
    found = [[{k: v.copy() for k, v in known.items()} for known in stepper.advance()] for _ in range(4)]
    for at, feed in enumerate(feeds):
        (y,) = DEFAULT.session(network.model).run(feed)
        assert np.allclose(found[3][at]["y"], y)
        a = feed["x"] @ network.params()["w"]
        assert np.allclose(found[0][at]["a"], a, atol=1e-6)
        assert np.allclose(found[2][at]["b"], np.maximum(a, 0), atol=1e-6)


def test_every_node_runs_once_and_what_nothing_needs_is_dropped():
    cut = segments(net(NETWORK).model, [["a"], ["b", "c"], ["y"]])
    assert [[node.op_type for node in part.nodes] for part in cut] == [
        ["MatMul"], ["Relu", "MatMul"], ["Add", "Tanh", "MatMul"]
    ]  # fmt: skip
    assert [set(part.drops) & {"x", "a", "b", "c"} for part in cut] == [{"x"}, {"a"}, {"b", "c"}]


def test_a_weight_that_changes_on_the_way_counts_from_there_on():
    network = net(NETWORK)
    model = network.model.clone()
    feed = random_inputs(network, network.inputs)
    stepper = Stepper(model, [["b"], ["y"]], [feed], DEFAULT)
    for known in stepper.advance():
        b = known["b"].copy()
    value = model.graph.initializers["v"]
    value.const_value = ir.Tensor(np.zeros((5, 5), np.float32), name="v")
    (known,) = [dict(known) for known in stepper.advance()]
    assert np.allclose(known["y"], np.tanh(b) @ network.params()["u"], atol=1e-6)


def test_a_branch_that_reads_from_outside_is_followed():
    text = """(float[6] x) => (float[6] y) <float zero = {0}> {
        s = ReduceSum<keepdims=0>(x) c = Less(s, zero) k = Abs(x)
        m = If(c) <then_branch = t () => (float[6] p) { p = Neg(k) },
                   else_branch = e () => (float[6] q) { q = Relu(k) }>
        y = Tanh(m) }"""
    network = net(text)
    feed = random_inputs(network, network.inputs)
    stepper = Stepper(network.model, [["k"], ["m"], ["y"]], [feed], OnnxRuntime())
    *_, (known,) = [[dict(known) for known in stepper.advance()] for _ in range(3)]
    assert np.allclose(known["y"], DEFAULT.session(network.model).run(feed)[0])
