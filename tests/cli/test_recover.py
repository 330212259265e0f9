"""Recovery on the command line: by default where there are data, with --calib, and afterwards."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.networks.files import ROOT

DIGITS = ROOT / "models" / "digits_resnet.pt"
QUICK = ("--bench-seconds", 0, "--json")


@pytest.fixture
def calib(tmp_path):
    from sklearn.datasets import load_digits

    np.save(tmp_path / "x.npy", (load_digits().images[:96, None] / 16).astype(np.float32))


def test_the_embedded_network_recovers_by_default_and_not_without(slimnet):
    outcome = slimnet("prune", DIGITS, "--ratio", 0.5, "-o", "out", *QUICK)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["accuracy"]["pruned"] < 0.3
    assert report["accuracy"]["after"] > 0.985
    assert report["recovery"]["recovered"]["top1"] > 0.98 > report["recovery"]["pruned"]["top1"]
    assert report["verify"]["unproven"] == []
    again = slimnet("verify", DIGITS, "out/slim.onnx", "--plan", "out/plan.json")
    assert again.code == 0, again.err
    plain = json.loads(slimnet("prune", DIGITS, "--ratio", 0.5, "-o", "plain", "--no-recover", *QUICK).out)
    assert plain["recovery"] is None
    assert plain["accuracy"]["after"] == report["accuracy"]["pruned"]


def test_an_onnx_file_recovers_from_inputs_alone(slimnet, calib, tmp_path):
    assert slimnet("prune", DIGITS, "--ratio", 0.1, "-o", "made", "--no-recover", *QUICK).code == 0
    outcome = slimnet("prune", "made/slim.onnx", "--ratio", 0.3, "--calib", "x.npy", "-o", "out", *QUICK)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["recovery"]
    assert found["inputs"] == "x.npy"
    assert (found["fitted_to"], found["held_back"]) == (87, 9)
    assert found["recovered"]["distance"] < 0.5 * found["pruned"]["distance"]
    assert slimnet("verify", "made/slim.onnx", "out/slim.onnx", "--plan", "out/plan.json").code == 0
    # Without the fitted weights, or with others, the small network is not what the plan makes.
    (tmp_path / "out" / "recovered.safetensors").unlink()
    missing = slimnet("verify", "made/slim.onnx", "out/slim.onnx", "--plan", "out/plan.json")
    assert missing.code == 2
    assert "recovered.safetensors" in missing.err


def test_a_plan_recovers_afterwards(slimnet, calib):
    assert slimnet("prune", DIGITS, "--ratio", 0.5, "-o", "out", "--no-recover", *QUICK).code == 0
    outcome = slimnet("recover", "out", DIGITS, "--calib", "x.npy", *QUICK)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["accuracy"]["after"] > 0.97
    assert slimnet("verify", DIGITS, "out/slim.onnx", "--plan", "out/plan.json").code == 0


def test_recovery_without_inputs_is_told(slimnet):
    assert slimnet("prune", DIGITS, "--ratio", 0.5, "-o", "out", "--no-recover", *QUICK).code == 0
    outcome = slimnet("recover", "out", "out/slim.onnx", "-o", "more", *QUICK)
    assert outcome.code == 2
    assert "recovery needs inputs: give --calib, or --data with a training split" in outcome.err


def test_a_ruin_is_called_one():
    from slimnet.pipeline.recover import ruins
    from slimnet.recovery.agreement import Agreement
    from slimnet.recovery.recover import Recovered

    def told(after: Agreement) -> list[str]:
        return ruins(Recovered({}, {}, Agreement(2.0), after, 90, 10))

    (note,) = told(Agreement(0.9, top1=0.12))
    assert note.startswith("it agrees with the dense network on 12% of the inputs: lower the ratio")
    (note,) = told(Agreement(1.3))
    assert note.startswith("its outputs are no nearer to the dense network's than a constant")
    assert told(Agreement(0.2, top1=0.9)) == told(Agreement(0.2)) == []
