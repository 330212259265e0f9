"""slimnet trace: what belongs together, what stays, and why, in full names."""

import json

from tests.networks.files import DIGITS, saved
from tests.networks.named import PINNED

LONG = "backbone.stages.0.blocks.1.mixer.depthwise.convolution.reparametrised.weight"
NAMES = f"""(float[1,3,8,8] x) => (y)
    <float[8,3,3,3] "{LONG}_a", float[8,3,3,3] "{LONG}_b", float[5,8,3,3] "{LONG}_c">
    {{ a = Conv(x, "{LONG}_a") b = Conv(x, "{LONG}_b") c = Add(a, b) d = Relu(c) y = Conv(d, "{LONG}_c") }}"""


def test_json_has_groups_members_and_pins(slimnet, cnn):
    outcome = slimnet("trace", cnn, "--json")
    found = json.loads(outcome.out)
    assert outcome.err == ""
    assert found["model"] == "cnn"
    assert [(g["name"], g["units"]) for g in found["groups"]] == [("conv1", 8), ("conv2", 12)]
    members = {(m["tensor"], m["axis"]): m["role"] for m in found["groups"][0]["members"]}
    assert members["conv1", 0] == "out"
    assert members["conv2", 1] == "in"
    assert members["shift", 0] == "along"
    assert {"tensor": "fc", "axis": 1}.items() <= found["pinned"][-1].items()
    assert found["pinned"][-1]["why"] == "is an output of the network"
    assert found["params"] == 8 * 3 * 9 + 8 + 8 + 12 * 8 * 9 + 12 + 12 * 5


def test_tables_show_groups_and_reasons(slimnet, cnn):
    outcome = slimnet("trace", cnn)
    assert "20 removable units in 2 groups" in outcome.out
    assert "fc, axis 1: is an output of the network" in outcome.out
    assert "shift" not in outcome.out
    assert "shift" in slimnet("trace", cnn, "--all").out


def test_names_stay_whole_in_eighty_columns(slimnet, tmp_path):
    outcome = slimnet("trace", saved(tmp_path / "long.onnx", NAMES))
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "…" not in outcome.out
    joined = "".join(outcome.out.split())
    assert all(f"{LONG}_{end}" in joined for end in "abc")


def test_long_lists_are_cut_and_say_so(slimnet, tmp_path):
    layers = "".join(f"x{k + 1} = MatMul(x{k}, w{k}) " for k in range(50))
    weights = ", ".join(f"float[4,4] w{k}" for k in range(50))
    file = saved(tmp_path / "deep.onnx", f"(float[1,4] x0) => (x50) <{weights}> {{ {layers} }}")
    assert "and 9 more, see --all" in slimnet("trace", file).out
    assert "see --all" not in slimnet("trace", file, "--all").out


def test_a_network_with_nothing_to_remove_says_why(slimnet, tmp_path):
    outcome = slimnet("trace", saved(tmp_path / "one.onnx", PINNED))
    assert outcome.code == 0
    assert "0 removable units" in outcome.out
    assert "is an output of the network" in outcome.out


def test_a_checkpoint_is_traced_too(slimnet):
    found = json.loads(slimnet("trace", DIGITS, "--json").out)
    assert [g["name"] for g in found["groups"]][:2] == ["conv1.weight", "layer1.conv1.weight"]
