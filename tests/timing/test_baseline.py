import json
import re
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput, LatencyRegression
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing import baseline
from slimnet.timing.run import bench
from tests.networks.backends import Simulated, install


@pytest.fixture
def stored(net, tmp_path):
    """A baseline of the net with 32 channels."""
    return saved(tmp_path / "base.json", net(32), Simulated(threads=1))


def saved(path: Path, model: ir.Model, backend: Simulated | OnnxRuntime) -> Path:
    baseline.save(path, model, bench(model, model, backend=backend, seconds=0, min_runs=2))
    return path


def test_a_baseline_comes_back_as_it_was_saved(net, stored):
    loaded = baseline.load(stored)
    assert loaded.conditions.inputs == {"x": (1, 3, 16, 16)}
    assert loaded.conditions.runtime == Simulated(threads=1).describe()
    assert loaded.net.params()["conv1.weight"].shape == (32, 32, 3, 3)
    document = json.loads(stored.read_text())
    assert document["latency_ms"].keys() == {"median", "p90", "runs"}
    assert document["conditions"]["machine"]["simulated"]


def test_only_the_baseline_and_its_model_are_written(stored):
    assert sorted(f.name for f in stored.parent.iterdir()) == ["base.json", "base.onnx"]


def test_the_same_model_passes_its_own_baseline(net, stored, tmp_path):
    ir.save(net(32), tmp_path / "same.onnx")
    assert not baseline.check(tmp_path / "same.onnx", stored, "5%", Simulated(), seconds=0.4).slower


def test_a_slower_model_is_a_regression(net, stored, tmp_path):
    ir.save(net(64), tmp_path / "wide.onnx")
    with pytest.raises(LatencyRegression, match=r"wide\.onnx is slower than .*base\.json: .* ms against") as caught:
        baseline.check(tmp_path / "wide.onnx", stored, "5%", Simulated(), seconds=0.4)
    assert caught.value.exit_code == 4


def test_the_stored_model_is_measured_and_not_its_old_number(net, stored):
    document = json.loads(stored.read_text())
    document["latency_ms"]["median"] = 1e-9
    stored.write_text(json.dumps(document))
    assert not baseline.check(net(32), stored, backend=Simulated(), seconds=0.4).slower


def test_a_baseline_can_be_saved_again(net, stored):
    saved(stored, net(16), Simulated())
    assert baseline.load(stored).net.params()["conv1.weight"].shape == (16, 16, 3, 3)


def test_somebody_elses_model_is_not_replaced(net, tmp_path):
    ir.save(net(8), tmp_path / "net.onnx")
    content = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(BadInput, match=r"net\.onnx: exists"):
        saved(tmp_path / "net.json", net(8), Simulated())
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
        baseline.check(net(32, size=8), stored, backend=Simulated())


def test_a_name_that_ends_in_onnx_is_refused(net, tmp_path):
    with pytest.raises(BadInput, match=r"name it base\.json"):
        saved(tmp_path / "base.onnx", net(8), Simulated())


# -- what it is measured with ----------------------------------------------------------------------------------------


def test_a_check_uses_what_the_baseline_was_measured_with(net, stored, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    runtime = baseline.check(net(32), stored, seconds=0).conditions.runtime
    assert runtime == Simulated("simulator", 1).describe()


def test_what_is_given_replaces_what_was_stored(net, stored, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    loaded = baseline.load(stored)
    assert loaded.backend(threads=3) == Simulated("simulator", 3)
    assert loaded.backend("simulated:gpu") == Simulated("gpu", 1)
    verdict = baseline.check(net(32), loaded, "5%", loaded.backend("simulated:gpu", 3), seconds=0)
    assert verdict.conditions.runtime == Simulated("gpu", 3).describe()


def test_a_number_of_threads_that_is_left_open_is_the_baselines(net, stored):
    backend = Simulated()
    baseline.check(net(32), stored, backend=backend, seconds=0)
    assert {threads for _, _, threads in backend.log} == {1}


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (Simulated("gpu"), r"measured with simulated 1\.0 \(gpu\), but .* with simulated 1\.0 \(simulator\)"),
        (Simulated(version="2.0"), r"measured with simulated 2\.0 \(simulator\), but .* with simulated 1\.0"),
        (Simulated(name="another"), r"measured with another 1\.0 .*, but the baseline was stored with simulated 1\.0"),
    ],
)
def test_another_provider_version_or_runtime_than_stored_is_noted(net, stored, now, says):
    verdict = baseline.check(net(8), stored, 0.9, now, seconds=0)
    assert any(re.search(says, note) for note in verdict.to_json()["notes"])
    assert baseline.check(net(8), stored, 0.9, Simulated(), seconds=0).notes == ()


def test_a_baseline_from_before_it_named_runtime_and_provider_is_onnxruntimes(net, tmp_path):
    path = saved(tmp_path / "old.json", net(8), OnnxRuntime(threads=1))
    document = json.loads(path.read_text())
    assert document["conditions"].pop("runtime") == "onnxruntime"
    assert document["conditions"].pop("provider") == "CPUExecutionProvider"
    assert document["conditions"]["machine"].keys() == {"onnxruntime", "cpu", "cores"}
    path.write_text(json.dumps(document))
    loaded = baseline.load(path)
    assert loaded.conditions.runtime == replace(OnnxRuntime(threads=1).describe(), provider=None)
    assert loaded.backend() == OnnxRuntime(threads=1)
    told = OnnxRuntime().describe()
    now = Simulated("CPUExecutionProvider", version=told.version, name=told.name)
    assert baseline.check(net(8), path, 0.9, now, seconds=0).remarks == ()
