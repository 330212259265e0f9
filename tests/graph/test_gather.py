"""Inputs that a layer ignores are not read any more, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose

from slimnet.graph.gather import gather
from slimnet.graph.net import Net
from slimnet.graph.shrink import shrinkable
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from tests.networks.graphs import assert_valid, feeds, net, run

rng = np.random.default_rng(0)
Cut = dict[str, tuple[int, int]]


def weights(*shape: int, used: int, axis: int, dtype: Any = np.float32) -> np.ndarray:
    """Random weights of which only `used` slices along an axis are not zero, in random places."""
    array = np.zeros(shape, dtype)
    size = [used if k == axis else n for k, n in enumerate(shape)]
    array[(slice(None),) * axis + (rng.permutation(shape[axis])[:used],)] = rng.standard_normal(size)
    return array


def gathered(dense: Net, least: float = 0.25, **sizes: int) -> tuple[ir.Model, Cut]:
    """Gather, and show that the outputs are the same, the model valid and the given one untouched."""
    before = {name: array.copy() for name, array in dense.params().items()}
    model, cut = gather(dense.model, least)
    assert_valid(model, dense.model)
    assert all(np.array_equal(before[name], array) for name, array in dense.params().items())
    assert [o.name for o in model.graph.outputs] == [o.name for o in dense.model.graph.outputs]
    for seed in range(2):
        feed = feeds(dense, seed, **sizes)
        for want, got in zip(run(dense.model, feed), run(model, feed), strict=True):
            tolerance = 1e-2 if want.dtype == np.float16 else 1e-5
            assert_allclose(got, want, atol=tolerance * max(1, np.abs(want).max()))
    return model, cut


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def shape(model: ir.Model, name: str) -> tuple[int, ...]:
    return tuple(model.graph.initializers[name].const_value.shape.numpy())


# -- the published shapes --------------------------------------------------------------------------------------------


def pruned(shape: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """A weight [in, out] whose non-zero part has this many rows and columns, the first ones of each."""
    array = np.zeros(shape, np.float32)
    array[:rows, :columns] = rng.standard_normal((rows, columns))
    return array


def shrunk(dense: Net) -> Net:
    found = shrinkable(dense)
    return Net(slim(found.trace, found.removed), dense.name, dense.inputs)


def macs(model: ir.Model, dense: Net) -> int:
    return sum(trace(Net(model, "thin", dense.inputs)).macs().values())


def test_the_lenet_300_100_of_deephoyer():
    """353-45-11: 353*45 + 45*11 + 11*10 multiply-adds."""
    text = """(float[1,784] x) => (y) <float[784,300] a, float[300,100] b, float[100,10] c>
        { h = MatMul(x, a) i = Relu(h) j = MatMul(i, b) k = Relu(j) y = MatMul(k, c) }"""
    a = pruned((784, 300), 353, 45)[rng.permutation(784)]
    dense = shrunk(net(text, a=a, b=pruned((300, 100), 45, 11), c=pruned((100, 10), 11, 10)))
    model, cut = gathered(dense)
    assert cut == {"a": (784, 353)}
    assert [shape(model, name) for name in "abc"] == [(353, 45), (45, 11), (11, 10)]
    assert macs(model, dense) == 16_490


def test_the_lenet_5_of_deephoyer():
    """5-12-139-13: 139 positions of the flattened map, which are no whole channels."""
    text = """(float[1,1,28,28] x) => (y)
        <float[20,1,5,5] a, float[50,20,5,5] b, float[500,800] c, float[10,500] d>
        { e = Conv(x, a) f = MaxPool<kernel_shape=[2,2], strides=[2,2]>(e) g = Conv(f, b)
          h = MaxPool<kernel_shape=[2,2], strides=[2,2]>(g) i = Flatten(h) j = Gemm<transB=1>(i, c) k = Relu(j)
          y = Gemm<transB=1>(k, d) }"""
    a, b, c, d = (np.zeros(s, np.float32) for s in ((20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)))
    a[:5], b[:12, :5] = rng.standard_normal((5, 1, 5, 5)), rng.standard_normal((12, 5, 5, 5))
    # All channels are read somewhere, none everywhere.
    positions = np.append(np.arange(0, 192, 16), rng.permutation(np.delete(np.arange(192), np.s_[::16]))[: 139 - 12])
    c[:13, positions], d[:, :13] = rng.standard_normal((13, 139)), rng.standard_normal((10, 13))
    dense = shrunk(net(text, a=a, b=b, c=c, d=d))
    model, cut = gathered(dense)
    assert cut == {"c": (192, 139)}
    assert [shape(model, name)[:2] for name in "abcd"] == [(5, 1), (12, 5), (13, 139), (10, 13)]
    assert macs(model, dense) == 169_937


# -- every kind of layer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
@pytest.mark.parametrize("bias", ["", ", c"])
def test_gemm(a, b, bias):
    x, w = ("8,2" if a else "2,8"), ("5,8" if b else "8,5")
    text = f"""(float[{x}] x) => (y) <float[{w}] w, float[5] c>
        {{ y = Gemm<transA={a}, transB={b}, alpha=0.5>(x, w{bias}) }}"""
    model, cut = gathered(net(text, w=weights(*map(int, w.split(",")), used=3, axis=b)))
    assert cut == {"w": (8, 3)}
    assert kinds(model) == ["Gather", "Gemm"]


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_gemm_with_its_weight_on_the_left(a, b):
    x, w = ("2,8" if b else "8,2"), ("8,5" if a else "5,8")
    text = f"""(float[{x}] x) => (y) <float[{w}] w> {{ y = Gemm<transA={a}, transB={b}>(w, x) }}"""
    assert gathered(net(text, w=weights(*map(int, w.split(",")), used=3, axis=1 - a)))[1] == {"w": (8, 3)}


@pytest.mark.parametrize("data", ["8", "2,8", "3,2,8"])
@pytest.mark.parametrize("annotate", [True, False])
def test_matmul(data, annotate):
    text = f"(float[{data}] x) => (y) <float[8,5] w> {{ a = Relu(x) y = MatMul(a, w) }}"
    model, cut = gathered(net(text, w=weights(8, 5, used=3, axis=0), annotate=annotate))
    assert cut == {"w": (8, 3)}
    assert kinds(model) == ["Relu", "Gather", "MatMul"]


@pytest.mark.parametrize(("data", "cuts"), [("8", {}), ("8,2", {"w": (8, 3)}), ("3,8,2", {"w": (8, 3)})])
def test_matmul_with_its_weight_on_the_left(data, cuts):
    text = f"(float[{data}] x) => (y) <float[5,8] w> {{ y = MatMul(w, x) }}"
    assert gathered(net(text, w=weights(5, 8, used=3, axis=1)))[1] == cuts


@pytest.mark.parametrize("size", [(6,), (6, 6)])
def test_convolution(size):
    dims = ",".join(map(str, size))
    text = f"""(float[2,8,{dims}] x) => (y) <float[4,8,{",".join("3" for _ in size)}] w, float[4] b>
        {{ y = Conv<pads=[{",".join("1" for _ in size * 2)}]>(x, w, b) }}"""
    model, cut = gathered(net(text, w=weights(4, 8, *(3 for _ in size), used=2, axis=1)))
    assert cut == {"w": (8, 2)}
    assert tuple(model.graph[0].outputs[0].shape) == (2, 2, *size)


@pytest.mark.parametrize(
    "text",
    [
        "(float[2,8,6,6] x) => (y) <float[4,4,3,3] w> { y = Conv<group=2>(x, w) }",
        "(float[2,8,6,6] x) => (y) <float[8,4,3,3] w> { y = ConvTranspose(x, w) }",
        "(float[3,2,8] x) => (y) <float[3,8,4] w> { y = MatMul(x, w) }",
        "(float[8,8] x) => (y) <float[8,8] w> { y = Gemm(x, w, w) }",
        "(float[2,8] x) => (y, w2) <float[8,8] w> { y = MatMul(x, w) w2 = Identity(w) }",
    ],
)
def test_what_is_no_plain_layer_is_left_alone(text):
    dense = net(text, w=0.0)
    model, cut = gathered(dense)
    assert cut == {}
    assert kinds(model) == kinds(dense.model)


def test_half_precision():
    text = "(float16[2,8] x) => (y) <float16[8,5] w> { y = MatMul(x, w) }"
    model, cut = gathered(net(text, w=weights(8, 5, used=3, axis=0, dtype=np.float16)))
    assert cut == {"w": (8, 3)}
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT16


def test_a_dynamic_batch():
    text = "(float[n,8] x) => (y) <float[8,5] w> { y = MatMul(x, w) }"
    dense = net(text, w=weights(8, 5, used=3, axis=0))
    gathered(dense, n=7)
    model, cut = gathered(dense, n=1)
    assert cut == {"w": (8, 3)}
    assert str(model.graph[0].outputs[0].shape[0]) == "n"


def test_a_weight_in_a_constant_node():
    text = "(float[2,4] x) => (y) { w = Constant<value = float[4,2] {1,2,0,0,0,0,3,4}>() y = MatMul(x, w) }"
    model, cut = gathered(net(text))
    assert cut == {"w": (4, 2)}
    assert model.graph[0].attributes["value"].as_tensor().numpy().tolist() == [[1, 2], [3, 4]]


# -- what is shared --------------------------------------------------------------------------------------------------


def test_readers_of_the_same_indices_share_a_gather():
    """However they write their weight; who reads others gets a Gather of its own."""
    w = weights(8, 5, used=3, axis=0)
    text = """(float[2,8] x) => (p, q, r) <float[8,5] w, float[5,8] v, float[8,4] u>
        { p = MatMul(x, w) q = Gemm<transB=1>(x, v) r = MatMul(x, u) }"""
    model, cut = gathered(net(text, w=w, v=-w.T, u=weights(8, 4, used=2, axis=0)))
    assert cut == {"w": (8, 3), "v": (8, 3), "u": (8, 2)}
    assert kinds(model) == ["Gather", "MatMul", "Gemm", "Gather", "MatMul"]


def test_a_weight_that_two_layers_share_is_cut_for_both():
    text = """(float[2,8] x) => (y, z) <float[8,5] w, float[8,4] v>
        { y = MatMul(x, w) a = Relu(x) b = MatMul(a, v) c = MatMul(a, w) d = Relu(b) z = Concat<axis=1>(c, d) }"""
    w = weights(8, 5, used=3, axis=0)
    model, cut = gathered(net(text, w=w, v=w[:, :4]))
    assert cut == {"w": (8, 3), "v": (8, 3)}
    assert kinds(model).count("Gather") == 2


@pytest.mark.parametrize("other", ["Gemm<transB=1>(x, w)", "MatMul(w, x)", "Mul(x, w)"])
def test_a_weight_that_is_also_used_otherwise_is_left_alone(other):
    text = f"(float[8,8] x) => (y, z) <float[8,8] w> {{ y = MatMul(x, w) z = {other} }}"
    assert gathered(net(text, w=weights(8, 8, used=3, axis=0)))[1] == {}


def test_a_weight_that_a_subgraph_uses_is_left_alone():
    text = """(float[2,8] x, bool c) => (y, z) <float[8,5] w>
        { y = MatMul(x, w) z = If(c) <then_branch = g () => (float[2,5] t) { t = MatMul(x, w) },
                                      else_branch = h () => (float[2,5] e) { e = Neg(y) }> }"""
    assert gathered(net(text, w=weights(8, 5, used=3, axis=0)))[1] == {}


@pytest.mark.parametrize("role", ["inputs", "outputs"])
def test_a_weight_that_users_may_replace_or_read_is_left_alone(role):
    """An initializer that is an input of the network too is only its default value."""
    dense = net("(float[2,8] x) => (y) <float[8,5] w> { y = MatMul(x, w) }", w=weights(8, 5, used=3, axis=0))
    getattr(dense.model.graph, role).append(dense.model.graph.initializers["w"])
    model, cut = gather(dense.model, 0.25)
    assert cut == {}
    assert shape(model, "w") == (8, 5)


# -- how much --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "goes"), [(0.25, True), (0.26, False), (0.0, True)])
def test_only_where_enough_is_zero(least, goes):
    text = "(float[2,8] x) => (y) <float[8,5] w> { y = MatMul(x, w) }"
    assert bool(gathered(net(text, w=weights(8, 5, used=6, axis=0)), least)[1]) == goes


def test_one_input_stays():
    text = "(float[2,8] x) => (y) <float[8,5] w> { y = MatMul(x, w) }"
    assert gathered(net(text, w=np.zeros((8, 5))))[1] == {"w": (8, 1)}


def test_a_dense_network_stays_as_it_is():
    text = "(float[2,8] x) => (y) <float[8,5] w> { y = MatMul(x, w) }"
    model, cut = gathered(net(text), least=0.0)
    assert cut == {}
    assert kinds(model) == ["MatMul"]


def test_names_that_are_taken_are_not_given_again():
    text = """(float[2,8] x) => (y, z) <float[8,5] w, float[8,5] x_used>
        { y = MatMul(x, w) used_indices = Relu(x) z = MatMul(used_indices, x_used) }"""
    w = weights(8, 5, used=3, axis=0)
    assert gathered(net(text, w=w, x_used=w))[1] == {"w": (8, 3), "x_used": (8, 3)}
