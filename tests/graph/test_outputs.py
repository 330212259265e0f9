"""Outputs have values and names of their own."""

import numpy as np
import onnx
import pytest

from slimnet.graph.optimise import optimise
from slimnet.graph.outputs import name_outputs
from slimnet.io.load import load
from slimnet.runtime.onnxruntime import DEFAULT
from tests.networks.graphs import from_text

SWAPPED = "(float[2,4] x) => (float[2,4] a, float[2,4] b) { a = Relu(x) b = Neg(a) }"


def names(graph):
    """What is fed and fetched."""
    return [value.name for value in graph.inputs], [value.name for value in graph.outputs]


@pytest.mark.parametrize(
    ("outputs", "called"), [("x, y", ["x_out", "y"]), ("y, y", ["y", "y_out"]), ("x, x, y", ["x_out", "x_out_2", "y"])]
)
def test_a_file_that_puts_out_its_input_or_a_value_twice_keeps_its_names(tmp_path, outputs, called):
    listed = ", ".join(f"float[2,4] {name}" for name in outputs.split(", "))
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => ({listed}) {{ y = Relu(x) }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    net = load(tmp_path / "net.onnx")
    small = optimise(net.model)
    assert names(net.model.graph) == names(small.graph) == (["x"], called)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    for found, name in zip(DEFAULT.session(small).run({"x": x}), outputs.split(", "), strict=True):
        np.testing.assert_array_equal(found, x if name == "x" else np.maximum(x, 0))


def test_names_may_be_swapped_and_taken_from_inner_values():
    model = from_text(SWAPPED)
    name_outputs(model.graph, ["b", "a"])
    assert names(model.graph) == (["x"], ["b", "a"])
    model = from_text("(float[2,4] x) => (float[2,4] y) { a = Relu(x) y = Neg(a) }")
    name_outputs(model.graph, ["a"])
    assert [node.outputs[0].name for node in model.graph] == ["a_out", "a"]


def test_other_numbers_of_keys_are_none():
    model = from_text(SWAPPED)
    name_outputs(model.graph, ["p"])
    assert names(model.graph) == (["x"], ["a", "b"])


def test_a_weight_may_be_an_output_under_its_own_name():
    model = from_text("(float[2,4] x) => (float[4] w, float[2,4] y) <float[4] w> { y = Add(x, w) }")
    name_outputs(model.graph)
    assert names(model.graph) == (["x"], ["w", "y"])
    name_outputs(model.graph, ["scale", "y"])
    assert names(model.graph) == (["x"], ["scale", "y"])
    assert "w" in model.graph.initializers
