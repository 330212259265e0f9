import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.io.load import load
from slimnet.io.torch_arch import build
from slimnet.io.torch_module import load_torch
from tests.networks.files import DIGITS

ARCH = "models:lenet_300_100"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {name: torch.rand_like(tensor) for name, tensor in build(ARCH).state_dict().items()}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(content: Any, name: str = "net.pt") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def refusal(path: Path | None, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        load_torch(path, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert path is None or str(path) in str(caught.value)
    return str(caught.value)


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda w: {"model": w},
        lambda w: {"model_state_dict": prefixed(w, "module.")},
        lambda w: {"net": {"state_dict": w}},
        lambda w: {"ema": w},
        lambda w: prefixed(w, "module."),
        lambda w: prefixed(w, "_orig_mod."),
        lambda w: prefixed(w, "module._orig_mod."),
        lambda w: {"n_averaged": torch.tensor(3), **prefixed(w, "module.")},
        lambda w: {"state_dict": {**prefixed(w, "model."), "loss.weight": torch.ones(2)}},
        lambda w: {"fc1.total_ops": torch.ones(1), **w},
    ],
)
def test_wrappers_and_prefixes(
    wrap: Callable[[Any], Any], weights: dict[str, torch.Tensor], saved: Callable[[Any], Path]
) -> None:
    source = load_torch(saved(wrap(weights)), ARCH)
    assert all(torch.equal(t, weights[name]) for name, t in source.module.state_dict().items())
    assert (source.arch, source.inputs, source.module.training) == (ARCH, ("1x1x28x28",), False)


def test_masks_of_torch_prune_are_applied(weights: dict[str, torch.Tensor], saved: Callable[[Any], Path]) -> None:
    state = dict(weights)
    state["fc1.weight_orig"] = state.pop("fc1.weight")
    state["fc1.weight_mask"] = torch.zeros_like(state["fc1.weight_orig"])
    state["fc1.weight_mask"][3] = 1
    weight = load_torch(saved(state), ARCH).module.fc1.weight
    assert torch.equal(weight[3], weights["fc1.weight"][3])
    assert weight.count_nonzero() == weight[3].count_nonzero()


def test_names_of_published_densenets(saved: Callable[[Any], Path]) -> None:
    state = build("torchvision:densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor for name, tensor in state.items()}
    assert old.keys() != state.keys()
    assert load_torch(saved(old), "torchvision:densenet121").arch == "torchvision:densenet121"


def test_truncated_safetensors(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "is not a safetensors file, or is truncated" in refusal(path, arch=ARCH)


def test_bundled_checkpoint_names_its_architecture_and_input() -> None:
    source = load_torch(DIGITS)
    assert (source.arch, source.inputs) == ("models:digits_resnet", ("1x1x8x8",))
    assert source.notes["data"] == "digits"


def test_safetensors(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    notes = {"arch": ARCH, "input": json.dumps(["x=2x1x28x28"])}
    save_file(weights, tmp_path / "net.safetensors", metadata=notes)
    source = load_torch(tmp_path / "net.safetensors")
    assert torch.equal(source.module.fc1.weight, weights["fc1.weight"])
    assert source.inputs == ("x=2x1x28x28",)
    assert load_torch(tmp_path / "net.safetensors", inputs="3x1x28x28").inputs == ("3x1x28x28",)


def test_whole_module_needs_the_flag(saved: Callable[[Any], Path]) -> None:
    path = saved(build(ARCH))
    assert "pass `unsafe_pickle` if you trust it (it wants _slimnet_arch_" in refusal(path, arch=ARCH)
    source = load_torch(path, inputs="1x1x28x28", unsafe_pickle=True)
    assert (type(source.module).__name__, source.arch) == ("LeNet300100", None)
    assert load(path, inputs="1x1x28x28", unsafe_pickle=True).inputs == {"x": (1, 1, 28, 28)}


def test_wrapped_module_with_the_flag(saved: Callable[[Any], Path], weights: dict[str, torch.Tensor]) -> None:
    module = build(ARCH)
    module.load_state_dict(weights)
    path = saved({"model": module, "epoch": 1})
    assert torch.equal(load_torch(path, unsafe_pickle=True).module.fc1.weight, weights["fc1.weight"])
    assert torch.equal(load_torch(path, ARCH, unsafe_pickle=True).module.fc1.weight, weights["fc1.weight"])


def test_pickle_with_more_than_tensors_needs_the_flag(
    saved: Callable[[Any], Path], weights: dict[str, torch.Tensor]
) -> None:
    path = saved({"state_dict": weights, "args": argparse.Namespace(lr=0.1)})
    message = refusal(path, arch=ARCH)
    assert "pass `unsafe_pickle` if you trust it (it wants argparse.Namespace)" in message
    assert load_torch(path, ARCH, unsafe_pickle=True).arch == ARCH


def test_random_weights_without_a_file() -> None:
    assert load_torch(None, ARCH).inputs == ("1x1x28x28",)
    assert "neither a file nor `arch` is given" in refusal(None)


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.pt", arch=ARCH)


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, not a network", b"\x80\x02}q\x00"])
def test_garbage(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert "is not a" in refusal(path, arch=ARCH)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(zipped: bool, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is not a PyTorch checkpoint, or is truncated" in refusal(path, arch=ARCH)


def test_no_architecture(weights: dict[str, torch.Tensor], saved: Callable[[Any], Path]) -> None:
    assert "holds weights but no architecture; pass `arch`" in refusal(saved(weights))


@pytest.mark.parametrize("arch", ["resnet50", "net.py:Net", "os:system"])
def test_architecture_inside_may_not_be_code(
    arch: str, weights: dict[str, torch.Tensor], saved: Callable[[Any], Path]
) -> None:
    path = saved({"arch": arch, "state_dict": weights})
    assert f"names its architecture as {arch!r}" in refusal(path)
    assert load_torch(path, ARCH).arch == ARCH


def test_missing_and_unexpected_keys(weights: dict[str, torch.Tensor], saved: Callable[[Any], Path]) -> None:
    state = {("head" + name if name.startswith("fc3") else name): tensor for name, tensor in weights.items()}
    message = refusal(saved(state), arch=ARCH)
    assert f"does not fit `arch` {ARCH}" in message
    assert "missing in the file: fc3.weight, fc3.bias; unexpected in it: headfc3.weight, headfc3.bias" in message


def test_first_keys_only(saved: Callable[[Any], Path]) -> None:
    message = refusal(saved({"a": torch.ones(1)}), arch=ARCH)
    assert "missing in the file: fc1.weight, fc1.bias, fc2.weight and 3 more; unexpected in it: a" in message


def test_other_shapes(weights: dict[str, torch.Tensor], saved: Callable[[Any], Path]) -> None:
    message = refusal(saved(weights), arch=f"{ARCH}?num_classes=7")
    assert "fc3.weight is 10x100 in the file, 7x100 in the network: perhaps `arch` needs keywords" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (torch.ones(3), "holds a Tensor, not a state_dict"),
        ({"epoch": 3}, "no weights found under its keys (epoch)"),
        ({"state_dict": {}}, "no weights found under its keys (none)"),
    ],
)
def test_no_state_dict(content: Any, complaint: str, saved: Callable[[Any], Path]) -> None:
    assert complaint in refusal(saved(content), arch=ARCH)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("unsafe_pickle", [True, False])
def test_torchscript(unsafe_pickle: bool, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "net.pt")
    assert "is a TorchScript archive" in refusal(tmp_path / "net.pt", arch=ARCH, unsafe_pickle=unsafe_pickle)
