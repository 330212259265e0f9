import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.io.load import load


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    batch = torch.export.Dim("batch")
    return torch.export.export(net, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: batch},))


@pytest.fixture
def path(program: torch.export.ExportedProgram, tmp_path: Path) -> Path:
    torch.export.save(program, tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def rewritten(path: Path, record: str, edit: Callable[[bytes], bytes]) -> Path:
    """The archive with one record changed."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    name = next((n for n in contents if n.endswith(record)), f"net/{record}")
    contents[name] = edit(contents.get(name, b""))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def rewritten_json(path: Path, record: str, edit: Callable[[Any], None]) -> Path:
    def apply(data: bytes) -> bytes:
        content = json.loads(data)
        edit(content)
        return json.dumps(content).encode()

    return rewritten(path, record, apply)


def test_loads_with_names_and_the_inputs_it_was_exported_with(path: Path) -> None:
    net = load(path)
    assert (net.name, net.inputs, net.torch) == ("net", {"input": (2, 3, 8, 8)}, None)
    assert set(net.params()) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert load(path, inputs="5x3x8x8").inputs == {"input": (5, 3, 8, 8)}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        load(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_input(path: Path) -> None:
    assert "does not fit input" in refusal(path, inputs="1x3x9x9")


def test_other_files(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.pt2")
    (tmp_path / "net.pt2").write_bytes(b"hello")
    assert "is not a .pt2 file of torch 2.8 or newer" in refusal(tmp_path / "net.pt2")
    torch.save({"a": torch.ones(1)}, tmp_path / "net.pt2")
    assert "is not a .pt2 file of torch 2.8 or newer" in refusal(tmp_path / "net.pt2")


def node(program: Any) -> Any:
    return program["graph_module"]["graph"]["nodes"][0]


def sizes(value: Any) -> list[Any]:
    """All symbolic sizes in a program."""
    if isinstance(value, dict):
        own = [value] if "expr_str" in value else []
        return own + [found for item in value.values() for found in sizes(item)]
    return [found for item in value for found in sizes(item)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "target", ["torch.hub.load", "_operator.call", "torch.ops.aten.from_file.default", "os.system"]
)
def test_calls_to_anything_but_operators(target: str, path: Path) -> None:
    rewritten_json(path, "models/model.json", lambda p: node(p).update(target=target))
    assert f"may run code when read (it calls {target}); pass `unsafe_pickle`" in refusal(path)


@pytest.mark.parametrize("size", ["__import__('os').system('true')", "exec(chr(49))", "s0.__class__"])
def test_sizes_that_are_code(size: str, path: Path) -> None:
    rewritten_json(path, "models/model.json", lambda p: sizes(p)[0].update(expr_str=size))
    assert f"a size is {size}" in refusal(path)


def test_pickled_weights(path: Path) -> None:
    rewritten_json(path, "weights_config.json", lambda c: c["config"]["0.weight"].update(use_pickle=True))
    assert "holds pickled tensors" in refusal(path)


def test_pickled_example_inputs(path: Path, tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    rewritten(path, "sample_inputs/model.pt", lambda _: (tmp_path / "module.pt").read_bytes())
    assert "sample_inputs/model.pt is not plain data" in refusal(path)


def test_compiled_libraries(path: Path) -> None:
    rewritten(path, "data/aotinductor/model/net.so", lambda _: b"\x7fELF")
    assert "it holds data/aotinductor/model/net.so" in refusal(path)
