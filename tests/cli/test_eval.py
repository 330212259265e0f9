"""slimnet eval: the accuracy of a file, every sample counted once."""

import json

import numpy as np
import onnxruntime as ort
import pytest

from tests.networks.files import DIGITS, saved
from tests.networks.named import CNN


@pytest.fixture
def labelled(cnn, tmp_path):
    """101 samples, all but the last with the class that the network gives them; a batch of 64 leaves some over."""
    x = np.random.default_rng(0).standard_normal((101, 3, 8, 8), np.float32)
    y = ort.InferenceSession(cnn).run(None, {"x": x})[0].argmax(axis=1)
    y[-1] = (y[-1] + 1) % 5
    np.savez(tmp_path / "data.npz", x_train=x[:30], y_train=y[:30], x_test=x, y_test=y)
    return cnn


@pytest.mark.parametrize(
    "words", [(), ("--batch", 1), ("--batch", 7), ("--batch", 500), ("--input", "4x3x8x8")], ids=str
)
def test_every_sample_counts_whatever_the_batch(slimnet, labelled, words):
    outcome = slimnet("eval", labelled, "--data", "data.npz", *words)
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out == "accuracy 99.01 % (100 of 101, test split of data.npz)\n"


def test_a_fixed_batch_takes_all_samples_too(slimnet, labelled, tmp_path):
    saved(tmp_path / "in" / "fixed.onnx", CNN.replace("[N,3,8,8]", "[8,3,8,8]"))
    found = json.loads(slimnet("eval", "in/fixed.onnx", "--data", "data.npz", "--json").out)
    assert found["samples"] == 101
    assert found["correct"] == 100
    line = slimnet("eval", "in/fixed.onnx", "--data", "data.npz", "--batch", 16).line
    assert "--batch 16: fixed is fixed to batches of 8" in line


def test_json_says_what_was_measured(slimnet, labelled):
    found = json.loads(slimnet("eval", labelled, "--data", "data.npz?val=10", "--split", "train", "--json").out)
    assert found == {
        "accuracy": 1.0,
        "correct": 20,
        "samples": 20,
        "split": "train",
        "data": "data.npz?val=10",
        "model": str(labelled),
    }


def test_a_checkpoint(slimnet):
    outcome = slimnet("eval", DIGITS, "--data", "digits", "--split", "val")
    assert outcome.out == "accuracy 99.72 % (358 of 359, val split of digits)\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "data.npz", "--split", "all"), "--split all: is not known; use test, val or train"),
        (("--data", "data.npz?val=0", "--split", "val"), "has no val split"),
        (("--data", "digits"), "samples of shape 1x8x8 do not fit"),
        (("--data", "nothing"), "is not understood"),
        (("--data", "other.npz"), "other.npz: no such file"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_measured(slimnet, labelled, words, says):
    outcome = slimnet("eval", labelled, *words)
    assert outcome.code == 2
    assert says in outcome.line


def test_a_batch_that_the_graph_cannot_take(slimnet, tmp_path):
    """The input is open, but a constant inside is not."""
    text = """(float[N,2] x) => (y) <float[6,2] fixed> { y = Concat<axis=1>(x, fixed) }"""
    saved(tmp_path / "odd.onnx", text)
    np.savez(tmp_path / "data.npz", x=np.ones((9, 2), np.float32), y=np.zeros(9, int))
    outcome = slimnet("eval", "odd.onnx", "--data", "data.npz")
    assert outcome.code == 2
    assert "odd.onnx: does not run on batches of 64" in outcome.line


def test_it_explains_itself(slimnet):
    outcome = slimnet("eval", "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
