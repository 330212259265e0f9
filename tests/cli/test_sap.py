"""slimnet sap: from an architecture and data to a sparse network in a file."""

import json

import onnx
import pytest

from tests.networks.files import MODULES, tree

QUICK = ("--arch", f"{MODULES}:mlp", "--data", "digits?augment=none&limit=256", "--iterations", 2, "--epochs", 1,
         "--batch-size", 32, "--bench-seconds", 0, "--device", "cpu")  # fmt: skip


def test_a_lottery_ticket(slimnet, tmp_path):
    outcome = slimnet("sap", *QUICK, "--method", "lottery", "--fraction", 0.5, "-o", "out")
    assert outcome.code == 0, outcome.err
    assert "25.00%" in outcome.out
    assert "mlp: lottery" in outcome.out
    assert {"slim.onnx", "plan.json", "report.json"} <= tree(tmp_path / "out").keys()
    onnx.checker.check_model(tmp_path / "out" / "slim.onnx")


def test_json_is_the_report(slimnet, tmp_path):
    rule = ("--pq-p", 1, "--pq-q", 2, "--gamma", 2, "--eta", 0.1, "--beta", 0.5)
    outcome = slimnet("sap", *QUICK, "--scope", "neuron", *rule, "--train", "weight_decay=0", "--json", "-o", "out")
    report = json.loads(outcome.out)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["how"].items() >= {"method": "sap", "scope": "neuron", "gamma": 2, "beta": 0.5, "eta": 0.1}.items()
    found = report["training"]["search"]
    assert [row["iteration"] for row in found["iterations"]] == [0, 1, 2]
    assert found["settings"].items() >= {"epochs": 1, "batch_size": 32, "weight_decay": 0}.items()
    assert found["epochs"] == found["iterations"][-1]["epochs"]
    assert found["iterations"][1]["remaining"] >= 0.5, "beta"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "magic"), "--method magic: is not known; choose one of: sap, lottery, one-shot"),
        (("--scope", "all"), "--scope all: is not known"),
        (("--fraction", 1), "--fraction 1"),
        (("--pq-p", 2), "0 < p <= 1 <= q"),
        (("--beta", 1.5), "beta between 0 and 1"),
        (("--train", "patience=x"), "patience"),
        (("--train", "finetune.lr=1"), "write lr=1"),
        (("--arch", "models:nothing"), "models has no nothing"),
        (("--data", "nowhere"), "is not understood"),
        (("--arch", "models:lenet5"), "lenet5: does not run"),
    ],
    ids=lambda given: " ".join(map(str, given)) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_searched(slimnet, tmp_path, words, says):
    outcome = slimnet("sap", *QUICK, *words, "-o", "out")
    assert outcome.code == 2
    assert says in outcome.line
    assert tree(tmp_path) == {}


def test_it_explains_itself(slimnet):
    outcome = slimnet("sap", "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
