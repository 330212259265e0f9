"""slimnet prune with a target: what is asked for is planned, measured and reported. No test depends on the clock."""

import json
from xml.etree import ElementTree

import pytest

from tests.networks.files import DIGITS, saved, tree
from tests.networks.named import WIDE

SHORT = ("--bench-seconds", "0.01", "--no-prove", "--provider", "simulated", "--threads", "1")


pytestmark = pytest.mark.usefixtures("simulated")


@pytest.fixture
def wide(tmp_path):
    return saved(tmp_path / "in" / "wide.onnx", WIDE)


def test_a_speedup_end_to_end(slimnet, tmp_path):
    outcome = slimnet("prune", "--speedup", "1.5", DIGITS, "--json", *SHORT)
    assert outcome.code == 0
    report = json.loads(outcome.out)
    target = report["target"]
    assert target["kind"] == "speedup"
    assert target["asked"] == 1.5
    assert target["measured"] == pytest.approx(1.5, rel=0.05)
    assert target["tries"]
    assert target["model_error"].keys() == {"total", "layers"}
    rows = {row["name"]: row for row in target["layers"]}
    assert rows["layer1.conv1"].keys() == {"name", "macs_share", "macs", "predicted_ms", "ms"}
    assert rows["layer1.conv1"]["predicted_ms"] > 0
    assert sum(row["macs_share"] or 0 for row in rows.values()) == pytest.approx(1)
    assert report["how"]["speedup"] == 1.5
    assert report["params"]["after"] < report["params"]["before"]
    assert report["verify"]["exact"]
    assert (tmp_path / "digits_resnet-slim" / "slim.onnx").exists()


def test_a_training_method_gets_its_widths_before_it_trains(slimnet):
    outcome = slimnet("prune", "--params", "0.4", "--method", "greg-1", "--sparse-epochs", "1", "--epochs", "0",
                      DIGITS, "--json", "--bench-seconds", "0", "--no-prove")  # fmt: skip
    report = json.loads(outcome.out)
    assert report["target"]["asked"] == 0.4
    assert report["params"]["after"] == pytest.approx(report["target"]["measured"])
    assert report["params"]["after"] <= 0.4 * report["params"]["before"]


def test_single_weights_cannot_be_aimed(slimnet, tmp_path):
    outcome = slimnet("prune", "--speedup", "2", "--method", "hoyer", DIGITS, *SHORT)
    assert outcome.code == 2
    assert outcome.line.startswith("slimnet: --speedup 2: --method hoyer removes single weights")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(("option", "key"), [("--params", "params"), ("--macs", "macs"), ("--flops", "macs")])
def test_counts(slimnet, wide, option, key):
    report = json.loads(slimnet("prune", option, "0.5", wide, "--json", "--round-to", "none", *SHORT).out)
    assert 0.45 < report[key]["after"] / report[key]["before"] <= 0.5


def test_several_speedups_give_a_folder_each_and_a_table(slimnet, wide, tmp_path):
    outcome = slimnet("prune", "--speedup", "1.2", "--speedup", "1.5", wide, "-o", "out", "--best", "--json", *SHORT)
    assert outcome.code == 0
    rows = json.loads(outcome.out)
    assert [row["folder"] for row in rows] == ["1.2x", "1.5x"]
    assert rows == json.loads((tmp_path / "out" / "pareto.json").read_text())
    for row, asked in zip(rows, (1.2, 1.5), strict=True):
        assert row["measured"] == pytest.approx(asked, rel=0.15), "there are few blocks to choose from"
        report = json.loads((tmp_path / "out" / row["folder"] / "report.json").read_text())
        assert row["measured"] == report["target"]["measured"]
        assert (tmp_path / "out" / row["folder"] / "slim.onnx").exists()
    drawn = "".join(ElementTree.parse(tmp_path / "out" / "pareto.svg").getroot().itertext())
    assert all(f"{row['measured']:.2f}x, {row['importance']:.1%}" in drawn for row in rows)
    shown = slimnet("prune", "--speedup", "1.2", "--speedup", "1.5", wide, "-o", "out", "--best", *SHORT)
    assert "1.20x" in shown.out
    assert "importance" in shown.out


def test_what_cannot_be_reached(block, slimnet, wide, tmp_path):
    before = tree(tmp_path)
    outcome = slimnet("prune", "--speedup", "1000", wide, *SHORT)
    assert outcome.code == 2
    assert "--speedup 1000: wide cannot be made so fast" in outcome.line
    assert "the largest part of it in" in outcome.line
    assert tree(tmp_path) == before
    report = json.loads(slimnet("prune", "--speedup", "1000", "--best", wide, "--json", *SHORT).out)
    assert {group["after"] for group in report["groups"]} == {block}
    assert any("cannot be reached" in note for note in report["notes"])


def test_the_hardest_of_several_comes_first_so_that_nothing_is_written(slimnet, wide, tmp_path):
    before = tree(tmp_path)
    assert slimnet("prune", "--speedup", "1.1", "--speedup", "1000", wide, *SHORT).code == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--speedup", "2", "--ratio", "0.5"), "--ratio and --speedup exclude each other; give one of them"),
        (("--params", "0.5", "--flops", "0.5"), "--params and --macs exclude each other; give one of them"),
        (("--latency", "fast"), "--latency fast: is not understood; write it as 8ms"),
        (("--latency", "100s"), "ms as it is; ask for less"),
        (("--speedup", "0.5"), "--speedup 0.5: is no speedup; 2.0 asks for half the time"),
        (("--best",), "--best is for targets; give --speedup, --latency, --params or --macs"),
        (("--macs-weight", "2"), "--macs-weight is for targets; give --speedup, --latency, --params or --macs"),
        (("--speedup", "2", "--scope", "global"), "--scope global: a target sets the widths of all groups together"),
        (("--speedup", "2", "--provider", "abacus"), "--provider abacus: is not installed; this onnxruntime has"),
        (("--params", "1"), "cannot be made so small"),
    ],
)
def test_bad_input(slimnet, wide, tmp_path, words, message):
    before = tree(tmp_path)
    outcome = slimnet("prune", *SHORT, *words, wide)
    assert outcome.code == 2
    assert message in outcome.line
    assert tree(tmp_path) == before


def test_multiply_adds_can_be_kept_instead_of_importance(slimnet, wide):
    words = ("prune", "--params", "0.4", "--round-to", "none", wide, "--json", *SHORT)
    plain, heavy = (
        json.loads(slimnet(*words, "--macs-weight", weight, "-o", f"out{weight}").out) for weight in ("0", "1000")
    )
    assert heavy["macs"]["after"] > plain["macs"]["after"]
    assert slimnet("prune", "--params", "0.4", "--macs-weight", "inf", wide, *SHORT).code == 2


def test_a_batch_is_what_is_measured(slimnet, wide):
    report = json.loads(slimnet("prune", "--batch", "3", "--params", "0.5", wide, "--json", *SHORT).out)
    assert report["bench"]["conditions"]["inputs"] == {"x": [3, 3, 8, 8]}


def test_more_threads_than_cores_get_a_warning(slimnet, wide):
    notes = json.loads(slimnet("prune", "--params", "0.5", wide, *SHORT, "--threads", 9, "--json").out)["bench"][
        "notes"
    ]
    assert any("threads share" in note for note in notes)
