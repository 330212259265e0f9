"""Networks that torch.onnx cannot translate as they stand go another way, which a note names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from slimnet.common.errors import BadInput
from slimnet.graph.net import Net
from slimnet.graph.trace import trace
from slimnet.io.load import load
from slimnet.io.torch_export import WRITTEN_OUT, export_torch
from slimnet.methods.criteria import score
from slimnet.planning.budget import choose
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.verify import verify


def check_same(net: Net, module: nn.Module, *values: torch.Tensor) -> None:
    """The graph computes what the module computes on these values."""
    with torch.no_grad():
        expected = module(*values)
    feeds = {name: value.numpy() for name, value in zip(net.inputs, values, strict=True)}
    np.testing.assert_allclose(DEFAULT.session(net.model).run(feeds)[0], expected.numpy(), atol=1e-5)


def check_prunes(net: Net, *groups: str) -> None:
    """These groups are found, and removing half of each is exact."""
    traced = trace(net)
    assert [group.name for group in traced.groups] == list(groups)
    removed = choose(traced, score("l1", traced.params(), traced.groups), 0.5)
    assert removed.any()
    assert verify(traced, removed).exact


class Attention(nn.Module):
    """Attention of two heads within windows, as tensors of so many axes."""

    def __init__(self, axes: int, **options: bool) -> None:
        super().__init__()
        self.axes, self.options = axes, options
        self.qkv, self.out = nn.Linear(6, 24), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        split = self.qkv(x).reshape(2, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
        shape = {3: (4, 4, 4), 4: (2, 2, 4, 4), 5: (2, 1, 2, 4, 4)}[self.axes]
        q, k, v = (part.reshape(shape) for part in split)
        y = scaled_dot_product_attention(q, k, v, **self.options).reshape(2, 2, 4, 4)
        return self.out(y.transpose(1, 2).reshape(2, 4, 8))


@pytest.mark.parametrize(("axes", "is_causal"), [(3, False), (4, True), (5, True)])
def test_attention_of_any_number_of_axes(axes: int, is_causal: bool) -> None:
    module = Attention(axes, is_causal=is_causal).eval()
    net = load(module, inputs="2x4x6")
    assert net.notes == (() if axes == 4 else (WRITTEN_OUT,))
    check_same(net, module, torch.randn(2, 4, 6))
    assert set(net.params()) >= set(module.state_dict())
    check_prunes(net, "qkv.weight")


def test_attention_with_learned_biases() -> None:
    class Relative(Attention):
        def __init__(self) -> None:
            super().__init__(4)
            self.bias = nn.Parameter(torch.randn(1, 2, 4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).reshape(2, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
            y = scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
            return self.out(y.transpose(1, 2).reshape(2, 4, 8))

    module = Relative().eval()
    net = load(module, inputs="2x4x6")
    assert net.notes == ()
    check_same(net, module, torch.randn(2, 4, 6))


def test_attention_that_the_operator_cannot_express() -> None:
    class Shared(nn.Module):
        """Two queries for every key, which torch.onnx refuses in some versions."""

        def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return scaled_dot_product_attention(q, k, k, enable_gqa=True)

    net = load(Shared(), inputs=["1x4x3x5", "1x2x3x5"])
    check_same(net, Shared(), torch.randn(1, 4, 3, 5), torch.randn(1, 2, 3, 5))


@pytest.mark.parametrize("axes", [4, 5])
def test_programs_with_attention(tmp_path: Path, axes: int) -> None:
    module = Attention(axes).eval()
    torch.export.save(torch.export.export(module, (torch.rand(2, 4, 6),)), tmp_path / "net.pt2")
    net = load(tmp_path / "net.pt2")
    assert net.notes == (() if axes == 4 else (WRITTEN_OUT,))
    check_same(net, module, torch.randn(2, 4, 6))


class Decides(nn.Module):
    """What it computes depends on the values of its input; two of its parameters have equal values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.read = nn.Conv2d(8, 6, 1)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.scale = torch.full((8, 1, 1), 2.0)

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor | None = None) -> torch.Tensor:
        if shift is not None:
            x = x + shift
        if x.sum() > 0:
            x = self.norm(self.conv(x)) * self.scale
        y = self.read(x).flatten(2).transpose(1, 2)
        return self.attention(y, y, y)[0]


@pytest.fixture(scope="module")
def decides() -> nn.Module:
    return Decides().eval()


def test_a_forward_that_decides_by_values_is_recorded(decides: nn.Module, capfd: pytest.CaptureFixture[str]) -> None:
    net = load(decides, inputs="2x3x6x6")
    assert capfd.readouterr() == ("", "")
    (note,) = net.notes
    assert note.startswith("recorded by TorchScript, because torch.export cannot trace it: ")
    assert "one random input: test_torch_ways.py:" in note
    assert "\n" not in note
    check_same(net, decides, torch.rand(2, 3, 6, 6))
    assert torch.backends.mha.get_fastpath_enabled()


def test_recorded_parameters_keep_their_names_and_stay_apart(decides: nn.Module) -> None:
    net = load(decides, inputs="2x3x6x6")
    assert {name for name, _ in decides.named_parameters()} <= set(net.params())
    assert {"norm.running_mean", "norm.running_var"} <= set(net.params())
    assert not any("network" in str(v.name) for node in net.model.graph for v in (node, *node.outputs))
    check_prunes(net, "conv.weight", "read.weight", "attention.in_proj_weight")


def test_recorded_inputs_are_those_of_forward(decides: nn.Module) -> None:
    net = load(decides, inputs=["shift=1x1x6x6", "x=1x3x6x6"])
    assert net.inputs == {"shift": (1, 1, 6, 6), "x": (1, 3, 6, 6)}
    assert net.torch is not None
    open_batch = export_torch(net.torch, "net", dynamic_batch=True)
    assert [str(v.shape[0]) for v in open_batch.model.graph.inputs if v.shape] == ["batch", "batch"]
    rest = {"shift": np.ones((5, 1, 6, 6), np.float32), "x": np.ones((5, 3, 6, 6), np.float32)}
    assert DEFAULT.session(open_batch.model).run(rest)[0].shape == (5, 16, 6)


def test_what_no_way_leads_through_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x).real

    expected = r"Odd: torch\.onnx cannot translate it: .*; neither can TorchScript \(.*pass the \.onnx file$"
    with pytest.raises(BadInput, match=expected) as caught:
        load(Odd(), inputs=(4, 4))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
