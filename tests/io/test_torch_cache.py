"""Graphs exported before are found again, without their weights, and used only if they compute what the module does."""

import copy
import functools
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from slimnet.common.clock import Clock
from slimnet.common.python_file import executed
from slimnet.graph.net import Net
from slimnet.io import torch_cache, torch_export
from slimnet.io.load import load
from slimnet.io.torch_arch import build
from slimnet.io.torch_cache import CachedGraph
from slimnet.io.torch_identity import Unknown, identity
from slimnet.pipeline.config import ModelConfig
from slimnet.pipeline.load import load_network

X = torch.ones(1, 3, 8, 8)


class Small(nn.Module):
    """A network with a bit of everything that decides what its graph is."""

    def __init__(self, width: int = 4, stride: int = 1, shift: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=stride)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 2)
        self.activation = F.relu
        self.sizes = [1, {"a": (2, 3)}]
        self.shift = torch.tensor([shift])
        self.register_buffer("order", torch.arange(2))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.norm(self.conv(x))) + self.shift
        return (self.fc(x.mean((2, 3))) * self.scale)[:, self.order]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which is there once something lies in it."""
    monkeypatch.setenv(torch_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes that were exported, each time again."""
    found: list[str] = []
    real = torch_export._exported
    monkeypatch.setattr(
        torch_export, "_exported", lambda module, *rest: found.append(type(module).__name__) or real(module, *rest)
    )
    return found


def loaded(module: nn.Module, **more: object) -> Net:
    return load(module, inputs="1x3x8x8", **more)


def trained(seed: int, **more: object) -> nn.Module:
    torch.manual_seed(seed)
    module = Small(**more).train()
    with torch.no_grad():
        module(torch.randn(4, 3, 8, 8))
        for p in module.parameters():
            p.add_(torch.randn_like(p))
    return module.eval()


def text(net: Net) -> bytes:
    return ir.to_proto(net.model).SerializeToString(deterministic=True)


def the_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


# -- hits --------------------------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_exported_and_the_graph_is_the_same(folder: Path, exports: list[str]) -> None:
    first, second = loaded(trained(0)), loaded(trained(0))
    assert exports == ["Small"]
    assert text(first) == text(second)
    assert list(first.model.graph.initializers) == list(second.model.graph.initializers)


def test_weights_are_those_of_the_module(folder: Path, exports: list[str]) -> None:
    loaded(trained(0))
    other = trained(1)
    net = loaded(other)
    assert exports == ["Small"]
    assert text(net) == text(loaded(other, cache=False))
    assert np.array_equal(net.params()["conv.weight"], other.conv.weight.detach())
    assert the_file(folder).stat().st_size < 20_000


def test_without_the_cache_nothing_is_kept(folder: Path, exports: list[str]) -> None:
    loaded(trained(0), cache=False)
    load_network(ModelConfig(model=saved(folder.parent / "x.pth"), arch="models:lenet5", cache=False), Clock())
    assert exports == ["Small", "LeNet5"]
    assert not folder.exists()


@pytest.mark.slow
def test_the_second_run_of_a_command_does_not_import_the_exporter(imported, folder: Path, tmp_path: Path) -> None:
    words = ("trace", "--arch", "models:lenet5", "--input", "1x1x28x28", saved(tmp_path / "lenet.pth"))
    assert "onnxscript" in imported(*words)
    assert "onnxscript" not in imported(*words)


def saved(file: Path) -> Path:
    torch.save(build("models:lenet5").state_dict(), file)
    return file


# -- what decides a graph ----------------------------------------------------------------------------------------------


def number(module: nn.Module, x: torch.Tensor = X) -> str:
    return identity(module.eval(), ((x,), {}))


def test_values_of_weights_and_counters_do_not_matter() -> None:
    assert len({number(trained(0)), number(trained(1)), number(Small())}) == 1


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    module = Small()
    change(module)
    return module


CHANGED = {
    "a width": lambda: Small(width=5),
    "an attribute of a layer": lambda: Small(stride=2),
    "a tensor that is no buffer": lambda: Small(shift=2.0),
    "a function": lambda: changed(lambda m: setattr(m, "activation", F.gelu)),
    "a list": lambda: changed(lambda m: m.sizes[1].update(a=(2, 4))),
    "an integer buffer": lambda: changed(lambda m: m.order.add_(-1)),
    "a single number": lambda: changed(lambda m: m.scale.add_(1)),
    "a type": lambda: Small().double(),
    "a layer": lambda: changed(lambda m: setattr(m, "norm", nn.InstanceNorm2d(4))),
    "a missing bias": lambda: changed(lambda m: setattr(m.conv, "bias", None)),
    "a tied weight": lambda: changed(lambda m: setattr(m.norm, "bias", m.norm.weight)),
    "order in memory": lambda: Small().to(memory_format=torch.channels_last),
    "a partial": lambda: changed(lambda m: setattr(m, "activation", functools.partial(F.relu, inplace=True))),
}


@pytest.mark.parametrize("what", CHANGED)
def test_whatever_else_changes_is_another_graph(what: str) -> None:
    assert number(CHANGED[what]()) != number(Small())


def test_other_inputs_and_settings_are_another_graph() -> None:
    ours = number(Small())
    assert number(Small(), torch.ones(2, 3, 8, 8)) != ours
    assert number(Small(), X.double()) != ours
    assert identity(Small().eval(), ((), {"x": X})) != ours
    assert identity(Small().train(), ((X,), {})) != ours


def test_another_forward_is_another_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = number(Small())
    monkeypatch.setattr(Small, "forward", lambda self, x: self.fc(self.conv(x).mean((2, 3))))
    assert number(Small()) != ours


def test_another_source_is_another_graph(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    found = set()
    for scale in (1, 1, 2):
        file.write_text(f"from torch import nn\nSCALE = {scale}\nclass Net(nn.Conv2d):\n"
                        "    def forward(self, x): return SCALE * super().forward(x)\n")  # fmt: skip
        found.add(number(executed(file).Net(3, 3, 1)))
    assert len(found) == 2


def closure(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: factor * F.relu(x)


UNKNOWN = {
    "a hook": lambda m: m.conv.register_forward_hook(lambda *_: None),
    "its own forward": lambda m: setattr(m.conv, "forward", F.relu),
    "a closure": lambda m: setattr(m, "activation", closure(2.0)),
    "a module that is no submodule": lambda m: m.sizes.append(nn.Linear(1, 1)),
    "a thing": lambda m: setattr(m, "thing", iter(())),
    "TorchScript": lambda m: setattr(m, "conv", torch.jit.script(m.conv)),
}


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_compared_is_not_cached(folder: Path, what: str) -> None:
    module = changed(UNKNOWN[what])
    with pytest.raises(Unknown):
        number(module)
    assert CachedGraph(module, ((X,), {})).read() is None
    assert not folder.exists()


def test_what_holds_for_one_run_only_is_not_cached(folder: Path) -> None:
    class Deciding(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > -1e9 else x

    assert load(Deciding(3, 3), inputs="1x3").notes
    assert not folder.exists()


# -- files that are not what they should be ----------------------------------------------------------------------------


def other_graph(content: bytes) -> bytes:
    """A graph that is in order and adds something to the output."""
    model = ir.from_proto(onnx.load_model_from_string(content[32:]))
    (output,) = model.graph.outputs
    one = ir.tensor(np.float32([1.0]), name="one")
    value = ir.Value(name="one", const_value=one, shape=one.shape, type=ir.TensorType(one.dtype))
    model.graph.register_initializer(value)
    node = ir.node("Add", [output, value])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "more", output.shape, output.type
    model.graph.append(node)
    model.graph.outputs[0] = node.outputs[0]
    packed = ir.to_proto(model).SerializeToString()
    return hashlib.sha256(packed).digest() + packed


def of_no_graph(_: bytes) -> bytes:
    return hashlib.sha256(b"what").digest() + b"what"


DAMAGED = {
    "a flipped bit": lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
    "half a file": lambda content: content[: len(content) // 2],
    "nothing": lambda content: b"",
    "no graph": of_no_graph,
    "another graph": other_graph,
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_file_that_was_changed_is_not_used_and_replaced(folder: Path, exports: list[str], how: str) -> None:
    wanted = text(loaded(trained(0)))
    file = the_file(folder)
    file.write_bytes(DAMAGED[how](file.read_bytes()))
    assert text(loaded(trained(0))) == wanted
    assert text(loaded(trained(0))) == wanted
    assert exports == ["Small", "Small"]


def test_a_graph_under_the_name_of_another_is_not_used(folder: Path, exports: list[str]) -> None:
    loaded(trained(0))
    file = the_file(folder)
    loaded(trained(0, stride=2))
    (other,) = set(folder.iterdir()) - {file}
    other.write_bytes(file.read_bytes())
    wanted = text(loaded(trained(0, stride=2), cache=False))
    assert text(loaded(trained(0, stride=2))) == wanted


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no such permissions here")
@pytest.mark.parametrize("whose", ["folder", "file", "link"])
def test_what_others_may_write_to_is_not_used(folder: Path, exports: list[str], whose: str) -> None:
    loaded(trained(0))
    file = the_file(folder)
    if whose == "link":
        file.rename(folder.parent / "elsewhere")
        file.symlink_to(folder.parent / "elsewhere")
    else:
        (folder if whose == "folder" else file).chmod(0o777)
    loaded(trained(0))
    assert exports == ["Small", "Small"]


def test_large_graphs_are_neither_kept_nor_read(folder: Path, exports: list[str], monkeypatch) -> None:
    loaded(trained(0))
    monkeypatch.setattr(torch_cache, "LARGEST", 100)
    loaded(trained(0))
    assert exports == ["Small", "Small"]
    assert not list(folder.iterdir())


def test_the_longest_unused_go_first(folder: Path, exports: list[str], monkeypatch) -> None:
    loaded(trained(0))
    monkeypatch.setattr(torch_cache, "ALTOGETHER", int(2.5 * the_file(folder).stat().st_size))
    for age, width in ((100, 5), (200, 6)):
        before = set(folder.iterdir())
        loaded(trained(0, width=width))
        for file in set(folder.iterdir()) - before:
            os.utime(file, (age, age))
    assert len(list(folder.iterdir())) == 2
    loaded(trained(0))
    loaded(trained(0, width=6))
    assert exports == ["Small", "Small", "Small"]


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_no_mistake(tmp_path: Path, monkeypatch, where: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(torch_cache.VARIABLE, str(tmp_path / where))
    assert loaded(trained(0)).params()


def test_many_at_once_see_whole_files(folder: Path) -> None:
    module = trained(0)
    model = loaded(module, cache=False).model
    modules = [copy.deepcopy(module) for _ in range(12)]

    def both(module: nn.Module) -> bool:
        place = CachedGraph(module, ((X,), {}))
        place.write(model)
        return place.read() is not None

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(both, modules))
    assert len(list(folder.iterdir())) == 1


def test_the_folder_is_that_of_the_user(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv(torch_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert torch_cache.cache_folder() == tmp_path / "slimnet" / "graphs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert torch_cache.cache_folder() == tmp_path / ".cache" / "slimnet" / "graphs"
