"""The work grows with the number of nodes, not with its square: counted in calls, which no machine changes."""

import cProfile
import pstats

import pytest

from slimnet.io.load import load
from slimnet.pipeline.config import PruneConfig, RunConfig
from slimnet.pipeline.prune import prune
from tests.networks.files import saved

#: One layer after another; `{0}` is the number of the layer, `{1}` that of the one before.
LAYERS = {
    "chain": "a{0} = MatMul(x{1}, w{0})  x{0} = Tanh(a{0})",
    "stream": "a{0} = MatMul(x{1}, w{0})  b{0} = Relu(a{0})  c{0} = MatMul(b{0}, v{0})  x{0} = Add(x{1}, c{0})",
    "shapes": "a{0} = MatMul(x{1}, w{0})  s{0} = Shape(a{0})  r{0} = Reshape(a{0}, s{0})  x{0} = Tanh(r{0})",
    "heads": """a{0} = MatMul(x{1}, w{0})  s{0} = Reshape(a{0}, split)  t{0} = Transpose<perm=[0,2,1]>(s{0})
        u{0} = Transpose<perm=[0,2,1]>(t{0})  r{0} = Reshape(u{0}, flat)  x{0} = MatMul(r{0}, v{0})""",
}


def calls(path, layer, length) -> int:
    """Function calls that pruning a network of so many layers takes, all steps but the proof included."""
    weights = ", ".join(f"float[8,8] w{k}, float[8,8] v{k}" for k in range(1, length + 1))
    lines = "\n".join(layer.format(k, k - 1) for k in range(1, length + 1))
    constants = "int64[3] split = {0,2,4}, int64[2] flat = {0,8}"
    text = f"(float[N,8] x0) => (y) <{weights}, {constants}> {{ {lines}\ny = Neg(x{length}) }}"
    file = saved(path / f"{length}.onnx", text, annotate=False)
    profile = cProfile.Profile()
    with profile:
        prune(load(file), PruneConfig(ratio=0.5, round_to=None), RunConfig(bench_seconds=0, prove=False))
    return int(pstats.Stats(profile).total_calls)


@pytest.mark.parametrize("kind", LAYERS)
def test_twice_the_layers_take_twice_the_calls(tmp_path, kind):
    calls(tmp_path, LAYERS[kind], 2)  # imports what is imported later
    few, more, most = (calls(tmp_path, LAYERS[kind], length) for length in (6, 12, 24))
    assert most - more < 2.05 * (more - few)
