import json

import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput, LatencyRegression
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing import baseline
from slimnet.timing.run import bench

ONE = OnnxRuntime(threads=1)


@pytest.fixture
def stored(net, tmp_path):
    """A baseline of the net with 32 channels."""
    result = bench(net(64), net(32), backend=ONE, seconds=0.2)
    baseline.save(tmp_path / "base.json", net(32), result)
    return tmp_path / "base.json"


def test_a_baseline_comes_back_as_it_was_saved(net, stored):
    loaded = baseline.load(stored)
    assert loaded.conditions.inputs == {"x": (1, 3, 16, 16)}
    assert loaded.conditions.runtime.threads == 1
    assert loaded.net.params()["conv1.weight"].shape == (32, 32, 3, 3)
    document = json.loads(stored.read_text())
    assert document["latency_ms"].keys() == {"median", "p90", "runs"}
    assert document["conditions"]["machine"]["onnxruntime"]


def test_only_the_baseline_and_its_model_are_written(stored):
    assert sorted(f.name for f in stored.parent.iterdir()) == ["base.json", "base.onnx"]


def test_the_same_model_passes_its_own_baseline(net, stored, tmp_path):
    ir.save(net(32), tmp_path / "same.onnx")
    assert not baseline.check(tmp_path / "same.onnx", stored, "5%", seconds=0.4).slower


def test_a_slower_model_is_a_regression(net, stored, tmp_path):
    ir.save(net(64), tmp_path / "wide.onnx")
    with pytest.raises(LatencyRegression, match=r"wide\.onnx is slower than .*base\.json: .* ms against") as caught:
        baseline.check(tmp_path / "wide.onnx", stored, "5%", seconds=0.4)
    assert caught.value.exit_code == 4


def test_the_stored_model_is_measured_and_not_its_old_number(net, stored):
    document = json.loads(stored.read_text())
    document["latency_ms"]["median"] = 1e-9
    stored.write_text(json.dumps(document))
    assert not baseline.check(net(32), stored, seconds=0.4).slower


def test_a_baseline_can_be_saved_again(net, stored):
    baseline.save(stored, net(16), bench(net(64), net(16), backend=ONE, seconds=0.2))
    assert baseline.load(stored).net.params()["conv1.weight"].shape == (16, 16, 3, 3)


def test_somebody_elses_model_is_not_replaced(net, tmp_path):
    ir.save(net(8), tmp_path / "net.onnx")
    content = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(BadInput, match=r"net\.onnx: exists"):
        baseline.save(tmp_path / "net.json", net(8), bench(net(8), net(8), seconds=0.1))
    assert (tmp_path / "net.onnx").read_bytes() == content


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "conditions": 3, "model": "x"}']
)
def test_a_file_that_is_no_baseline_is_named(net, tmp_path, content):
    (tmp_path / "base.json").write_text(content)
    with pytest.raises(BadInput, match=r"base\.json: is not a baseline") as caught:
        baseline.check(net(8), tmp_path / "base.json")
    assert "\n" not in str(caught.value)


def test_a_missing_baseline_is_named(net, tmp_path):
    with pytest.raises(BadInput, match=r"gone\.json: no such file"):
        baseline.check(net(8), tmp_path / "gone.json")


def test_another_model_in_the_place_of_the_stored_one_is_noticed(net, stored):
    ir.save(net(64), stored.with_suffix(".onnx"))
    with pytest.raises(BadInput, match=r"base\.onnx: is not the model"):
        baseline.check(net(64), stored)


def test_a_candidate_with_other_inputs_is_bad_input(net, stored):
    with pytest.raises(BadInput, match=r"base\.json"):
        baseline.check(net(32, size=8), stored)


def test_a_name_that_ends_in_onnx_is_refused(net, tmp_path):
    with pytest.raises(BadInput, match=r"name it base\.json"):
        baseline.save(tmp_path / "base.onnx", net(8), bench(net(8), net(8), seconds=0.1))
