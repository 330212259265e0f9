"""What is written is valid in the opset that was read, and still computes the same."""

import onnx
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose

from slimnet.graph.optimise import optimise
from tests.networks.graphs import feeds, net, run

COMPUTED = "(float[T,8] x) => (float[1,M] y) <float[8,6] w, int64[1] one = {1}, int64 six = {6},"
#: Everything that a rule of the optimiser looks for, with the opsets it can be written in.
PIECES = {
    "computed target of a Reshape, axes as attributes": (f"""{COMPUTED} int64 zero = {{0}}> {{
        d = MatMul(x, w)  s = Shape(x)  t = Gather(s, zero)  n = Mul(t, six)
        u = Unsqueeze<axes=[0]>(n)  k = Concat<axis=0>(one, u)  y = Reshape(d, k) }}""", 9, 12),
    "computed target of a Reshape": (f"""{COMPUTED} int64[1] zero = {{0}}> {{
        d = MatMul(x, w)  s = Shape(x)  t = Gather(s, zero)  n = Mul(t, six)
        k = Concat<axis=0>(one, n)  y = Reshape(d, k) }}""", 13, 23),
    "Relu6, bounds as attributes": ("""(float[2,8] x) => (y) { a = Relu(x)  b = Clip<min=-1.0, max=0.6>(a)
        c = Clip<min=0.1, max=0.9>(b)  y = Relu(c) }""", 9, 10),
    "Relu6": ("""(float[2,8] x) => (y) <float low = {0.1}, float high = {0.6}> {
        a = Relu(x)  b = Clip(a, low, high)  c = Clip(b, low)  y = Relu(c) }""", 11, 23),
    "bounds by Min and Max": ("""(float[2,8] x) => (y) <float low = {0.1}, float high = {0.6}> {
        a = Max(x, low)  b = Min(a, high)  c = Min(b, high)  d = Max(c, low)  y = Max(d, low) }""", 9, 23),
    "a sum of zeros": ("""(float[2,8] x) => (y) <float[8,6] w, float[6] none = {0,0,0,0,0,0}> { y = Gemm(x, w, none) }""", 9, 23),
    "batch norms": ("""(float[2,3,5,5] x) => (y)
        <float[8,3,3,3] w, float[8,6,1,1] t, float[8] b, float[8] scale, float[8] var, float[6] scale1, float[6] c, float[6] var1>
        { a = Conv(x, w)  d = BatchNormalization(a, scale, b, b, var)  e = ConvTranspose(d, t, c)
          y = BatchNormalization(e, scale1, c, c, var1) }""", 9, 23),
    "batch norm of a Gemm": ("""(float[2,8] x) => (y) <float[8,6] w, float[6] b, float[6] scale, float[6] var>
        { a = Gemm(x, w, b)  y = BatchNormalization(a, scale, b, b, var) }""", 9, 23),
    "padding, amounts as attributes": ("""(float[2,3,5,5] x) => (y) <float[8,3,3,3] w> {
        a = Pad<pads=[0,0,1,1,0,0,1,1]>(x)  y = Conv(a, w) }""", 9, 10),
    "padding": ("""(float[2,3,5,5] x) => (y) <float[8,3,3,3] w, int64[8] p = {0,0,1,1,0,0,1,1}> {
        a = Pad(x, p)  y = Conv(a, w) }""", 11, 23),
    "automatic padding": ("""(float[2,3,5,5] x) => (y) <float[8,3,3,3] w> { y = Conv<auto_pad="SAME_UPPER">(x, w) }""", 9, 23),
    "axes as attributes": ("""(float[2,8] x) => (y) { a = Unsqueeze<axes=[0]>(x)  b = Unsqueeze<axes=[1]>(a)
        c = Squeeze<axes=[0]>(b)  y = Squeeze<axes=[0]>(c) }""", 9, 12),
    "axes": ("""(float[2,8] x) => (y) <int64[1] zero = {0}, int64[1] one = {1}> {
        a = Unsqueeze(x, zero)  b = Unsqueeze(a, one)  c = Squeeze(b, zero)  y = Squeeze(c, zero) }""", 13, 23),
    "a vector to a vector": ("""(float[8] x) => (y) <int64[1] all = {-1}> { a = Squeeze(x)  b = Reshape(a, all)  y = Relu(b) }""", 9, 23),
    "bounds of slices as attributes": ("""(float[2,8] x) => (y) { a = Slice<axes=[1], starts=[0], ends=[4]>(x)
        b = Slice<axes=[1], starts=[4], ends=[8]>(x)  y = Mul(a, b) }""", 9, 9),
    "two halves": ("""(float[2,8] x) => (y) <int64[1] zero = {0}, int64[1] four = {4}, int64[1] eight = {8}, int64[1] last = {-1}>
        { a = Slice(x, zero, four, last)  b = Slice(x, four, eight, last)  y = Mul(a, b) }""", 10, 23),
    "slices of everything": ("""(float[2,8] x) => (y)
        <int64[1] zero = {0}, int64[1] end = {9223372036854775807}, int64[1] one = {1}>
        { a = Slice(x, zero, end, one, one)  y = Relu(a) }""", 10, 23),
    "casts": ("""(float[2,8] x) => (y) { a = Cast<to=11>(x)  b = Cast<to=1>(a)  y = Cast<to=1>(b) }""", 9, 23),
    "turns": ("""(float[2,8] x) => (y) { a = Transpose<perm=[1,0]>(x)  b = Transpose<perm=[1,0]>(a)
        c = Transpose<perm=[0,1]>(b)  y = Relu(c) }""", 9, 23),
    "shapes": ("""(float[2,8] x) => (y) <int64[2] a = {4,4}, int64[2] b = {2,8}> {
        c = Reshape(x, a)  d = Reshape(c, b)  e = Flatten(d)  f = Expand(e, b)  y = Relu(f) }""", 9, 23),
    "a product of reshaped": ("""(float[1,2,8] x) => (y) <float[8,6] w, int64[2] a = {2,8}, int64[3] b = {1,2,6}> {
        c = Reshape(x, a)  d = MatMul(c, w)  y = Reshape(d, b) }""", 9, 23),
    "nothing added": ("""(float[2,8] x) => (y) <float zero = {0.0}, float one = {1.0}> {
        a = Add(x, zero)  b = Sub(a, zero)  c = Mul(b, one)  d = Div(c, one)  y = Relu(d) }""", 9, 23),
    "dropout": ("""(float[2,8] x) => (y) { a = Dropout<ratio=0.0>(x)  b = Dropout<ratio=0.5>(a)  y = Relu(b) }""", 9, 11),
    "dropout, ratio as input": ("""(float[2,8] x) => (y) <float half = {0.5}, bool no = {0}> {
        a = Dropout(x, half, no)  b = Dropout(a, half)  y = Relu(b) }""", 12, 23),
    "a constant by its shape": ("""(float[2,8] x) => (y) <int64[2] shape = {2,8}> {
        a = ConstantOfShape<value = int64[1] {3}>(shape)  b = Cast<to=1>(a)  y = Add(x, b) }""", 9, 23),
    "rows overwritten": ("""(float[2,8] x) => (y) <int64[2,1] rows = {0,1}, float[2,8] w> {
        a = ScatterND(x, rows, w)  y = Add(a, x) }""", 11, 23),
}  # fmt: skip
#: Where an operator that rules write has changed, and the last opset before it.
CHANGES = (9, 10, 11, 12, 13, 14, 17, 18, 23)
OPSETS = [(name, opset) for name, (_, first, last) in PIECES.items() for opset in CHANGES if first <= opset <= last]


@pytest.mark.parametrize(("name", "opset"), OPSETS)
def test_every_rule_keeps_to_the_opset(name, opset):
    dense = net(PIECES[name][0], opset)
    cleaned = optimise(dense.model)
    assert cleaned.graph.opset_imports[""] == opset
    onnx.checker.check_model(ir.to_proto(cleaned), full_check=True)
    for seed in range(2):
        feed = feeds(dense, seed)
        for want, got in zip(run(dense.model, feed), run(cleaned, feed), strict=True):
            assert_allclose(got, want, rtol=1e-5, atol=1e-5)
