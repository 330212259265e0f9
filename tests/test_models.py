"""The reference networks are the published ones: parameters, multiply-adds and names as the papers' code has them."""

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from models import INPUTS, ZOO
from models.cnn import cnn
from models.mlp import mlp
from models.resnet_cifar import PadShortcut, resnet20
from slimnet.data.sources.digits import load_digits_split
from tests.networks.files import DIGITS


def build(name: str) -> nn.Module:
    file, factory = ZOO[name].split(":")
    return getattr(importlib.import_module(f"models.{file.removesuffix('.py')}"), factory)().eval()


def params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def forward(model: nn.Module, shape: tuple[int, ...]) -> tuple[torch.Tensor, int]:
    """The output for one random image, and the multiply-adds of conv and linear layers, biases not counted."""
    macs: list[int] = []

    def count(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
        macs.append(layer.weight.numel() * output[0, 0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        return model(torch.rand(shape)), sum(macs)


@pytest.mark.parametrize(
    ("name", "classes", "expected_params", "expected_macs"),
    [
        ("lenet_300_100", 10, 266_610, 266_200),
        ("lenet5", 10, 431_080, 2_293_000),
        ("convnet", 10, 145_578, 12_354_176),
        ("resnet20", 10, 269_722, 40_551_040),
        ("resnet32", 10, 464_154, 68_862_592),
        ("resnet56", 10, 853_018, 125_485_696),
        ("resnet110", 10, 1_727_962, 252_887_680),
        ("vgg19", 100, 20_081_188, 398_182_400),
        ("mlp", 10, 136_074, 135_680),
        ("cnn", 10, 1_558_026, 58_397_696),
        ("digits_resnet", 10, 306_122, 8_426_752),
    ],
)
def test_counts_and_shapes(name: str, classes: int, expected_params: int, expected_macs: int) -> None:
    model = build(name)
    output, macs = forward(model, INPUTS[name])
    assert output.shape == (1, classes)
    assert params(model) == expected_params
    assert macs == expected_macs


def test_every_network_of_the_zoo_has_an_input() -> None:
    assert INPUTS.keys() == ZOO.keys()


def test_mlp_and_cnn_fit_other_data() -> None:
    assert params(mlp((3, 32, 32))) == 428_938
    assert cnn(in_channels=1)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_resnet_has_the_parameter_names_of_the_shared_checkpoints() -> None:
    names = resnet20().state_dict().keys()
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3", "linear"}
    downsampling = {name.removeprefix("layer2.0.") for name in names if name.startswith("layer2.0.")}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert downsampling == {"conv1.weight", "conv2.weight", *(f"bn{i}.{part}" for i in (1, 2) for part in norm)}


def test_option_a_shortcut_subsamples_and_pads_both_sides() -> None:
    x = torch.rand(1, 16, 4, 4)
    y = PadShortcut(16, 32)(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_bundled_checkpoint_has_the_accuracy_it_states() -> None:
    checkpoint = torch.load(DIGITS, weights_only=True)
    assert checkpoint["arch"] == "models:digits_resnet"
    assert tuple(checkpoint["input"]) == INPUTS["digits_resnet"]
    model = build("digits_resnet")
    model.load_state_dict(checkpoint["state_dict"])
    images, labels = map(torch.from_numpy, load_digits_split()["test"])
    with torch.no_grad():
        accuracy = (model(images).argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(checkpoint["test_accuracy"], abs=1e-6)
    assert accuracy >= 0.985
