import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.graph.optimise import optimise
from slimnet.io.load import load
from slimnet.io.torch_export import export_torch, not_exported
from slimnet.io.torch_forward import forward
from slimnet.pipeline.config import PruneConfig, RunConfig
from slimnet.pipeline.prune import prune
from slimnet.runtime.onnxruntime import DEFAULT


class Two(nn.Module):
    """Two inputs, tied weights, a tensor that is no parameter, one layer that is never used, and some noise."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.embedding.weight
        self.unused = nn.Linear(3, 3)
        self.scale = torch.full((8,), 2.0)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        print("noise")
        warnings.warn("more noise", stacklevel=1)
        hidden = self.norm((self.embedding(ids) * self.scale).transpose(1, 2)).transpose(1, 2)
        return {"logits": self.out(hidden), "hidden": hidden * mask.unsqueeze(-1)}


TWO = ["ids=1x7:int64", "mask=1x7"]


def test_graph_computes_what_the_module_computes_under_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    module = Two().eval()
    net = load(module, inputs=TWO)
    assert capsys.readouterr().out == ""
    assert net.inputs == {"ids": (1, 7), "mask": (1, 7)}
    ids, mask = torch.randint(20, (1, 7)), torch.rand(1, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = module(ids, mask)
    outputs = DEFAULT.session(net.model).run({"ids": ids.numpy(), "mask": mask.numpy()})
    for output, wanted in zip(outputs, expected.values(), strict=True):
        np.testing.assert_allclose(output, wanted.detach().numpy(), atol=1e-5)

    assert {"norm.weight", "norm.bias", "norm.running_mean", "scale"} <= set(net.params())
    assert not_exported(net) == ["unused.weight", "unused.bias"]


def test_nothing_but_the_weights_is_left_of_an_export() -> None:
    net = load(nn.Linear(4, 3), inputs=(1, 4))
    assert not any(node.metadata_props for node in net.model.graph)
    assert logging.root.manager.disable == 0


def test_half_precision_and_order_of_positional_inputs() -> None:
    class Sum(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b.sum()

    net = load(Sum(), inputs=["1x4:float16", "5:float16"])
    assert net.inputs == {"a": (1, 4), "b": (5,)}
    assert {str(v.dtype) for v in net.model.graph.inputs} == {"FLOAT16"}


def test_dynamic_batch() -> None:
    source = load(None, "models:lenet5").torch
    assert source is not None
    net = export_torch(source, "lenet5", dynamic_batch=True)
    assert net.inputs == {"x": (1, 1, 28, 28)}
    assert [str(d) for d in net.model.graph.inputs[0].shape or ()] == ["batch", "1", "28", "28"]
    x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        expected = source.module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(DEFAULT.session(net.model).run({"x": x})[0], expected, atol=1e-5)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.body(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (None, "Branch: the shape of its input is not known; give it, such as `inputs` 1x3x224x224"),
        ("1x5", "does not run on the given `inputs`: body.0 (Linear) raises RuntimeError"),
        ("z=1x4", "`inputs`: missing a required argument: 'x' of Branch.forward(x: torch.Tensor, y: "),
        (["x=1x4", "z=1x4"], "got an unexpected keyword argument 'z' of Branch.forward"),
        (["1x4", "1x4", "1x4"], "too many positional arguments of Branch.forward"),
    ],
)
def test_bad_input(inputs: str | list[str] | None, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(Branch(), inputs=inputs)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_modules_and_paths_are_loaded() -> None:
    with pytest.raises(BadInput, match="cannot load a int"):
        load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_a_convolution_without_bias_gets_none(kind: type[nn.Module]) -> None:
    module = nn.Sequential(kind(3, 8, 3, padding=1, bias=False), nn.ReLU(), kind(8, 4, 3, bias=False)).eval()
    x = torch.randn(1, 3, *[6] * int(kind.__name__[4]))
    net = load(module, inputs=tuple(x.shape))
    assert [(node.op_type, len(node.inputs)) for node in net.model.graph] == [("Conv", 2), ("Relu", 1), ("Conv", 2)]
    (found,) = DEFAULT.session(net.model).run({"input": x.numpy()})
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-5)


class Fields(NamedTuple):
    scores: torch.Tensor
    boxes: torch.Tensor


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] | None = None
    steps: int = 3


class Returns(nn.Module):
    """Returns what `how` makes of its input x and two results y and z."""

    def __init__(self, how: Callable[..., Any]) -> None:
        super().__init__()
        self.body, self.head, self.how = nn.Linear(8, 6), nn.Linear(6, 3), how

    def forward(self, x: torch.Tensor) -> Any:
        h = torch.relu(self.body(x))
        return self.how(x, self.head(h), self.head(h + 1))


class Decides(Returns):
    """The same by way of TorchScript."""

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x if x.sum() > -1e9 else -x)


RETURNED: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "nested": (lambda x, y, z: {"a": {"b": y}, "c": [z, y + 1], 0: z + 1}, ["a_b", "c_0", "c_1", "0"]),
    "a value twice": (lambda x, y, z: {"p": y, "q": y, "r": z}, ["p", "q", "r"]),
    "the input": (lambda x, y, z: {"x": x, "again": x, "y": y}, ["x_out", "again", "y"]),
    "the name of the input": (lambda x, y, z: {"x": y, "x_out": z}, ["x_out", "x_out_out"]),
    "the name of a weight": (lambda x, y, z: {"body.weight": y, "z": z}, ["body.weight_out", "z"]),
    "the name of an inner value": (lambda x, y, z: {"relu": y, "linear": z}, ["relu", "linear"]),
    "one name twice": (lambda x, y, z: {"a": {"b": y}, "a_b": z}, ["a_b", "a_b_out"]),
    "named tuple": (lambda x, y, z: Fields(y, z), ["scores", "boxes"]),
    "named tuple of torch": (lambda x, y, z: torch.max(y, 1), ["values", "indices"]),
    "named tuple in a dict": (lambda x, y, z: {"out": Fields(y, z)}, ["out_scores", "out_boxes"]),
    "dataclass": (lambda x, y, z: Output(y, (z, z + 1)), ["logits", "hidden_0", "hidden_1"]),
    "dataclass in a tuple": (lambda x, y, z: (Output(y),), ["logits"]),
    "values": (
        lambda x, y, z: {"n": 3, "y": y, "f": np.float32(1), "s": "hi", "o": None, "e": [], "b": [True, z]},
        ["y", "b_1"],
    ),
    "a dict of a subclass": (lambda x, y, z: OrderedDict(b=y, a=z), ["b", "a"]),
}


@pytest.mark.parametrize("kind", [Returns, Decides])
@pytest.mark.parametrize(("how", "names"), RETURNED.values(), ids=RETURNED)
def test_outputs_are_called_by_the_keys_of_what_a_module_returns(
    kind: type[Returns], how: Callable[..., Any], names: list[str]
) -> None:
    module = kind(how).eval()
    net = load(module, inputs="1x8")
    x = torch.rand(1, 8)
    session = DEFAULT.session(small := optimise(net.model))
    expected = forward(module, [x], {})
    assert len(expected) == len(names)
    for found, wanted in zip(session.run({"x": x.numpy()}), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    for model in (net.model, small):
        assert [value.name for value in model.graph.inputs] == ["x"]
        assert [value.name for value in model.graph.outputs] == names


@pytest.mark.parametrize("kind", [Returns, Decides])
def test_outputs_without_a_usable_key_have_the_names_of_the_graph(kind: type[Returns]) -> None:
    for how in (lambda x, y, z: {"": y, "z": z}, lambda x, y, z: (y, {"z": z})):
        first, second = (value.name for value in load(kind(how), inputs="1x8").model.graph.outputs)
        assert first
        assert second == "z"


def test_a_returned_object_that_is_not_known_is_told_in_one_line() -> None:
    with pytest.raises(
        BadInput, match=r"^Returns: forward returns a SimpleNamespace; let it return tensors, or a "
    ) as caught:
        load(Returns(lambda x, y, z: SimpleNamespace(y=y)), inputs="1x8")
    assert "\n" not in str(caught.value)


def test_a_network_that_returns_its_input_is_pruned(tmp_path: Path) -> None:
    module = Returns(lambda x, y, z: (x, y)).eval()
    report = prune(load(module, inputs="1x8"), PruneConfig(ratio=0.5), RunConfig(out=tmp_path, bench_seconds=0))
    assert report.verify.exact
    graph = onnx.load(tmp_path / "slim.onnx").graph
    assert [value.name for value in graph.input] == ["x"]
    assert graph.output[0].name == "x_out"
    assert len({value.name for value in graph.output}) == 2
