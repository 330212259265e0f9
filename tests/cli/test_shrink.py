"""slimnet shrink: masks that other tools left in the weights."""

import json

import numpy as np
import onnx
import pytest
import torch
from torch.nn.utils import prune

from tests.networks.files import MODULES, saved, tree
from tests.networks.modules import valid_cnn
from tests.networks.named import CNN, HEADS

QUICK = ("--bench-seconds", "0")


@pytest.fixture
def masked(tmp_path):
    """What torch.nn.utils.prune leaves: three of eight filters zero, biases and batch norm as they were."""
    torch.manual_seed(0)
    module = valid_cnn().eval()
    module[1].bias.data.uniform_(0.5, 1)
    prune.ln_structured(module[0], "weight", amount=3, n=1, dim=0)
    prune.remove(module[0], "weight")
    (tmp_path / "in").mkdir()
    torch.save(module.state_dict(), tmp_path / "in" / "small.pt")
    return ("in/small.pt", "--arch", f"{MODULES}:valid_cnn", "--input", "1x3x8x8")


def test_masks_of_torch_are_told_absorbed_or_assumed(slimnet, masked, tmp_path):
    before = tree(tmp_path)
    refused = slimnet("shrink", *masked, *QUICK)
    assert refused.code == 2
    assert "0.weight: 3 zero filters leave a constant" in refused.line
    assert "--absorb" in refused.line
    assert "--assume-masked" in refused.line
    assert tree(tmp_path) == before

    absorbed = json.loads(slimnet("shrink", *masked, "--absorb", "-o", "absorbed", "--json", *QUICK).out)
    assert [g["after"] for g in absorbed["groups"]] == [5, 6]
    assert absorbed["notes"] == ["absorbed 3 constant input channels into biases"]
    assert absorbed["verify"]["dense_error"] < 1e-5

    assumed = json.loads(slimnet("shrink", *masked, "--assume-masked", "-o", "assumed", "--json", *QUICK).out)
    assert [g["after"] for g in assumed["groups"]] == [5, 6]
    assert assumed["verify"]["exact"]
    assert assumed["verify"]["dense_error"] > 1e-3


def test_zero_slices_go_and_the_outputs_stay(slimnet, tmp_path):
    conv2 = np.random.default_rng(0).standard_normal((12, 8, 3, 3)).astype(np.float32)
    conv2[:, [1, 3]] = 0
    file = saved(tmp_path / "in" / "zeros.onnx", CNN, conv2=conv2)
    outcome = slimnet("shrink", file, "-o", "out", *QUICK)
    assert outcome.code == 0
    assert "distance to the original" in outcome.out
    shapes = {tuple(t.dims) for t in onnx.load(tmp_path / "out" / "slim.onnx").graph.initializer}
    assert {(6, 3, 3, 3), (12, 6, 3, 3)} <= shapes
    assert slimnet("verify", file, "out/slim.onnx", "--plan", "out/plan.json").code == 0
    assert slimnet("slim", file, "--plan", "out/plan.json", "-o", "again", *QUICK).code == 0


def test_whole_heads_go(slimnet, tmp_path):
    """Cutting head dims would let more go if anything were zero there; the plan remembers that heads were cut."""
    wo = np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)
    wo[4:8] = 0
    file = saved(tmp_path / "in" / "heads.onnx", HEADS, wo=wo)
    report = json.loads(slimnet("shrink", file, "-o", "out", "--json", *QUICK).out)
    assert report["verify"]["dense_error"] < 1e-5
    assert report["params"]["after"] == report["params"]["before"] * 2 // 3
    assert slimnet("verify", file, "out/slim.onnx", "--plan", "out/plan.json").code == 0
