"""Networks of very many layers, which are looked at in pieces."""

import numpy as np
import pytest

from slimnet.graph.trace import trace
from slimnet.verification import proof
from slimnet.verification.verify import verify
from tests.networks.backends import Simulated
from tests.networks.graphs import net

#: A skip connection, two branches that are joined, and a product of two activations.
MIXED = """(float[1,4] x) => (y)
    <float[4,8] a, float[8,8] b, float[8,8] c, float[8,6] d, float[14,8] e, float[8,8] f, float[8,3] g>
    { h = MatMul(x, a) r = Relu(h) i = MatMul(r, b) s = Add(h, i) j = MatMul(s, c) k = MatMul(s, d)
      l = Concat<axis=1>(j, k) m = MatMul(l, e) n = MatMul(r, f) o = Mul(m, n) y = MatMul(o, g) }"""
#: The second matrix is read by a branch of an If, and the third is used twice.
BRANCHES = """(float[1,4] x, bool c) => (y) <float[4,8] a, float[8,8] b, float[8,8] d, float[8,3] e>
    { h = MatMul(x, a)
      i = If (c) <
        then_branch = one () => (t) { t = MatMul(h, b) },
        else_branch = two () => (u) { v = Relu(h) u = MatMul(v, b) }>
      j = MatMul(i, d) k = Relu(j) l = MatMul(k, d) y = MatMul(l, e) }"""
#: The last matrix is zero: nothing before it shows at the output, and its own columns not even where they are read.
ZERO = """(float[1,4] x) => (y) <float[4,8] a, float[8,8] b, float[8,3] c>
    { h = MatMul(x, a) i = MatMul(h, b) y = MatMul(i, c) }"""


def chain(layers: int) -> str:
    weights = ", ".join(f"float[8,8] w{k}" for k in range(layers))
    nodes = " ".join(f"m{k} = MatMul({f't{k - 1}' if k else 'x'}, w{k}) t{k} = Tanh(m{k})" for k in range(layers))
    return f"(float[1,8] x) => (y) <{weights}, float[8,2] w> {{ {nodes} y = MatMul(t{layers - 1}, w) }}"


def half(found) -> np.ndarray:
    return np.arange(found.n_units) % 2 == 0


@pytest.fixture
def deep(monkeypatch):
    monkeypatch.setattr(proof, "IN_PIECES", 0)
    monkeypatch.setattr(proof, "DEEP", 0)


@pytest.mark.parametrize("text", [MIXED, BRANCHES, chain(5)], ids=["mixed", "branches", "chain"])
def test_pieces_prove_what_runs_of_the_whole_network_prove(text, monkeypatch):
    found = trace(net(text))
    whole = verify(found, half(found))
    monkeypatch.setattr(proof, "IN_PIECES", 0)
    monkeypatch.setattr(proof, "DEEP", 0)
    pieces = verify(found, half(found))
    assert pieces.proven == whole.proven == [group.name for group in found.groups]
    assert pieces.inside == pieces.proven


def test_what_is_read_with_zeros_is_not_proven_by_what_happens_elsewhere(deep):
    found = trace(net(ZERO, c=0.0))
    result = verify(found, half(found))
    assert (result.inside, result.perturbed) == (["a"], ["b"])


@pytest.mark.parametrize("layers", [8, 40])
def test_the_number_of_runs_does_not_grow_with_depth(deep, layers):
    found, backend = trace(net(chain(layers))), Simulated()
    result = verify(found, half(found), backend=backend)
    assert len(result.proven) == layers
    assert [what for what, *_ in backend.log].count("run") == 18


@pytest.mark.parametrize(("size", "finite"), [(1e15, ["a"]), (1e30, [])])
@pytest.mark.parametrize("nodes", [0, proof.DEEP], ids=["pieces", "whole"])
def test_weights_that_overflow_are_no_difference(monkeypatch, nodes, size, finite):
    """What is larger than the largest number is infinite in one network, and not a number in the other."""
    monkeypatch.setattr(proof, "IN_PIECES", nodes)
    monkeypatch.setattr(proof, "DEEP", nodes)
    monkeypatch.setattr(proof, "SIZES", (size,))
    text = """(float[1,8,6,6] x) => (y) <float[8,8,3,3] a, float[8,8,3,3] b, float[8,8,3,3] c, float[8,8,3,3] d>
        { e = Conv(x, a) f = Relu(e) g = Conv(f, b) h = Relu(g) i = Conv<pads=[1,1,1,1]>(h, c) j = Relu(i)
          y = Conv<pads=[1,1,1,1]>(j, d) }"""
    found = trace(net(text, **dict.fromkeys("abcd", 0.0)))
    result = verify(found, half(found))
    assert result.exact
    assert result.perturbed == finite
