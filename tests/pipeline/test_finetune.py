"""Pruning with training, from a module to a file that computes what the trained module computes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import slimnet
import slimnet.methods
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.data.load import Data
from slimnet.pipeline.config import PruneConfig, RunConfig, TrainConfig
from slimnet.pipeline.prune import prune
from slimnet.runtime.accuracy import accuracy_of
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.training.accelerator import accelerator_for
from slimnet.training.graph import arrays_of, refreshed, with_weights
from slimnet.training.loop import Run
from slimnet.training.phase import Phase
from tests.networks.graphs import net
from tests.networks.modules import cnn, mlp, small_digits

QUICK = Phase(epochs=2, lr=0.02, batch_size=32)
TRAIN = TrainConfig(sparsify=QUICK, finetune=QUICK, device="cpu")


class HardCoded(nn.Module):
    """Its forward knows a width, so no slim module can run it."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8 * 64, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).view(-1, 512))


def trained(make, epochs=12):
    torch.manual_seed(0)
    module, phase = make(), Phase(epochs=epochs, lr=0.1, batch_size=32)
    Run(accelerator_for(phase, "cpu"), module, small_digits(512), phase).fit()
    return module


def pruned(module, folder, method="group-hs", ratio=0.5, sparsify=QUICK, finetune=QUICK, **options):
    data = small_digits()
    network = slimnet.load(module, inputs="1x1x8x8")
    config = PruneConfig(method=method, ratio=ratio, round_to=None, options=options)
    train = TrainConfig(sparsify=sparsify, finetune=finetune, device="cpu")
    return prune(network, config, RunConfig(out=folder, bench_seconds=0, data=data), train)


def shapes(folder):
    return {k: v.shape for k, v in slimnet.load(folder / "slim.onnx").params().items() if v.ndim > 1}


@pytest.mark.parametrize("method", ["group-hs", "l1"])
def test_the_slim_network_is_smaller_and_learns_again(tmp_path, method):
    report = pruned(trained(mlp), tmp_path, method, finetune=Phase(epochs=8, lr=0.05, batch_size=32)).content
    assert sorted(shapes(tmp_path).values()) == [(10, 12), (12, 16), (16, 64)]
    assert report["training"]["finetune"]["module"] == "slim"
    assert report["accuracy"]["after"] > report["accuracy"]["pruned"]
    assert report["verify"]["exact"]
    assert {"trace", "slim", "verify", "finetune"} <= report["timing_s"].keys()
    assert ("sparsify" in report["timing_s"]) == (method == "group-hs")


def test_the_reported_accuracy_is_that_of_the_file(tmp_path):
    report = pruned(trained(cnn), tmp_path).content
    data, network = small_digits(), slimnet.load(tmp_path / "slim.onnx")
    assert accuracy_of(network.model, network, data.test) == report["accuracy"]["after"]


@pytest.mark.parametrize("net_", [cnn, HardCoded])
def test_half_precision_stays_in_training(tmp_path, net_):
    """What is shrunk, exported and measured is in single precision, on the slim module and on the masked one."""
    half = replace(QUICK, precision="bf16", channels_last=net_ is cnn)
    report = pruned(trained(net_, 1), tmp_path, "greg-1", sparsify=half, finetune=half).content
    assert report["verify"]["exact"]
    data, network = small_digits(), slimnet.load(tmp_path / "slim.onnx")
    assert {array.dtype for array in network.params().values() if array.ndim > 1} == {np.dtype(np.float32)}
    assert accuracy_of(network.model, network, data.test) == report["accuracy"]["after"]


def test_a_view_of_feature_maps_refuses_channels_last(tmp_path):
    with pytest.raises(BadInput, match="channels_last"):
        pruned(trained(HardCoded, 1), tmp_path, finetune=replace(QUICK, channels_last=True))


def test_the_saved_module_is_the_fine_tuned_one(tmp_path):
    module = trained(cnn)
    network = slimnet.load(None, arch=f"{__file__}:cnn", inputs="1x1x8x8")
    network.torch.module.load_state_dict(module.state_dict())
    network = refreshed(network, network.torch.module)
    data = small_digits()
    config, run = PruneConfig(method="l2", round_to=None), RunConfig(out=tmp_path, bench_seconds=0, data=data)
    prune(network, config, run, TRAIN)
    slim = slimnet.load_slim(tmp_path, arch=f"{__file__}:cnn")
    x = data.test.__getitems__([3])[0]
    output = DEFAULT.session(slimnet.load(tmp_path / "slim.onnx").model).run({"input": x})[0]
    assert np.allclose(slim(torch.from_numpy(x)).detach().numpy(), output, atol=1e-4 * np.abs(output).max())


@pytest.mark.parametrize("method", ["l1", "group-hs"])
def test_a_forward_that_knows_a_width_is_tuned_masked(tmp_path, method):
    report = pruned(trained(HardCoded), tmp_path, method).content
    record = report["training"]["finetune"]
    assert record["module"] == "masked"
    assert "view" in record["why"] or "shape" in record["why"]
    assert shapes(tmp_path) == {"conv.weight": (4, 1, 3, 3), "fc.weight": (10, 256)}
    assert report["accuracy"]["after"] > 0.7


def test_single_weights_go_and_empty_units_are_really_removed(tmp_path):
    """Large thresholds empty whole rows and whole input pixels."""
    report = pruned(trained(mlp), tmp_path, grouping="layers", threshold=0.9, alpha=0.02,
                    sparsify=Phase(epochs=6, lr=0.02, batch_size=32, schedule="constant")).content  # fmt: skip
    sparsity = report["sparsity"]
    assert sparsity["nonzero"] < 0.5 * sparsity["total"] == 0.5 * (64 * 32 + 32 * 24 + 24 * 10)
    params = slimnet.load(tmp_path / "slim.onnx").params()
    weights = [v for v in params.values() if v.ndim > 1]
    assert sum(np.count_nonzero(w) for w in weights) == sparsity["nonzero"]
    assert sum(w.size for w in weights) == sparsity["stored"] < sparsity["total"]
    assert report["macs"]["after"] == sparsity["stored"]
    assert report["verify"]["exact"]


def test_masked_weights_are_zero_in_the_file(tmp_path):
    report = pruned(trained(mlp), tmp_path, "hoyer-square", alpha=1e-3, threshold=0.3).content
    assert 0 < report["sparsity"]["nonzero"] < report["sparsity"]["total"]


def test_weights_are_written_by_name():
    network = slimnet.load(mlp(), inputs="1x1x8x8")
    other = trained(mlp, 1)
    model = with_weights(network.model, arrays_of(other))
    x = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    name = next(iter(network.inputs))
    assert np.allclose(DEFAULT.session(model).run({name: x})[0], other(torch.from_numpy(x)).detach(), atol=1e-5)
    assert not np.allclose(
        DEFAULT.session(network.model).run({name: x})[0], other(torch.from_numpy(x)).detach(), atol=1e-2
    )


def test_a_method_that_trains_needs_a_module():
    graph = net(
        """(float[1,1,8,8] x) => (y) <float[64,8] w, float[8,3] v>
        { f = Flatten(x) a = MatMul(f, w) b = Relu(a) y = MatMul(b, v) }"""
    )
    with pytest.raises(BadInput, match=r"needs `data`"):
        prune(graph, "group-hs")
    samples = Data("d", small_digits().train, None, small_digits().test, "none")
    with pytest.raises(BadInput, match=r"with `arch`"):
        prune(graph, "group-hs", RunConfig(data=samples), TRAIN)


def test_growing_regularisation_drives_the_norms_apart(tmp_path):
    """GReg, Fig. 1: what is to go shrinks against what stays."""
    phase = Phase(epochs=6, lr=0.02, batch_size=32, schedule="constant")
    epochs = pruned(trained(mlp), tmp_path, "greg-1", sparsify=phase).content["training"]["sparsify"]["epochs"]
    gaps = [record["norm kept"] / record["norm removed"] for record in epochs]
    assert gaps[-1] > 1.5 * gaps[0]


def test_one_threshold_compares_scores_as_the_training_method_says(monkeypatch):
    asked = []

    def normalise(self, groups, scores):
        asked.append(type(self).__name__)
        return list(scores)

    monkeypatch.setattr(slimnet.methods.GroupHS, "normalise", normalise)
    network = slimnet.load(mlp(), inputs="1x1x8x8")
    config = PruneConfig(method="group-hs", scope="global", round_to=None)
    train = replace(TRAIN, sparsify=replace(QUICK, epochs=1), finetune=replace(QUICK, epochs=0))
    prune(network, config, RunConfig(bench_seconds=0, prove=False, data=small_digits()), train)
    assert "GroupHS" in asked


def test_a_criterion_may_choose_what_a_method_removes(tmp_path):
    """GReg-1 on random picks removes just those, and l1's own on the same weights are others."""
    module, data = trained(mlp), small_digits()
    network = slimnet.load(module, inputs="1x1x8x8")
    kept = {}
    for method, picks in (("random", None), ("greg-1", "random"), ("greg-1", None)):
        out = tmp_path / f"{method}-{picks}"
        config = PruneConfig(method=method, round_to=None, picks=picks)
        run = RunConfig(out=out, bench_seconds=0, data=data)
        prune(network, config, run, replace(TRAIN, finetune=Phase(epochs=0)))
        kept[method, picks] = json.loads((out / "plan.json").read_text())["kept"]
    assert kept["greg-1", "random"] == kept["random", None] != kept["greg-1", None]


def test_fine_tuning_does_not_go_on_from_another_plan_of_the_same_widths(tmp_path):
    """l1 and largest keep as many filters, but others; the weights of one would be wrong for the other."""
    data, network = small_digits(), slimnet.load(trained(mlp), inputs="1x1x8x8")
    started = replace(TRAIN, finetune=replace(QUICK, epochs=1), checkpoints=tmp_path)
    config, run = PruneConfig(method="l1", round_to=None), RunConfig(bench_seconds=0, data=data)
    prune(network, config, run, started)  # writes nothing, so its checkpoint stays
    with pytest.raises(BadInput, match="plan="):
        prune(network, replace(config, method="largest"), run, replace(started, resume=True))


@pytest.mark.parametrize("method", ["group-hs", "taylor-l1", "fisher"])
def test_labels_need_outputs(method):
    few = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    network = slimnet.load(few, inputs="1x1x8x8")
    with pytest.raises(BadInput, match=r"10 classes.*4 outputs"):
        prune(network, method, RunConfig(data=small_digits()), TRAIN)


def test_data_without_a_training_split():
    data = small_digits()
    only_test = Data("file.npz", None, None, data.test, "none")
    network = slimnet.load(mlp(), inputs="1x1x8x8")
    with pytest.raises(BadInput, match="training split"):
        prune(network, "group-hs", RunConfig(data=only_test), TRAIN, clock=Clock())
