"""slimnet slim and slimnet verify: a decision made elsewhere, and the check of what came of it."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.networks.files import saved, tree

QUICK = ("--bench-seconds", "0")


@pytest.fixture
def pruned(slimnet, cnn, tmp_path):
    """The folder of an earlier run."""
    assert slimnet("prune", cnn, "-o", "pruned", *QUICK).code == 0
    return tmp_path / "pruned"


def shapes(file):
    return {t.name: tuple(t.dims) for t in onnx.load(file).graph.initializer}


def test_a_plan_gives_the_same_network_bit_for_bit(slimnet, cnn, pruned, tmp_path):
    outcome = slimnet("slim", cnn, "--plan", pruned / "plan.json", "-o", "again", "--json", *QUICK)
    assert outcome.code == 0
    assert (tmp_path / "again" / "slim.onnx").read_bytes() == (pruned / "slim.onnx").read_bytes()
    assert json.loads(outcome.out)["method"] == "l1"


@pytest.mark.parametrize("allow", [(), ("--allow-inexact",)], ids=["exact", "inexact"])
def test_a_plan_remembers_how_the_network_was_traced(slimnet, tmp_path, allow):
    file = saved(
        tmp_path / "norm.onnx",
        """(float[2,6] x) => (y) <float[6,8] w, float[8] scale, float[8] shift, float[8,12] v, float[12,4] u>
        { a = MatMul(x, w) b = LayerNormalization(a, scale, shift) c = MatMul(b, v) d = Relu(c) y = MatMul(d, u) }""",
    )
    assert slimnet("prune", file, "-o", "out", *allow, *QUICK).code == 0
    assert slimnet("slim", file, "--plan", "out/plan.json", "-o", "again", *QUICK).code == 0
    assert (tmp_path / "again" / "slim.onnx").read_bytes() == (tmp_path / "out" / "slim.onnx").read_bytes()
    assert shapes(tmp_path / "out" / "slim.onnx")["w"] == ((6, 4) if allow else (6, 8))


KEEP = np.arange(8) % 2 == 0
ELEMENTS = np.broadcast_to(KEEP[:, None, None, None], (8, 3, 3, 3))


@pytest.mark.parametrize(
    "masks",
    [{"conv1": ELEMENTS}, {"conv1": KEEP}, {"conv1": np.flatnonzero(KEEP)}, {"conv2:1": KEEP}, {"scale:0": KEEP}],
    ids=["elements", "filters", "indices", "inputs", "batch norm"],
)
def test_every_form_of_mask_removes_the_same_channels(slimnet, cnn, tmp_path, masks):
    np.savez(tmp_path / "masks.npz", **masks)
    assert slimnet("slim", cnn, "--mask", "masks.npz", "-o", "out", *QUICK).code == 0
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())["kept"]
    assert plan["conv1"]["0"] == plan["conv2"]["1"] == plan["scale"]["0"] == [0, 2, 4, 6]
    dense = {t.name: numpy_helper.to_array(t) for t in onnx.load(cnn).graph.initializer}
    (second,) = [t for t in onnx.load(tmp_path / "out" / "slim.onnx").graph.initializer if list(t.dims)[:2] == [12, 4]]
    assert np.array_equal(numpy_helper.to_array(second), dense["conv2"][:, KEEP])


def test_masks_of_single_weights_are_kept(slimnet, cnn, tmp_path):
    """What is no whole channel cannot go, but it is zero in the result."""
    mask = np.ones((12, 8, 3, 3), bool)
    mask[:4] = False
    mask[7, 3, 1, 1] = False
    np.savez(tmp_path / "masks.npz", conv2=mask)
    assert slimnet("slim", cnn, "--mask", "masks.npz", "-o", "out", *QUICK).code == 0
    tensors = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out" / "slim.onnx").graph.initializer]
    (second,) = [t for t in tensors if t.shape == (8, 8, 3, 3)]
    assert second[3, 3, 1, 1] == 0
    assert np.count_nonzero(second == 0) == 1


def test_masks_that_contradict_each_other_are_refused(slimnet, cnn, tmp_path):
    np.savez(tmp_path / "masks.npz", **{"conv1": KEEP, "conv2:1": ~KEEP})
    before = tree(tmp_path)
    outcome = slimnet("slim", cnn, "--mask", "masks.npz", *QUICK)
    assert outcome.code == 2
    assert "conv1, axis 0: keeps index 0, whose channel is masked elsewhere" in outcome.line
    assert tree(tmp_path) == before


# -- verify ----------------------------------------------------------------------------------------------------------


def test_verify_agrees_with_the_run(slimnet, cnn, pruned):
    words = ("verify", cnn, pruned / "slim.onnx", "--plan", pruned / "plan.json")
    shown = slimnet(*words)
    assert shown.code == 0
    assert shown.out.startswith("exact: largest relative difference")
    assert "2 of 2 groups proven" in shown.out
    found = json.loads(slimnet(*words, "--runs", "5", "--json").out)
    assert found["exact"] is True
    assert found["inputs"] == ["normal", "0 to 1", "0 to 255", "x=3x3x8x8"]
    assert found["runs"] == 5 + 3
    assert found["proven"] == ["conv1", "conv2"]


def test_verify_does_not_call_exact_what_it_cannot_prove(slimnet, tmp_path):
    dead = """(float[N,8] x) => (y) <float zero = {0}, float[8,6] w, float[6,4] v>
        { a = Mul(x, zero) b = MatMul(a, w) c = Relu(b) y = MatMul(c, v) }"""
    file = saved(tmp_path / "dead.onnx", dead)
    assert slimnet("prune", file, "-o", "out", *QUICK).code == 0
    shown = slimnet("verify", file, "out/slim.onnx", "--plan", "out/plan.json")
    assert shown.code == 0
    assert shown.out.startswith("equal, but not proven:")
    assert "0 of 1 groups proven\nunproven: w: no kept channel of it changes anything" in shown.out


def test_verify_refuses_the_network_of_another_plan(slimnet, cnn, pruned):
    assert slimnet("prune", cnn, "-o", "other", "--method", "random", "--option", "seed=1", *QUICK).code == 0
    outcome = slimnet("verify", cnn, "other/slim.onnx", "--plan", pruned / "plan.json")
    assert outcome.code == 3
    assert "differs from the masked one by" in outcome.line
    assert f"is other/slim.onnx what {pruned / 'plan.json'} makes of {cnn}?" in outcome.line


def test_verify_refuses_the_dense_network(slimnet, cnn, pruned):
    assert slimnet("verify", cnn, cnn, "--plan", pruned / "plan.json").code == 3


def test_verify_refuses_a_network_with_other_outputs(slimnet, cnn, pruned, tmp_path):
    proto = onnx.load(pruned / "slim.onnx")
    proto.graph.output.append(onnx.helper.make_tensor_value_info(proto.graph.node[0].output[0], 1, None))
    onnx.save(proto, tmp_path / "more.onnx")
    outcome = slimnet("verify", cnn, "more.onnx", "--plan", pruned / "plan.json")
    assert outcome.code == 3
    assert "more.onnx" in outcome.line


def test_verify_tells_the_file_that_takes_other_inputs(slimnet, cnn, pruned, tmp_path):
    proto = onnx.load(pruned / "slim.onnx")
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "image"
    onnx.save(proto, tmp_path / "renamed.onnx")
    outcome = slimnet("verify", cnn, "renamed.onnx", "--plan", pruned / "plan.json")
    assert outcome.code == 2
    assert "renamed.onnx" in outcome.line
