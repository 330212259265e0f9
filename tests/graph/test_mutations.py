"""Every kind of declaration that a family of rules makes is broken once, and verification must notice.

This shows two things: that verification catches a wrong trace, and that no rule declares what does not matter.
"""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest

from slimnet.common.errors import SlimnetError
from slimnet.graph.net import Net
from slimnet.graph.op import Op
from slimnet.graph.registry import entry_of
from slimnet.graph.rules import FAMILIES
from slimnet.graph.trace import trace
from slimnet.verification.verify import verify
from tests.networks.graphs import draw, net

DECLARATIONS = ("same", "contract", "vanish", "pin", "lengths", "grid", "renumber", "restep", "freeze", "inexact",
                "slide", "untouched")  # fmt: skip
SIGNS = ("not_zero", "signed")
MODULES = {module.__name__.rpartition(".")[2]: module for module in FAMILIES}


@dataclass(frozen=True)
class Mutation:
    """Ignore what rules of this family declare by this method, on a network where that matters."""

    family: str
    method: str
    text: str
    opset: int = 20
    values: tuple[tuple[str, object], ...] = ()

    def net(self) -> Net:
        return net(self.text, self.opset, **dict(self.values))

    def __str__(self) -> str:
        return f"{self.family}-{self.method}"


def conv(body: str, weights: str = "", width: int = 6, channels: int = 6) -> str:
    """A convolution, something on its output h, and another convolution on the result m."""
    return f"""(float[N,3,4,4] x) => (y) <float[{channels},3,1,1] w, float[2,{width},1,1] v{weights}>
        {{ h = Conv(x, w)
           {body}
           y = Conv(m, v) }}"""


def summed(body: str, weights: str = "") -> str:
    """A convolution, something on its output h, and the sum of the result m over the channels."""
    return f"""(float[N,3,4,4] x) => (y) <float[6,3,1,1] w, int64[1] axis = {{1}}{weights}>
        {{ h = Conv(x, w)
           {body}
           y = ReduceSum(m, axis) }}"""


def m(family: str, method: str, text: str, opset: int = 20, **values: object) -> Mutation:
    return Mutation(family, method, text, opset, tuple(values.items()))


SELF_ATTENTION = """(float[N,5,4] x) => (y) <float[4,6] q, float[4,6] k, float[4,6] v, float[6,2] o>
    {{ a = MatMul(x, q)
       b = MatMul(x, k)
       c = MatMul(x, v)
       {}
       y = MatMul(r, o) }}"""
FUSED = "r = Attention<q_num_heads=2, kv_num_heads=2>(a, b, c)"
RNN = """(float[5,2,3] x) => (y) <float[1,16,3] w, float[1,16,4] r, float[4,2] v, int64[1] k = {1}>
    { s = LSTM<hidden_size=4>(x, w, r)
      f = Squeeze(s, k)
      y = MatMul(f, v) }"""

PACKED = """(float[N,5,4] x) => (float[N,5,2] y) <float[4,6] u, float[6,{n}] w, float[{n}] b, float[{v},2] o>
    {{ h = MatMul(x, u)
       m = com.microsoft.Attention<num_heads={heads}>(h, w, b)
       y = MatMul(m, o) }}"""
CODES = """(float[2,3,6,6] x) => (y) <float s = {{0.05}}, uint8 z = {{101}}, float[6,3,1,1] w, float[2,{width},1,1] v>
    {{ h = Conv(x, w)
       q = QuantizeLinear(h, s, z)
       {body}
       d = DequantizeLinear(m, s, z)
       y = Conv(d, v) }}"""

MUTATIONS = [
    m("contrib", "same", conv("t = Transpose<perm=[0,2,3,1]>(h) g = com.microsoft.BiasGelu(t, b) "
                              "m = Transpose<perm=[0,3,1,2]>(g)", ", float[6] b")),
    m("contrib", "contract", PACKED.format(n=12, v=4, heads=2)),
    m("contrib", "lengths", PACKED.format(n=18, v=6, heads=6)),
    m("contrib", "freeze", PACKED.format(n=18, v=6, heads=2)),
    m("contrib", "pin", """(float[N,3,4] x) => (float[N,2,4] y) <float[6,3,1] w, float[2,6,1] v>
        { h = Conv(x, w)
          a = com.microsoft.MultiHeadAttention<num_heads=2>(h, h, h)
          y = Conv(a, v) }"""),
    m("contrib", "inexact", """(float[N,5,4] x) => (float[N,5,2] y) <float[4,6] w, float[6] scale, float[6,2] o>
        { h = MatMul(x, w)
          m = com.microsoft.SkipLayerNormalization(h, h, scale)
          y = MatMul(m, o) }"""),
    m("contrib", "not_zero", summed('m = com.microsoft.FusedConv<activation="Sigmoid">(h, u)', ", float[6,6,1,1] u")),
    m("attention", "same", SELF_ATTENTION.format(FUSED), 23),
    m("attention", "contract", SELF_ATTENTION.format(FUSED), 23),
    m("attention", "lengths", SELF_ATTENTION.format("r = Attention<q_num_heads=6, kv_num_heads=6>(a, b, c)"), 23),
    m("attention", "freeze", SELF_ATTENTION.format(FUSED), 23),
    m("attention", "pin", """(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6,1] v>
        { h = Conv(x, w)
          a = Attention<q_num_heads=2, kv_num_heads=2>(h, h, h)
          y = Conv(a, v) }""", 23),
    m("attention", "not_zero", """(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] axis = {1}>
        { h = Conv(x, w)
          a = Attention<q_num_heads=2, kv_num_heads=2>(h, x, x)
          y = ReduceSum(a, axis) }""", 23),
    m("elementwise", "same", conv("g = Conv(x, u) m = Add(h, g)", ", float[6,3,1,1] u")),
    m("elementwise", "same", conv("m = Mul(h, u)", ", float[6,1,1] u")),
    m("elementwise", "pin", conv("a = Abs(h) m = Log(a)")),
    m("elementwise", "pin", conv("a = Abs(h) m = Div(x1, a)", ", float x1 = {1}")),
    m("elementwise", "untouched", summed("m = Div(h, scale)", ", float[6,1,1] scale")),
    m("elementwise", "not_zero", summed("m = Sigmoid(h)")),
    m("linear", "same", conv("g = Conv<group=6>(h, d) m = Relu(g)", ", float[6,1,1,1] d")),
    m("linear", "contract", conv("m = Relu(h)")),
    m("linear", "contract", """(float[N,3] x) => (y) <float[3,6] w, float[6] b, float[2,6] v>
        { h = Gemm(x, w, b)
          y = Gemm<transB=1>(h, v) }"""),
    m("linear", "pin", """(float[3,4] x) => (y) <float[4,6] q, float[4,6] k>
        { a = MatMul(x, q)
          b = MatMul(x, k)
          c = Sigmoid(a)
          d = Sigmoid(b)
          e = Transpose(d)
          y = MatMul(c, e) }"""),
    m("linear", "vanish", """(float[3,4] x) => (y) <float[4,6] q>
        { a = MatMul(x, q)
          b = Sigmoid(a)
          y = Einsum<equation="ab->a">(b) }"""),
    m("linear", "lengths", conv("m = Conv<group=6>(h, d)", ", float[6,1,1,1] d")),
    m("linear", "grid", conv("m = Conv<group=2>(h, d)", ", float[6,3,1,1] d")),
    m("linear", "signed", summed("m = Conv(x, w, b)", ", float[6] b").replace("h = Conv(x, w)", "z = Sigmoid(b1) b = Reshape(z, s)")
      .replace("float[6] b>", "float[6,1] b1, int64[1] s = {6}>")),
    m("linear", "not_zero", """(float[1,3,4,4] x) => (y) <float[6,3,1,1] w, float[2,1,3,3] v, float[2] b, int64[1] axis = {0}>
        { h = Conv(x, w)
          t = Transpose<perm=[1,0,2,3]>(h)
          c = Conv(t, v, b)
          y = ReduceSum(c, axis) }"""),
    m("norm", "same", conv("m = BatchNormalization(h, scale, b, mean, var)",
                           ", float[6] scale, float[6] b, float[6] mean, float[6] var")),
    m("norm", "same", conv("m = GroupNormalization<num_groups=2>(h, scale, b)", ", float[6] scale, float[6] b"), 21),
    m("norm", "lengths", conv("m = GroupNormalization<num_groups=3>(h, scale, b)", ", float[6] scale, float[6] b"), 21),
    m("norm", "inexact", conv("m = Softmax<axis=1>(h)")),
    m("norm", "slide", conv("m = LRN<size=3>(h)")),
    m("norm", "vanish", conv("a = Sigmoid(h) m = LpNormalization<axis=1>(a)")),
    m("norm", "not_zero", summed("m = Softmax<axis=2>(h)")),
    m("norm", "signed", summed("k = Sigmoid(s) t = Reshape(k, six) m = InstanceNormalization(h, t, t)",
                               ", float[6,1] s, int64[1] six = {6}")),
    m("pooling", "same", conv("""p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)
        q = Conv(x, u)
        r = MaxPool<kernel_shape=[2,2], strides=[2,2]>(q)
        m = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(r, i)""", ", float[6,3,1,1] u").replace("(y)", "(float[N,2,4,4] y)")),
    m("pooling", "lengths", conv("m = Resize(h, , , sizes)", ", int64[4] sizes = {2, 6, 8, 8}")),
    m("pooling", "not_zero", summed("""m = Resize<coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=2.0>(h, roi, scales)""", ", float[8] roi, float[4] scales"),
      roi=[0, 0, 0, 0, 1, 1, 2, 2], scales=[1, 1, 2, 2]),
    m("quantized", "same", """(float[N,3] x) => (y) <int8[3,6] w, float[6] scale, float[6,2] v>
        { d = DequantizeLinear<axis=1>(w, scale)
          h = MatMul(x, d)
          y = MatMul(h, v) }"""),
    m("quantized", "pin", CODES.format(
        body="t = Transpose<perm=[0,2,1,3]>(q) m = com.microsoft.QLinearGlobalAveragePool(t, s, z, s, z)", width=6)),
    m("quantized", "not_zero", summed("q = QuantizeLinear(h, s, z) p = com.microsoft.QLinearSigmoid(q, s, z, s, z) "
                                      "m = DequantizeLinear(p, s, z)", ", float s = {0.05}, uint8 z = {101}")),
    m("recurrent", "same", RNN),
    m("recurrent", "contract", RNN.replace("x, w, r", "e, w, r").replace("{ s", "{ e = MatMul(x, u) s")
      .replace("1,16,3] w", "1,16,6] w, float[3,6] u")),
    m("recurrent", "lengths", RNN),
    m("recurrent", "signed", RNN.replace("hidden_size=4", 'hidden_size=4, activations=["Sigmoid", "Sigmoid", "Tanh"]')
      .replace("MatMul(f, v)", "ReduceSum(f, last)").replace("float[4,2] v", "int64[1] last = {2}")),
    m("reduce", "vanish", conv("a = Sigmoid(h) s = ReduceSum(a, one) m = Mul(h, s)", ", int64[1] one = {1}")),
    m("reduce", "inexact", conv("s = ReduceMean(h, one) m = Mul(h, s)", ", int64[1] one = {1}")),
    m("reduce", "pin", conv("p = ArgMax<axis=1>(h) f = Cast<to=1>(p) m = Mul(h, f)")),
    m("reduce", "not_zero", summed("s = ReduceLogSumExp(h, last) m = Add(s, s)", ", int64[1] last = {3}")),
    m("sequence", "lengths", conv("s = SplitToSequence<axis=1>(h, n) m = SequenceAt(s, i)",
                                  ", int64[2] n = {2, 4}, int64 i = {1}", 4).replace("(y)", "(float[N,2,4,4] y)")),
    m("sequence", "same", conv("g = Conv(x, u) s = SequenceConstruct(h, g) m = ConcatFromSequence<axis=3>(s)",
                               ", float[6,3,1,1] u").replace("(y)", "(float[N,2,4,8] y)")),
    m("shape", "same", conv("p = DepthToSpace<blocksize=2>(h) m = Relu(p)", width=2, channels=8)),
    m("shape", "same", conv("g = Conv(x, u) m = Concat<axis=2>(h, g)", ", float[6,3,1,1] u")),
    m("shape", "pin", conv('m = Pad<mode="reflect">(h, pads)', ", int64[8] pads = {0,0,0,0,0,1,0,0}", 7)),
    m("shape", "lengths", conv("m = Reshape(h, s)", ", int64[4] s = {2, 6, 2, 8}")),
    m("shape", "lengths", conv("m, n = Split<axis=1>(h, s)", ", int64[2] s = {4, 2}", 4)),
    m("shape", "lengths", conv("m = Slice(h, a, b, k)", ", int64[1] a = {2}, int64[1] b = {6}, int64[1] k = {1}", 4)),
    m("shape", "lengths", conv("p = Pad(h, pads) g = Conv(x, u) m = Add(p, g)",
                               ", int64[8] pads = {0,2,0,0,0,0,0,0}, float[8,3,1,1] u", 8)),
    m("shape", "grid", conv("a = Reshape(h, s) b = Transpose<perm=[0,2,1,3,4]>(a) m = Reshape(b, t)",
                              ", int64[5] s = {2,2,3,4,4}, int64[4] t = {2,6,4,4}")),
    m("shape", "renumber", conv("m = Gather<axis=1>(h, i)", ", int64[4] i = {5, 0, 3, 2}", 4)),
    m("shape", "restep", conv("m = Slice(h, a, b, k, t)",
                              ", int64[1] a = {0}, int64[1] b = {9}, int64[1] k = {1}, int64[1] t = {2}", 3)),
    m("shape", "freeze", """(float[2,3,4,4] x) => (y) <float[2,3,1,1] w, float[2,5] v>
        { h = Conv(x, w)
          g = GlobalAveragePool(h)
          s = Squeeze(g)
          y = MatMul(s, v) }"""),
    m("shape", "not_zero", summed("m = Pad(h, pads, one)", ", int64[8] pads = {0,0,0,0,0,0,0,1}, float one = {1}")),
    m("shape", "signed", """(float[4,3] x) => (y) <float[3,6] w, float[3,6] u, int64[1,1] i = {0}, int64[1] one = {1}>
        { a = MatMul(x, w)
          t = MatMul(x, u)
          b = Sigmoid(t)
          p = Transpose(a)
          q = Transpose(b)
          first = Constant<value_ints=[0]>()
          j = Constant<value = int64[6,1] {0, 1, 2, 3, 4, 5}>()
          s = ScatterND(p, j, q)
          y = ReduceSum(s, first) }"""),
]  # fmt: skip
#: Broken without effect on the outputs: a scale of zero dequantises to zero as well, and a divisor that is thought to
#: become zero is pinned.
HARMLESS = {("quantized", "untouched"), ("elementwise", "signed")}


def noticed(net: Net) -> bool:
    """Whether verification fails, or the slim network does not come into being, for some of a few random plans."""
    found = trace(net)
    for seed in range(6):
        removed = draw(found, np.random.default_rng(seed))
        try:
            verify(found, removed, runs=1, prove=False)
        except (SlimnetError, ValueError, IndexError):
            return True
    return False


def ignore(monkeypatch: pytest.MonkeyPatch, family: str, method: str) -> None:
    """Undo what a method of `Op` notes down when a rule of this family calls it."""
    original = getattr(Op, method)

    def broken(op: Op, *args: object, **kwargs: object) -> object:
        walk = op._tracer.walk
        said = walk.constraints
        notes = (said.left, said.right, said.frozen, said.grids, walk.edits, walk.roles)
        before = [len(note) for note in notes]
        result = original(op, *args, **kwargs)
        if entry_of(op.node).rule.__module__ == MODULES[family].__name__:
            for note, length in zip(notes, before, strict=True):
                del note[length:]
        return result

    monkeypatch.setattr(Op, method, broken)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_verification_notices_a_broken_rule(mutation, monkeypatch):
    assert not noticed(mutation.net())
    if mutation.method == "not_zero":
        monkeypatch.setattr(MODULES[mutation.family], "not_zero", lambda ids: ids)
    elif mutation.method == "signed":
        monkeypatch.setattr(MODULES[mutation.family], "signed", lambda ids, zero: np.abs(ids))
    else:
        ignore(monkeypatch, mutation.family, mutation.method)
    assert noticed(mutation.net())


@pytest.mark.parametrize("family", MODULES)
def test_everything_that_a_family_declares_is_broken_once(family):
    broken = {mutation.method for mutation in MUTATIONS if mutation.family == family}
    declared = set()
    for function in vars(MODULES[family]).values():
        if inspect.isfunction(function) and function.__module__ == MODULES[family].__name__:
            codes = [function.__code__, *(c for c in function.__code__.co_consts if inspect.iscode(c))]
            names = {name for code in codes for name in code.co_names}
            declared |= names & {*DECLARATIONS, *SIGNS} | ({"same"} if "broadcast" in names else set())
    assert declared == broken | {method for name, method in HARMLESS if name == family}
