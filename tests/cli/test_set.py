"""--set: an input becomes a constant, and what it chooses becomes the network."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

QUICK = ("--bench-seconds", "0")


def _branch(name, seed):
    rng = np.random.default_rng(seed)
    shapes = {"w": (8, 16), "b": (16,), "v": (16, 4), "e": (4,)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), f"{name}_{n}") for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["x", f"{name}_w", f"{name}_b"], [f"{name}_a"]),
        helper.make_node("Relu", [f"{name}_a"], [f"{name}_c"]),
        helper.make_node("Gemm", [f"{name}_c", f"{name}_v", f"{name}_e"], [f"{name}_y"]),
    ]
    output = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [1, 4])
    return helper.make_graph(nodes, name, [], [output], weights)


@pytest.fixture
def file(tmp_path):
    """A whole network in each branch, one for a sample rate of 16000 and one for any other."""
    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["fast"]),
        helper.make_node("If", ["fast"], ["y"], then_branch=_branch("fast", 1), else_branch=_branch("slow", 2)),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(np.int64(16000), "sixteen")])
    path = tmp_path / "in" / "rates.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("rate", "weight"), [("16000", "fast_w"), ("8000", "slow_w")])
def test_the_branch_that_is_chosen_is_pruned_and_proven(slimnet, file, tmp_path, rate, weight):
    outcome = slimnet("prune", file, "--set", f"rate={rate}", *QUICK)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "rates-slim"
    report = json.loads((folder / "report.json").read_text())
    assert [group["name"] for group in report["groups"]] == [weight]
    assert report["verify"]["exact"]
    assert report["notes"] == [f"rate is no input any more, but always {rate}"]
    small = ort.InferenceSession(folder / "slim.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in small.get_inputs()] == ["x"]
    assert [value.name for value in small.get_outputs()] == ["y"]
    checked = slimnet("verify", file, folder / "slim.onnx", "--plan", folder / "plan.json", "--set", f"rate={rate}")
    assert checked.code == 0, checked.err
    timed = slimnet("bench", file, folder / "slim.onnx", "--set", f"rate={rate}", "--seconds", "0.1", "--json")
    assert timed.code == 0, timed.err


def test_without_it_all_branches_are_pruned_and_proven(slimnet, file, tmp_path):
    """Random rates would hardly be 16000: what the network compares it with is tried."""
    outcome = slimnet("prune", file, *QUICK)
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "rates-slim" / "report.json").read_text())
    assert sorted(group["name"] for group in report["groups"]) == ["fast_w", "slow_w"]
    assert report["verify"]["unproven"] == []
    advice = "y chooses a branch by rate, and all branches stay; --set rate=VALUE leaves one"
    assert advice in " ".join(outcome.out.split())
    assert advice in " ".join(slimnet("trace", file).out.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "rat=1"), "--set rat=1 names no input; its inputs are x, rate"),
        (("--set", "rate=fast"), "--set rate=fast: is no int64"),
        (("--set", "rate"), "--set rate: write it as NAME=VALUE"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(slimnet, file, words, says):
    assert says in slimnet("prune", file, *words, *QUICK).line
