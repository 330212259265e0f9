"""The plain numpy evaluation of shape arithmetic agrees with onnx's reference evaluator."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from slimnet.graph.evaluate import MAX_ELEMENTS, CannotEvaluate, evaluate, moved

V = np.array([2, 3, 5, 7], np.int64)
M = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
F = np.array([[-1.5, 0.5], [2.5, -0.5]], np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def s(value: int) -> np.ndarray:
    return np.array(value, np.int64)


CASES = [
    ("Add(a, b)", V, i(1)),
    ("Sub(a, b)", V, V[::-1]),
    ("Mul(a, b)", M, i(2)),
    ("Div(a, b)", i(7, -7, 7, -7), i(2, 2, -2, -2)),
    ("Div(a, b)", F, np.float32([2])),
    ("Mod(a, b)", V, i(2)),
    ("Neg(a)", V),
    ("Abs(a)", -V),
    ("Sqrt(a)", np.float32([4, 9])),
    ("Floor(a)", F),
    ("Ceil(a)", F),
    ("Pow(a, b)", V, i(2)),
    ("Min(a, b)", V, i(4)),
    ("Max(a, b)", V, i(4)),
    ("Equal(a, b)", V, i(3)),
    ("Less(a, b)", V, i(4)),
    ("LessOrEqual(a, b)", V, i(3)),
    ("Greater(a, b)", V, i(4)),
    ("GreaterOrEqual(a, b)", V, i(5)),
    ("And(a, b)", V > 2, V < 6),
    ("Or(a, b)", V > 4, V < 3),
    ("Not(a)", V > 2),
    ("Where(a, b, c)", V > 2, V, i(-1)),
    ("Cast<to=7>(a)", F),
    ("Cast<to=1>(a)", V),
    ("Cast<to=9>(a)", i(0, 1, 2)),
    ("Concat<axis=0>(a, b)", V, i(1, 2)),
    ("Concat<axis=-1>(a, b)", M, M),
    ("Gather(a, b)", V, s(-1)),
    ("Gather(a, b)", V, i(0, 2)),
    ("Gather<axis=1>(a, b)", M, np.array([[0, -1], [2, 1]])),
    ("GatherND(a, b)", M, np.array([[0, 1], [1, 2]])),
    ("ScatterND(a, b, c)", V, np.array([[1], [3]]), i(10, 20)),
    ("Slice(a, b, c)", V, i(1), i(100)),
    ("Slice(a, b, c, d, e)", V, i(-1), i(-100), i(0), i(-1)),
    ("Slice(a, b, c, d)", M, i(0, -2), i(2, -1), i(-1, 1)),
    ("Split(a, b)", V, i(1, 3)),
    ("Split<num_outputs=3>(a)", i(1, 2, 3, 4, 5, 6, 7)),
    ("Split<axis=-1, num_outputs=2>(a)", M),
    ("Squeeze(a)", M[:1, :, :1]),
    ("Squeeze(a, b)", M[:1, :, :1], i(-1)),
    ("Unsqueeze(a, b)", V, i(0)),
    ("Unsqueeze(a, b)", M, i(-1, 1)),
    ("Reshape(a, b)", M, i(0, -1)),
    ("Reshape(a, b)", M, i(4, 6)),
    ("Transpose(a)", M),
    ("Transpose<perm=[1,0,2]>(a)", M),
    ("Expand(a, b)", V, i(2, 1)),
    ("Expand(a, b)", V[:, None], i(3)),
    ("Tile(a, b)", V, i(2)),
    ("Tile(a, b)", M, i(1, 2, 1)),
    ("Range(a, b, c)", s(1), s(10), s(3)),
    ("Range(a, b, c)", s(5), s(0), s(-2)),
    ("ReduceProd(a, b)", M + 1, i(0, -1)),
    ("ReduceProd<keepdims=0>(a)", V),
    ("ReduceSum<keepdims=0>(a, b)", M, i(1)),
    ("ReduceMax<keepdims=0>(a)", V),
    ("ReduceMin(a)", M),
    ("ReduceSum<noop_with_empty_axes=1>(a)", M),
    ("ConstantOfShape<value = int64[1] {7}>(a)", i(2, 3)),
    ("ConstantOfShape(a)", i(2)),
    ("Identity(a)", V),
    ("NonZero(a)", V > 2),
    ("CumSum(a, b)", V, s(0)),
    ("Constant<value_ints=[1,2]>()",),
    ("Constant<value_int=3>()",),
    ("Constant<value_float=0.5>()",),
    ("Constant<value = float[2] {0.5, 1}>()",),
    ("Trilu(a)", M),
    ("Clip(a, b)", V, s(3)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_every_operator_gives_what_the_standard_says(case):
    text, *inputs = case
    outputs = {"Split(a, b)": 2, "Split<num_outputs=3>(a)": 3, "Split<axis=-1, num_outputs=2>(a)": 2}.get(text, 1)
    node = _node(text, outputs)
    want = ReferenceEvaluator(ir.to_proto(node), opsets={"": 20}).run(None, dict(zip("abcde", inputs, strict=False)))
    got = evaluate(node, inputs)
    assert len(got) == outputs
    for x, y in zip(want, got, strict=True):
        assert x.dtype == y.dtype
        assert np.array_equal(x, y)


def _node(text: str, outputs: int = 1, opset: int = 20) -> ir.Node:
    names = ", ".join(f"y{k}" for k in range(outputs))
    inputs = ", ".join(f"int64 {name}" for name in "abcde")
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}]> g ({inputs}) => (int64 y0) {{ {names} = {text} }}'
    )
    return next(iter(ir.from_proto(model).graph))


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("ConstantOfShape(a)", [i(1 << 20, 2)]),
        ("ConstantOfShape(a)", [i(-1)]),
        ("Expand(a, b)", [i(1), i(MAX_ELEMENTS + 1)]),
        ("Tile(a, b)", [np.zeros(1 << 11, np.int64), i(1 << 10)]),
        ("Gather<axis=0>(a, b)", [np.zeros((1, 1 << 11), np.int64), np.zeros(1 << 10, np.int64)]),
        ("Range(a, b, c)", [s(0), s(1 << 40), s(1)]),
        ("Range(a, b, c)", [s(0), s(4), s(0)]),
        ("Add(a, b)", [np.zeros((1 << 11, 1), np.int64), np.zeros((1, 1 << 11), np.int64)]),
        ("Div(a, b)", [V, i(0)]),
        ("Gather(a, b)", [V, s(9)]),
        ("Reshape(a, b)", [V, i(3)]),
        ("RandomNormal<shape=[2]>()", []),
        ("own.Magic(a)", [V]),
        ("NoSuchOperator(a)", [V]),
    ],
)
def test_what_is_too_large_or_impossible_is_not_known(text, inputs):
    foreign = text.startswith("own.")
    node = ir.Node("own", "Magic", [ir.Value(name="a")]) if foreign else _node(text)
    with pytest.raises(CannotEvaluate):
        evaluate(node, inputs)


def test_old_opsets_give_axes_and_sizes_as_attributes():
    assert evaluate(_node("Unsqueeze<axes=[0]>(a)", opset=11), [V])[0].shape == (1, 4)
    assert evaluate(_node("Squeeze<axes=[0]>(a)", opset=11), [V[None]])[0].shape == (4,)
    assert evaluate(_node("Slice<starts=[1], ends=[3]>(a)", opset=9), [V])[0].tolist() == [3, 5]
    assert [x.tolist() for x in evaluate(_node("Split<split=[1,3]>(a)", 2, opset=11), [V])] == [[2], [3, 5, 7]]


@pytest.mark.parametrize(
    ("text", "inputs", "flags", "want"),
    [
        ("Gather(a, b)", [V, i(1, 0)], [[1, 0, 0, 0], [0, 0]], [0, 1]),
        ("Concat<axis=0>(a, b)", [V, i(9)], [[1, 0, 0, 0], [1]], [1, 0, 0, 0, 1]),
        ("Slice(a, b, c)", [V, i(1), i(3)], [[0, 1, 0, 0], [0], [0]], [1, 0]),
        ("Unsqueeze(a, b)", [s(4), i(0)], [1, [0]], [1]),
        ("Cast<to=6>(a)", [V], [[0, 0, 1, 0]], [0, 0, 1, 0]),
    ],
)
def test_what_moves_keeps_its_marks(text, inputs, flags, want):
    """Which integers depend on a dynamic input size is known element by element."""
    (got,) = moved(_node(text), inputs, [np.array(f, bool) for f in flags])
    assert got.tolist() == [bool(x) for x in want]


def test_a_dynamic_index_marks_everything():
    marks = [np.zeros(4, bool), np.ones(1, bool)]
    assert moved(_node("Gather(a, b)"), [V, i(1)], marks) == []
