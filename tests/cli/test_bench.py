"""slimnet bench: two files against each other, or one against a baseline."""

import json

import pytest

from slimnet.common.errors import LatencyRegression
from tests.networks.files import saved
from tests.networks.named import CNN


def test_json_has_the_keys_of_a_report(slimnet, cnn):
    assert slimnet("prune", cnn, "-o", "out", "--bench-seconds", "0").code == 0
    outcome = slimnet("bench", cnn, "out/slim.onnx", "--seconds", "0.2", "--threads", "1", "--json")
    found = json.loads(outcome.out)
    assert outcome.err == ""
    assert found["speedup"].keys() == {"flops", "latency", "efficiency"}
    assert found["latency_ms"].keys() == {"before", "after"}
    layers = {layer["name"]: layer["macs"] for layer in found["bench"]["layers"]}
    assert layers["conv2"]["after"] < layers["conv2"]["before"]


def test_table_fits_eighty_columns(slimnet, cnn):
    outcome = slimnet("bench", cnn, "--seconds", "0.1", "--batch", "4")
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "x=4x3x8x8" in outcome.out


def test_a_baseline_is_kept_and_met(slimnet, cnn, tmp_path):
    assert slimnet("bench", cnn, "--save", "base.json", "--seconds", "0.1", "--no-layers").code == 0
    cnn.unlink()
    other = saved(tmp_path / "new.onnx", CNN)
    outcome = slimnet("bench", other, "--baseline", "base.json", "--tolerance", "90%", "--seconds", "0.2", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)


def test_a_slower_network_ends_with_exit_code_4(slimnet, tmp_path):
    """Many times the work, so that no noise can hide it."""
    layers = "".join(f"x{k + 1} = MatMul(x{k}, w) " for k in range(40))
    weights = "<float[96,96] w>"
    small = saved(tmp_path / "small.onnx", f"(float[96,96] x0) => (x1) {weights} {{ x1 = MatMul(x0, w) }}")
    large = saved(tmp_path / "large.onnx", f"(float[96,96] x0) => (x40) {weights} {{ {layers} }}", w=0.01)
    assert slimnet("bench", small, "--save", "base.json", "--seconds", "0.1", "--no-layers").code == 0
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
