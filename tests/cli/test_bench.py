"""slimnet bench: two files against each other, or one against a baseline."""

import json

import pytest

from slimnet.common.errors import LatencyRegression
from tests.networks.files import saved
from tests.networks.named import CNN


def test_json_has_the_keys_of_a_report(slimnet, simulated, cnn):
    assert slimnet("prune", cnn, "-o", "out", "--bench-seconds", "0").code == 0
    outcome = slimnet("bench", cnn, "out/slim.onnx", "--seconds", "0.2", *simulated, "--json")
    found = json.loads(outcome.out)
    assert outcome.err == ""
    assert found["speedup"].keys() == {"flops", "latency", "efficiency"}
    assert found["latency_ms"].keys() == {"before", "after"}
    layers = {layer["name"]: layer["macs"] for layer in found["bench"]["layers"]}
    assert layers["conv2"]["after"] < layers["conv2"]["before"]


def test_table_fits_eighty_columns(slimnet, simulated, cnn):
    outcome = slimnet("bench", cnn, "--seconds", "0.1", "--batch", "4", *simulated)
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "x=4x3x8x8" in outcome.out


def test_a_baseline_is_kept_and_met(slimnet, simulated, cnn, tmp_path):
    assert slimnet("bench", cnn, "--save", "base.json", "--seconds", "0.1", "--no-layers", *simulated).code == 0
    cnn.unlink()
    other = saved(tmp_path / "new.onnx", CNN)
    outcome = slimnet("bench", other, "--baseline", "base.json", "--seconds", "0.2", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)


def test_a_slower_network_ends_with_exit_code_4(slimnet, simulated, tmp_path):
    two = "x1 = MatMul(x0, w) x2 = MatMul(x1, v)"
    small = saved(tmp_path / "small.onnx", "(float[96,96] x0) => (x1) <float[96,96] w> { x1 = MatMul(x0, w) }")
    large = saved(tmp_path / "large.onnx", f"(float[96,96] x0) => (x2) <float[96,96] w, float[96,96] v> {{ {two} }}")
    assert slimnet("bench", small, "--save", "base.json", "--seconds", "0.1", "--no-layers", *simulated).code == 0
    outcome = slimnet("bench", large, "--baseline", "base.json", "--seconds", "0.2")
    assert outcome.code == LatencyRegression.exit_code == 4
    assert "slower" in outcome.line
    assert "base.json" in outcome.line


@pytest.mark.parametrize("verb", ["prune", "trace", "shrink", "slim", "verify", "bench"])
def test_every_verb_explains_itself(slimnet, verb):
    outcome = slimnet(verb, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
