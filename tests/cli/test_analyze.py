"""slimnet analyze: a folder with analysis.json, and what matters on the terminal."""

import json

import numpy as np
import pytest

from tests.networks.files import DIGITS, saved, tree
from tests.networks.named import CNN, PINNED


def test_a_graph_without_data(slimnet, cnn, tmp_path):
    outcome = slimnet("analyze", cnn, "-o", "out")
    assert outcome.code == 0, outcome.err
    content = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert set(content["criteria"]["skipped"]) == {"apoz", "entropy", "taylor-l1", "taylor-l2"}
    assert "apoz: skipped, needs data" in outcome.out
    assert [group["name"] for group in content["criteria"]["groups"]] == ["conv1", "conv2"]
    assert "bn-gamma" not in content["criteria"]["groups"][1]["scores"]
    assert content["criteria"]["groups"][1]["skipped"] == {
        "bn-gamma": "no batch norm behind these filters",
        "bn-beta": "no batch norm behind these filters",
    }
    assert "compressibility of the" in outcome.out
    assert "conv2" in (tmp_path / "out" / "analysis.html").read_text()


def test_keys_of_the_file(slimnet):
    content = json.loads(slimnet("analyze", DIGITS, "--json").out)
    assert content.keys() == {
        *("model", "params", "macs", "data", "criteria", "distribution", "compressibility", "notices", "timing_s"),
        *("command", "versions"),
    }
    assert content["command"].startswith("slimnet analyze ")
    assert content["data"] == "digits", "the checkpoint says what it was trained on, and that is built in"
    assert len(content["criteria"]["criteria"]) == 10
    assert content["criteria"]["skipped"] == {}
    for group in content["criteria"]["groups"]:
        assert len(group["spearman"]) == 10
        assert all(len(scores) == group["units"] for scores in group["scores"].values())
        assert group["applicability"]["l1"].keys() == {"mean", "variance", "by_mean", "by_square", "expected"}
    for layer in content["distribution"]["layers"]:
        assert layer["tests"].keys() | layer["skipped"].keys() == {
            *("gaussian", "gaussian-sample", "variance", "mean", "magnitude"),
        }
    assert content["compressibility"]["layers"][0]["neurons"]["neurons"] == 64
    assert {notice["kind"] for notice in content["notices"]} >= {"erased", "alike"}


def test_a_graph_without_data_needs_no_torch(imported, cnn, tmp_path):
    loaded = imported("analyze", cnn, "-o", tmp_path / "out")
    assert "statsmodels" in loaded
    assert loaded.isdisjoint(("torch", "torchvision", "sklearn"))


def test_the_folder_is_named_after_the_model(slimnet, cnn, tmp_path):
    assert slimnet("analyze", cnn).code == 0
    assert "cnn-analysis/analysis.json" in tree(tmp_path)


def test_data_for_a_graph(slimnet, cnn, tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "in" / "data.npz", x=random.random((64, 3, 8, 8), np.float32), y=random.integers(0, 5, 64))
    content = json.loads(slimnet("analyze", cnn, "--data", "in/data.npz", "--json").out)
    assert content["criteria"]["skipped"].keys() == {"taylor-l1", "taylor-l2"}
    assert "--arch" in content["criteria"]["skipped"]["taylor-l1"]
    assert content["criteria"]["samples"] == 64


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--ratio", 1), "--ratio 1 is not between 0 and 1"),
        (("--data", "digits"), "samples of shape 1x8x8 do not fit"),
        (("--heads", "--head-dims"), "exclude each other"),
    ],
    ids=lambda given: " ".join(map(str, given)) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_analysed(slimnet, cnn, tmp_path, words, says):
    outcome = slimnet("analyze", cnn, "-o", "out", *words)
    assert outcome.code == 2
    assert says in outcome.line
    assert not (tmp_path / "out").exists()


def test_a_network_in_which_everything_is_pinned(slimnet, tmp_path):
    saved(tmp_path / "in" / "pinned.onnx", PINNED)
    assert "nothing can be removed" in slimnet("analyze", "in/pinned.onnx", "-o", "out").line


def test_weights_that_are_not_numbers(slimnet, tmp_path):
    saved(tmp_path / "in" / "nan.onnx", CNN, conv2=np.full((12, 8, 3, 3), np.nan, np.float32))
    assert "'conv2' holds NaN" in slimnet("analyze", "in/nan.onnx", "-o", "out").line
    assert not (tmp_path / "out").exists()


def test_it_explains_itself(slimnet):
    outcome = slimnet("analyze", "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
