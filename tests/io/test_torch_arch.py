import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.io import torch_arch
from slimnet.io.torch_arch import build, vet, zoo_inputs

NET = """
from torch import nn
from sibling import WIDTH

class Net(nn.Module):
    def __init__(self, width=WIDTH, bias=True, name="a"):
        super().__init__()
        self.fc = nn.Linear(4, width, bias)
        self.name = name

    def forward(self, x):
        return self.fc(x)

def broken():
    raise ValueError("no weights here")

def nothing():
    return 3

ready = Net(7)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("WIDTH = 5")
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture(autouse=True)
def _forget_sibling() -> None:
    sys.modules.pop("sibling", None)


def refusal(arch: str) -> str:
    with pytest.raises(BadInput) as caught:
        build(arch)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file_with_keywords(file: Path) -> None:
    net = build(f"{file}:Net?width=3&bias=False&name=b")
    assert tuple(net.fc.weight.shape) == (3, 4)
    assert net.fc.bias is None
    assert net.name == "b"
    assert not net.training


def test_file_imports_its_neighbours_and_leaves_no_trace(file: Path) -> None:
    before = list(sys.path)
    assert build(f"{file}:Net").fc.out_features == 5
    assert sys.path == before


def test_module_made_at_import(file: Path) -> None:
    assert build(f"{file}:ready").fc.out_features == 7


def test_package_is_looked_for_in_the_working_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert build("net:Net").fc.out_features == 5
    del sys.modules["net"]


def test_random_weights_are_the_same_every_time_and_the_seed_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second = build("models:lenet5"), build("models:lenet5")
    assert torch.equal(first.conv1.weight, second.conv1.weight)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("arch", "classes"), [("torchvision:squeezenet1_1?num_classes=3", 3), ("models:lenet_300_100?num_classes=4", 4)]
)
def test_zoos(arch: str, classes: int) -> None:
    assert sum(p.numel() == classes for p in build(arch).parameters()) == 1


def test_segmentation_networks_fetch_no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("fetches weights"))
    assert isinstance(build("torchvision:lraspp_mobilenet_v3_large"), nn.Module)


def test_every_zoo_network_knows_its_input() -> None:
    assert zoo_inputs("models:digits_resnet?num_classes=3") == (1, 1, 8, 8)
    assert zoo_inputs("torchvision:resnet18") is None


@pytest.mark.parametrize("arch", ["resnet18", "resnet18:", ":x", ""])
def test_spec_is_not_understood(arch: str) -> None:
    assert "is not understood; use torchvision:NAME" in refusal(arch)


@pytest.mark.parametrize(
    ("arch", "complaint"),
    [
        ("torchvision:resnet19", "torchvision has no resnet19; did you mean resnet1"),
        ("models:lenet", "models has no lenet; did you mean lenet5"),
        ("no_such_package.x:Net", "cannot import no_such_package.x: No module named 'no_such_package'"),
        ("gone.py:Net", "gone.py: no such file"),
        ("models:lenet5?num_classes", "'num_classes' is not KEYWORD=VALUE"),
        ("models:lenet5?classes=3", "building it fails with TypeError"),
        ("{file}:Nett", "has no Nett; did you mean Net?"),
        ("{file}:broken", "building it fails with ValueError: no weights here"),
        ("{file}:nothing", "gives a int, not a torch.nn.Module"),
    ],
)
def test_bad_specs(arch: str, complaint: str, file: Path) -> None:
    assert complaint in refusal(arch.replace("{file}", str(file)))


def test_file_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    assert "bad.py: cannot be imported: ZeroDivisionError: division by zero" in refusal(f"{tmp_path}/bad.py:Net")


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(torch_arch.importlib, "import_module", missing)
    assert "timm is not installed; pip install timm" in refusal("timm:resnet18")
    assert "torchvision is not installed; pip install torchvision" in refusal("torchvision:resnet18")


def test_torchvision_of_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatched(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torch_arch.importlib, "import_module", mismatched)
    message = refusal("torchvision:resnet18")
    assert f"does not work with torch {torch.__version__}" in message
    assert "operator torchvision::nms does not exist" in message
    assert "pip install --force-reinstall torch torchvision" in message


@pytest.mark.parametrize("arch", ["torchvision:resnet18", "models:lenet5?num_classes=3", "timm:resnet18?in_chans=1"])
def test_built_in_zoos_may_be_named_by_files(arch: str) -> None:
    assert vet(arch, Path("x.pt")) == arch


@pytest.mark.parametrize(
    ("arch", "complaint"),
    [
        ("net.py:Net", "names its architecture as 'net.py:Net', and only torchvision, timm, models count"),
        ("os:system", "only torchvision, timm, models count"),
        ("resnet50", "only torchvision, timm, models count"),
        ("timm:resnet18?pretrained=True", "sets pretrained, which a file may not"),
        ("timm:resnet18?checkpoint_path=/tmp/x", "sets checkpoint_path, which a file may not"),
    ],
)
def test_other_code_may_not(arch: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        vet(arch, Path("x.pt"))
    assert complaint in str(caught.value)
    assert "pass `arch` on the command line" in str(caught.value)
