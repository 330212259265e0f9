import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimnet.common.errors import BadInput
from slimnet.graph.plan import Plan


@pytest.fixture
def plan() -> Plan:
    kept = {"conv.weight": {0: np.array([0, 2, 5]), 1: np.array([1])}, "conv.bias": {0: np.array([0, 2, 5])}}
    return Plan(kept, "abc123", {"method": "l1", "ratio": 0.5, "widths": np.array([3, 1]), "seed": np.int64(7)})


def test_what_is_saved_is_loaded(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded.model_hash == "abc123"
    assert loaded.provenance == {"method": "l1", "ratio": 0.5, "widths": [3, 1], "seed": 7}
    assert {t: {k: v.tolist() for k, v in axes.items()} for t, axes in loaded.kept.items()} == {
        "conv.weight": {0: [0, 2, 5], 1: [1]},
        "conv.bias": {0: [0, 2, 5]},
    }
    assert loaded.kept["conv.weight"][0].dtype == np.int64


def test_the_file_is_plain_json(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    document = json.loads((tmp_path / "plan.json").read_text())
    assert document["format"] == 1
    assert document["kept"]["conv.weight"]["0"] == [0, 2, 5]


def test_saving_replaces_the_file_as_a_whole(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    plan.save(file)
    before = file.read_text()
    with pytest.raises(TypeError, match="cannot be part of a plan"):
        Plan({}, "abc123", {"model": object()}).save(file)
    assert file.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_place_that_takes_no_file_is_bad_input(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        plan.save(tmp_path / "file" / "plan.json")


GOOD = {"format": 1, "model_hash": "abc", "how": {}, "kept": {"w": {"0": [0, 1]}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not a plan"),
        ("[1]", "a plan is a JSON object, this is a list"),
        (json.dumps({**GOOD, "format": 2}), "plan format 2 is not known"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "kept"}), "'kept' is missing"),
        (json.dumps({**GOOD, "model_hash": 3}), "'model_hash' has the wrong type"),
        (json.dumps({**GOOD, "kept": {"w": [0, 1]}}), "tensor 'w' needs an object"),
        (json.dumps({**GOOD, "kept": {"w": {"-1": [0]}}}), "tensor 'w', axis '-1': an axis is a number"),
        (json.dumps({**GOOD, "kept": {"w": {"99": [0]}}}), "an axis is a number from 0 to 63"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [0], "00": [0]}}}), "the axis is given twice"),
        (json.dumps({**GOOD, "kept": {"w": {"0": "01"}}}), "must be a list of whole numbers"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [0, 1.5]}}}), "must be a list of whole numbers"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [True]}}}), "must be a list of whole numbers"),
        (json.dumps({**GOOD, "kept": {"w": {"0": []}}}), "keeps nothing"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [-1, 2]}}}), "index -1 is out of range"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [0, 10**30]}}}), "index 1000000000000000000000000000000 is out"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [0, 3, 3]}}}), "index 3 is given twice"),
        (json.dumps({**GOOD, "kept": {"w": {"0": [0, 3, 2]}}}), "index 2 comes after 3"),
    ],
)
def test_a_broken_plan_is_told_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        Plan.load(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_what_is_no_text_or_not_there_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00\x01")
    for file in (tmp_path / "plan.json", tmp_path / "gone.json", tmp_path):
        with pytest.raises(BadInput):
            Plan.load(file)


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_no_text_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput):
        Plan.load(file)
