import json

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput
from slimnet.timing.run import bench
from tests.networks.backends import Simulated, seconds_of


def test_the_keys_are_those_of_the_report(net):
    rng = np.random.default_rng(0)
    backend = Simulated(noise=lambda: rng.lognormal(0, 0.1))
    document = json.loads(json.dumps(bench(net(64), net(16), backend=backend, seconds=1).to_json()))
    assert document["speedup"].keys() == {"flops", "latency", "efficiency"}
    assert document["latency_ms"].keys() == {"before", "after"}
    assert document["latency_ms"]["after"].keys() == {"median", "p90", "runs"}
    assert document["speedup"]["flops"] is None
    low, high = document["bench"]["latency_interval"]
    assert low <= document["speedup"]["latency"] <= high
    assert document["speedup"]["latency"] == pytest.approx(seconds_of(net(64)) / seconds_of(net(16)), rel=0.1)


def test_the_conditions_tell_what_was_timed(net):
    told = bench(net(8), net(8), backend=Simulated("gpu", 3, version="2.0"), seconds=0).to_json()["bench"]["conditions"]
    assert (told["runtime"], told["provider"], told["threads"]) == ("simulated", "gpu", 3)
    assert told["machine"] == {"simulated": "2.0", "cpu": "an abacus", "cores": 8}


def test_efficiency_is_latency_speedup_per_flops_speedup(net):
    macs = ({"conv0": 6.0, "conv1": 12.0}, {"conv0": 3.0, "conv1": 3.0})
    result = bench(net(64), net(16), backend=Simulated(), seconds=0.3, layers=True, macs=macs)
    assert result.model.flops == 3.0
    assert result.model.efficiency == pytest.approx(result.latency.value / 3)
    layers = {layer.name: layer for layer in result.layers}
    assert (layers["conv0"].flops, layers["conv1"].flops, layers["conv2"].flops) == (2.0, 4.0, None)
    assert layers["conv1"].efficiency == pytest.approx(layers["conv1"].latency / 4)
    assert [layer["name"] for layer in result.to_json()["bench"]["layers"]][:4] == ["conv0", "conv1", "conv2", "fc"]


def test_files_and_models_can_be_mixed(net, tmp_path):
    ir.save(net(16), tmp_path / "slim.onnx")
    found = bench(net(64), tmp_path / "slim.onnx", backend=Simulated(), seconds=0.2)
    assert found.latency.value == pytest.approx(seconds_of(net(64)) / seconds_of(net(16)))


def test_a_batch_fills_the_open_axis(net):
    model, backend = net(32, batch="N"), Simulated()
    one, eight = (bench(model, model, batch=b, backend=backend, seconds=0.2) for b in (None, 8))
    assert one.conditions.inputs == {"x": (1, 3, 16, 16)}
    assert eight.conditions.inputs == {"x": (8, 3, 16, 16)}
    assert eight.model.ms[0] == pytest.approx(8 * one.model.ms[0])


def test_a_batch_fills_every_axis_of_that_symbol_and_no_other(text):
    model = text("(float[N,4] x, float[M,4] z, float[N] u) => (float[N,4] y, float[M,4] v, float[N] t) {"
                 " y = Relu(x) v = Relu(z) t = Relu(u) }")  # fmt: skip
    result = bench(model, model, inputs={"z": (5, 4)}, batch=3, backend=Simulated(), seconds=0.1, min_runs=2)
    assert result.conditions.inputs == {"x": (3, 4), "z": (5, 4), "u": (3,)}


def test_a_fixed_batch_of_another_size_is_bad_input(net):
    assert bench(net(8), net(8), batch=1, backend=Simulated(), seconds=0).conditions.inputs["x"][0] == 1
    with pytest.raises(BadInput, match="`batch` 4: input x has a fixed batch of 1"):
        bench(net(8), net(8), batch=4)


def test_models_with_other_inputs_are_bad_input(net):
    with pytest.raises(BadInput, match="x=1x3x8x8, but g takes x=1x3x16x16"):
        bench(net(8), net(8, size=8))


def test_integer_inputs_stay_below_their_bounds(text):
    model = text("(int64[64] ids) => (float[64,4] y) <float[9,4] w> { y = Gather(w, ids) }")
    result = bench(model, model, bounds={"ids": 9}, backend=Simulated(), seconds=0.1, min_runs=2)
    feed = result.conditions.feed(model)
    assert feed["ids"].min() >= 0
    assert feed["ids"].max() == 8
