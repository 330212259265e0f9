"""--provider and --threads: every verb that runs a network runs it with them."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from slimnet.runtime.onnxruntime import OnnxRuntime
from tests.networks.backends import Simulated, install
from tests.networks.files import MODULES
from tests.networks.modules import mlp

GIVEN = ("--provider", "simulated:gpu", "--threads", 3)
QUICK = ("--bench-seconds", 0.01)
DIGITS = "digits?augment=none&limit=64"
TRAINED = ("--arch", f"{MODULES}:mlp", "--input", "1x1x8x8", "--data", DIGITS, "--device", "cpu", "--batch-size", 32)
RECIPE = f"""
arch = "{MODULES}:mlp"
weights = "mlp.pt"
data = "{DIGITS}"

[prune]
ratio = 0.5
"""


@pytest.fixture
def log(cnn, tmp_path, monkeypatch):
    """What was done, on a machine on which nothing but the provider that is given can run networks."""
    install(tmp_path, monkeypatch)
    done: list[tuple[str, str, int | None]] = []

    def refuse(self: OnnxRuntime, *_: object) -> None:
        raise AssertionError("the provider that was given is not used")

    monkeypatch.setattr(OnnxRuntime, "session", refuse)
    monkeypatch.setattr(OnnxRuntime, "probe", refuse)
    monkeypatch.setattr(Simulated, "note", lambda self, what: done.append((what, self.provider, self.threads)))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3, 8, 8), np.float32), rng.integers(0, 5, 40)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    torch.manual_seed(0)
    torch.save(mlp().state_dict(), tmp_path / "mlp.pt")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return done


VERBS = {
    "prune": ("prune", "in/cnn.onnx", "--data", "data.npz", "--method", "apoz", *QUICK),
    "prune to a speedup": ("prune", "in/cnn.onnx", "--speedup", 1.2, "--best", *QUICK),
    "prune and fine-tune": ("prune", "mlp.pt", *TRAINED, "--epochs", 1, *QUICK),
    "prune while training": ("prune", "mlp.pt", *TRAINED, "--method", "hoyer", "--sparse-epochs", 1,
                             *QUICK),
    "bench": ("bench", "in/cnn.onnx", "--seconds", 0.1),
    "eval": ("eval", "in/cnn.onnx", "--data", "data.npz"),
    "profile": ("profile", "in/cnn.onnx"),
    "analyze": ("analyze", "in/cnn.onnx", "--data", "data.npz"),
    "sap": ("sap", "--arch", f"{MODULES}:mlp", "--data", DIGITS, "--iterations", 1, "--epochs", 1, "--batch-size", 32,
            "--device", "cpu", *QUICK),
    "run": ("run", "recipe.toml", "--device", "cpu"),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_runs_networks_with_what_is_given(slimnet, log, verb):
    outcome = slimnet(*VERBS[verb], *GIVEN)
    assert outcome.code == 0, outcome.err
    assert {(provider, threads) for _, provider, threads in log} == {("gpu", 3)}


def silenced(path, to):
    """A copy of a file in which the first filter of the first layer is zero, with what it adds."""
    model = onnx.load(path)
    layer = next(node for node in model.graph.node if node.op_type == "Conv")
    for tensor in model.graph.initializer:
        if tensor.name in layer.input:
            array = numpy_helper.to_array(tensor).copy()
            array[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, to)


@pytest.mark.parametrize("verb", ["slim", "verify", "shrink"])
def test_the_verbs_that_need_an_earlier_run_do_so_too(slimnet, log, tmp_path, verb):
    assert slimnet("prune", "in/cnn.onnx", "-o", "out", *QUICK, *GIVEN).code == 0
    silenced(tmp_path / "in" / "cnn.onnx", tmp_path / "in" / "zeros.onnx")
    log.clear()
    words = {
        "slim": ("slim", "in/cnn.onnx", "--plan", "out/plan.json", *QUICK),
        "verify": ("verify", "in/cnn.onnx", "out/slim.onnx", "--plan", "out/plan.json"),
        "shrink": ("shrink", "in/zeros.onnx", "--absorb", "--gather", *QUICK),
    }
    outcome = slimnet(*words[verb], *GIVEN)
    assert outcome.code == 0, outcome.err
    assert {(provider, threads) for _, provider, threads in log} == {("gpu", 3)}


def test_a_baseline_is_checked_with_what_is_given_or_what_it_was_made_with(slimnet, log):
    assert slimnet("bench", "in/cnn.onnx", "--save", "base.json", "--seconds", 0.1, *GIVEN).code == 0
    check = ("bench", "in/cnn.onnx", "--baseline", "base.json", "--seconds", 0.1)
    for words, used in {
        (): ("gpu", 3),
        ("--threads", 2): ("gpu", 2),
        ("--provider", "simulated:tpu"): ("tpu", 3),
    }.items():
        log.clear()
        outcome = slimnet(*check, *words, "--json")
        assert outcome.code == 0, outcome.err
        assert {(provider, threads) for _, provider, threads in log} == {used}
        told = json.loads(outcome.out)
        assert (told["conditions"]["provider"], told["conditions"]["threads"]) == used
        assert any("(tpu), but the baseline was stored" in note for note in told["notes"]) == (used[0] == "tpu")


def test_reports_tell_what_was_timed(slimnet, log, tmp_path):
    assert slimnet("prune", "in/cnn.onnx", "-o", "out", *QUICK, *GIVEN).code == 0
    told = json.loads((tmp_path / "out" / "report.json").read_text())["bench"]["conditions"]
    assert (told["runtime"], told["provider"], told["threads"]) == ("simulated", "gpu", 3)
    assert told["machine"]["simulated"] == "1.0"
