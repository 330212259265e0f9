"""Sizes that a file leaves open and nobody gives."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Input
from slimnet.io.inputs import net_of
from slimnet.io.open_sizes import TRIES, USUAL, kind_of
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT, OnnxRuntime

FLOAT, INT = ir.DataType.FLOAT, ir.DataType.INT64
#: Two convolutions that leave a quarter of each side.
QUARTER = """a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w) b = Relu(a)
    c = Conv<pads=[1,1,1,1], strides=[2,2]>(b, v)"""
WEIGHTS = {"w": (16, 3, 3, 3), "v": (8, 16, 3, 3)}


def network(text, symbols=(), **weights):
    """A graph from text; weights are random where a shape is given. `symbols` renames axes: (input, axis, name)."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g {text}')
    rng = np.random.default_rng(0)
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else rng.standard_normal(value).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for number, axis, name in symbols:
        dim = proto.graph.input[number].type.tensor_type.shape.dim[axis]
        dim.Clear()
        if name is not None:
            dim.dim_param = name
    return ir.from_proto(proto)


def found(*args, **weights):
    """The sizes chosen for a network, at which it must run, and the notes."""
    model = network(*args, **weights)
    net = net_of(model, "net", [], "net.onnx")
    DEFAULT.session(model).run(random_inputs(model, net.inputs))
    return net.inputs, list(net.notes)


# -- what the graph needs ----------------------------------------------------------------------------------------------


def test_a_gemm_says_how_large_the_picture_is():
    text = f"(float[N,3,H,W] x) => (float[N,10] y) {{ {QUARTER} f = Flatten(c) y = Gemm(f, fc) }}"
    inputs, notes = found(text, **WEIGHTS, fc=(8 * 7 * 7, 10))
    assert inputs == {"x": (1, 3, 28, 28)}
    assert notes == ["the file leaves sizes of its inputs open; chosen were x=1x3x28x28"]


@pytest.mark.parametrize("target", [[-1, 8 * 21 * 21], [1, 8 * 21 * 21]])
def test_a_reshape_must_not_make_samples_of_a_picture(target):
    """At 336x336, [-1, 3528] would run too, as 16 samples."""
    text = f"(float[N,3,H,W] x) => (float[N,10] y) {{ {QUARTER} f = Reshape(c, t) y = Gemm(f, fc) }}"
    inputs, _ = found(text, **WEIGHTS, fc=(8 * 21 * 21, 10), t=np.array(target))
    assert inputs == {"x": (1, 3, 84, 84)}


def test_pixels_may_become_rows_where_no_layer_follows():
    """As in the head of a detector: one row for each box, however many there are."""
    text = "(float[N,3,H,W] x) => (float[M,4] y) { a = Conv(x, w) b = Transpose<perm=[0,2,3,1]>(a) y = Reshape(b, t) }"
    inputs, _ = found(text, w=(12, 3, 3, 3), t=np.array([-1, 4]))
    assert inputs == {"x": (1, 3, 224, 224)}


def test_channels_may_become_rows():
    """A layer over all pixels of one channel."""
    text = "(float[N,32,7,7] x) => (float[M,5] y) { a = Reshape(x, t) y = MatMul(a, w) }"
    inputs, notes = found(text, w=(49, 5), t=np.array([-1, 49]))
    assert inputs == {"x": (1, 32, 7, 7)}
    assert notes == []


def test_a_declared_output_says_how_large_the_picture_is():
    inputs, _ = found(
        "(float[1,3,H,W] x) => (float[1,8,46,190] y) { a = Conv(x, w) y = Conv(a, v) }",
        w=(16, 3, 2, 2),
        v=(8, 16, 2, 2),
    )
    assert inputs == {"x": (1, 3, 48, 192)}


def test_a_convolution_says_how_many_channels_there_are():
    inputs, _ = found("(float[N,C,H,W] x) => (float[N,16,A,B] y) { y = Conv(x, w) }", w=(16, 5, 2, 2))
    assert inputs == {"x": (1, 5, 224, 224)}


def test_position_embeddings_say_how_many_tokens_there_are():
    text = "(int64[B,L] x, int64[B,L] m) => (float[B,L,4] y) { a = Gather(w, x) b = Add(a, p) y = MatMul(b, v) }"
    inputs, _ = found(text, w=(100, 16), p=(1, 77, 16), v=(16, 4))
    assert inputs == {"x": (1, 77), "m": (1, 77)}


def test_a_constant_that_is_joined_says_how_long_the_others_are():
    inputs, _ = found("(float[N,2,L] x) => (float[N,5,M] y) { y = Concat<axis=1>(x, k) }", k=(1, 3, 41))
    assert inputs == {"x": (1, 2, 41)}


def test_a_reshape_to_a_fixed_batch_says_how_large_the_batch_is():
    inputs, notes = found("(float[N,3,8,8] x) => (float[4,5] y) { a = Reshape(x, t) y = MatMul(a, w) }",
                          t=np.array([4, 192]), w=(192, 5))  # fmt: skip
    assert inputs == {"x": (4, 3, 8, 8)}
    assert "x=4x3x8x8" in notes[0]


@pytest.mark.parametrize("kernel", [3, 11, 300])
def test_a_picture_is_at_least_as_large_as_a_kernel(kernel):
    inputs, _ = found("(float[N,1,H,W] x) => (float[N,2,A,B] y) { y = Conv(x, w) }", w=(2, 1, kernel, kernel))
    assert inputs["x"][2:] == ((224, 224) if kernel < 224 else (320, 320))


def test_sizes_in_large_constant_nodes_count():
    model = network("(float[N,F] x) => (float[N,5] y) { y = MatMul(x, w) }")
    weight = ir.node("Constant", [], {"value": ir.tensor(np.ones((37, 5), np.float32))})
    product = model.graph[0]
    product.replace_input_with(1, weight.outputs[0])
    weight.outputs[0].name = "w"
    model.graph.insert_before(product, weight)
    assert net_of(model, "net", [], "net.onnx").inputs == {"x": (1, 37)}


# -- what is usual -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "dims", "kinds"),
    [
        (FLOAT, ["N", 3, "A", "B"], ["batch", None, "picture", "picture"]),
        (FLOAT, ["N", "A", "B", 3], ["batch", "picture", "picture", None]),
        (FLOAT, ["N", "A", "B", "D"], ["batch", "channels", "picture", "picture"]),
        (FLOAT, ["N", 3, "A", "B", "D"], ["batch", None, "frames", "clip", "clip"]),
        (FLOAT, [3, "height", "width"], [None, "picture", "picture"]),
        (FLOAT, ["N", 1, "A"], ["batch", None, "sound"]),
        (FLOAT, ["N", 80, "A"], ["batch", None, "steps"]),
        (FLOAT, ["seq", "batch", "A"], ["steps", "batch", "features"]),
        (FLOAT, ["T", "N", "A"], ["steps", "batch", "features"]),
        (FLOAT, ["N", "A"], ["batch", "sound"]),
        (FLOAT, [2, "batch_size", 64], [None, "batch", None]),
        (FLOAT, ["N", 12, "past_sequence", 64], ["batch", None, "tokens", None]),
        (INT, ["N", "A"], ["batch", "tokens"]),
        (INT, ["sequence_length"], ["tokens"]),
        (INT, ["A"], ["batch"]),
    ],
)
def test_what_an_axis_probably_is(dtype, dims, kinds):
    guessed = [None if isinstance(dim, int) else kind_of(dtype, k, dims) for k, dim in enumerate(dims)]
    assert guessed == kinds
    assert set(filter(None, guessed)) <= set(USUAL)


def test_a_sum_of_symbols_is_computed():
    text = "(int64[B,seq] x, float[B,2,past,8] p, int64[B,M] mask) => (float[B,M] y) { y = Cast<to=1>(mask) }"
    inputs, _ = found(text, [(2, 1, "past + 2*seq + 1")])
    assert inputs == {"x": (1, 16), "p": (1, 2, 16, 8), "mask": (1, 49)}


@pytest.mark.parametrize("name", ["?", "unk__12", "DynamicDimension.0", "", None, "-1", "None", "unknown", "__"])
def test_a_placeholder_is_not_one_size(name):
    symbols = [(0, 0, name), (0, 2, name), (0, 3, name)]
    model = network("(float[N,3,H,W] x) => (float[A,2,B,C] y) { y = Conv(x, w) }", symbols, w=(2, 3, 1, 1))
    assert net_of(model, "net", [], "net.onnx").inputs == {"x": (1, 3, 224, 224)}
    given = net_of(model, "net", [Input("x", (1, 3, 48, 192))], "net.onnx")
    assert given.inputs == {"x": (1, 3, 48, 192)}
    assert given.notes == ()


@pytest.mark.parametrize("given", [[], [Input("x", (1, 3, 8, 8))]])
def test_an_input_that_is_always_empty_is_told_before_any_work(given):
    model = network("(float[N,3,0,8] x) => (float[N,2,H,W] y) { y = Conv(x, w) }", w=(2, 3, 1, 1))
    expected = r"^net\.onnx: input x is Nx3x0x8, always empty; export it with the size, or left open$"
    with pytest.raises(BadInput, match=expected):
        net_of(model, "net", given, "net.onnx")


def test_sizes_that_are_given_hold_for_what_is_chosen():
    model = network("(float[N,3,H,W] x, float[N,1,H,K] z) => (float[N,4,H,W] y) { y = Concat<axis=1>(x, z) }")
    net = net_of(model, "net", [Input("x", (2, 3, 40, 48))], "net.onnx")
    assert net.inputs == {"x": (2, 3, 40, 48), "z": (2, 1, 40, 48)}
    assert list(net.notes) == ["the file leaves sizes of its inputs open; chosen were z=2x1x40x48"]


# -- trying ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(monkeypatch):
    """The models that a session was made of."""
    seen = []
    session = OnnxRuntime.session
    monkeypatch.setattr(
        OnnxRuntime, "session", lambda self, *args, **more: seen.append(args) or session(self, *args, **more)
    )
    return seen


@pytest.mark.parametrize("first", ["N", "4", "batch"])
def test_what_is_fixed_or_only_a_batch_is_not_run(sessions, first):
    net = net_of(network(f"(float[{first},3] x) => (float[{first},3] y) {{ y = Relu(x) }}"), "net", [], "net.onnx")
    assert net.notes == ()
    assert sessions == []


def test_what_never_runs_is_refused_with_what_was_tried(sessions):
    model = network("(float[N,3,L] x, float[2] z) => (float[7,11] y) { y = Reshape(x, t) }", t=np.array([7, 11]))
    with pytest.raises(BadInput) as caught:
        net_of(model, "net", [], "net.onnx")
    text = str(caught.value)
    assert text.startswith("net.onnx: leaves sizes of its inputs open, and onnxruntime runs it at none of those")
    assert "x=1x3x128; x=1x3x256" in text
    assert text.count("x=1x3x") <= TRIES
    assert text.endswith("give `inputs` x=Nx3xL with a number for each")
    assert len(sessions) == 1


def test_what_the_runtime_cannot_load_is_not_tried():
    model = network("(float[N,3,H,W] x) => (float[N,2,A,B] y) { a = own.Thing(x) y = Conv(a, w) }", w=(2, 3, 9, 9))
    net = net_of(model, "net", [], "net.onnx")
    assert net.inputs == {"x": (1, 3, 224, 224)}
    assert "not tried: onnxruntime cannot load the network" in net.notes[0]


def test_few_shapes_are_inferred(monkeypatch):
    """However large the graph is, it is looked at so many times."""
    count = 0
    infer = onnx.shape_inference.infer_shapes

    def counted(*args, **more):
        nonlocal count
        count += 1
        return infer(*args, **more)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", counted)
    found("(float[N,3,H,W] x) => (float[N,2,A,B] y) { y = Conv(x, w) }", w=(2, 3, 3, 3))
    assert count <= 2
    text = f"(float[N,3,H,W] x) => (float[N,10] y) {{ {QUARTER} f = Flatten(c) y = Gemm(f, fc) }}"
    found(text, **WEIGHTS, fc=(8 * 7 * 7, 10))
    assert count < 120
