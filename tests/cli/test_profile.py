"""slimnet profile: where the time goes, and what widths would cost."""

import json

import pytest

from tests.networks.files import saved
from tests.networks.named import WIDE


@pytest.fixture
def wide(tmp_path):
    return saved(tmp_path / "in" / "wide.onnx", WIDE)


def test_json_has_layers_and_groups(slimnet, simulated, wide):
    outcome = slimnet("profile", wide, *simulated, "--batch", "1", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert found.keys() == {"model", "ms", "layers", "groups", "model_error", "notes"}
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["conv2"]["macs"] == 96 * 64 * 9 * 4 * 4
    assert layers["conv2"]["widths"] == [96, 64]
    assert sum(layer["share"] for layer in layers.values()) == pytest.approx(1)
    assert sum(layer["ms"] for layer in layers.values()) == pytest.approx(found["ms"])
    groups = {group["name"]: group for group in found["groups"]}
    assert groups.keys() == {"conv1", "conv2"}
    for group in groups.values():
        assert group["widths"][-1]["units"] == group["units"]
        times = [step["ms"] for step in group["widths"]]
        assert times == sorted(times), "a wider network is never predicted to be faster"


def test_the_table_names_layers_and_groups(slimnet, simulated, wide):
    outcome = slimnet("profile", wide, *simulated)
    assert outcome.code == 0
    assert "conv2" in outcome.out
    assert "96x64" in outcome.out
    assert "on widths it had not seen" in " ".join(outcome.out.split())


def test_a_provider_that_is_not_installed(slimnet, wide):
    outcome = slimnet("profile", wide, "--provider", "abacus")
    assert outcome.code == 2
    assert "--provider abacus: is not installed; this onnxruntime has" in outcome.line
    assert "cpu" in outcome.line
