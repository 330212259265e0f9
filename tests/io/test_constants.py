"""Inputs that are bound to constants."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

import slimnet
from slimnet.common.errors import BadInput
from slimnet.io.constants import bind
from slimnet.runtime.onnxruntime import DEFAULT


def model(kind):
    """A network that puts out what it is given as an input k of this type."""
    text = f"g ({kind} k, float[1] x) => ({kind} y) {{ y = Identity(k) }}"
    return ir.from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))


@pytest.mark.parametrize(
    ("kind", "given", "holds"),
    [
        ("int64", "16000", 16000),
        ("int64", 16000, 16000),
        ("int64[1]", "16000", [16000]),
        ("int32[N]", "7", [7]),
        ("int64[3]", "1,2,3", [1, 2, 3]),
        ("int64[N]", (1, 2, 3), [1, 2, 3]),
        ("float[2,2]", "0.5", [[0.5, 0.5], [0.5, 0.5]]),
        ("float[2,N]", [1, 2, 3, 4], [[1, 2], [3, 4]]),
        ("float", "3", 3),
        ("float16", "0.1", np.float16(0.1)),
        ("bool", "true", True),
        ("bool", False, False),
        ("bool[2]", "true,false", [True, False]),
        ("uint8", "-0", 0),
        ("int64", np.array([5]), 5),
    ],
)
def test_a_constant_takes_the_type_and_shape_of_its_input(kind, given, holds):
    bound = model(kind)
    bind(bound, {"k": given}, "net.onnx")
    assert [value.name for value in bound.graph.inputs] == ["x"]
    (y,) = DEFAULT.session(bound).run({"x": np.zeros(1, np.float32)})
    assert y.tolist() == np.asarray(holds).tolist()
    assert y.dtype == bound.graph.initializers["k"].dtype.numpy()


@pytest.mark.parametrize(
    ("kind", "given", "complaint"),
    [
        ("int64", "1.5", "`constants` k=1.5: is no int64; give a number, true or false, or several as in 1,2,3"),
        ("int8", "300", "is no int8"),
        ("uint8", "-1", "is no uint8"),
        ("bool", "2", "is no bool"),
        ("float", "loud", "is no float32"),
        ("float[2]", "1,loud", "is no float32"),
        ("int64", "1,2", "2 numbers do not fit k, which is scalar"),
        ("float[3]", "1,2", "2 numbers do not fit k, which is 3"),
        ("float[3,N]", "1,2", "2 numbers do not fit k, which is 3x?"),
        ("float[M,N]", "1,2", "2 numbers do not fit k, which is ?x?"),
        ("float[2]", [[1], [2, 3]], "is no float32"),
        ("string", "loud", "k holds strings, and only numbers and truth values can be set"),
    ],
)
def test_what_does_not_fit_is_told(kind, given, complaint):
    with pytest.raises(BadInput) as caught:
        bind(model(kind), {"k": given}, "net.onnx")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("net.onnx: `constants` k=")


def test_an_input_that_there_is_not():
    with pytest.raises(BadInput, match="`constants` rate=1 names no input; its inputs are k, x"):
        bind(model("int64"), {"rate": 1}, "net.onnx")


def test_a_module_is_not_bound():
    with pytest.raises(BadInput, match=r"`constants` x: only inputs of \.onnx and \.pt2 files are bound"):
        slimnet.load("net.pt", inputs="1x2", constants={"x": 1})
