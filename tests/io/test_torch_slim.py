import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.graph.net import Net, TorchSource
from slimnet.graph.plan import Plan
from slimnet.io.load import load
from slimnet.io.torch_arch import build
from slimnet.io.torch_export import export_torch
from slimnet.io.torch_follow import CannotSlim
from slimnet.io.torch_slim import load_slim, load_tensors, save_slim, slim_module, slim_module_survives, slim_source
from slimnet.runtime.feeds import random_inputs

Kept = Mapping[str, Mapping[int, Any]]


def plan(kept: Kept) -> Plan:
    return Plan(
        {name: {axis: np.array(i, np.int64) for axis, i in axes.items()} for name, axes in kept.items()}, "hash"
    )


def randomised(module: nn.Module) -> nn.Module:
    """Every parameter and statistic moves the output."""
    torch.manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.2, 0.8)
    return module.eval()


def slimmed(module: nn.Module, kept: Kept) -> nn.Module:
    return slim_module(TorchSource(module, None, ()), plan(kept))[0]


def masked(module: nn.Module, kept: Kept) -> nn.Module:
    """The module with the removed slices of all weight matrices and kernels zero, biases and scales included."""
    for name, axes in kept.items():
        tensor = module.state_dict()[name]
        for axis, indices in axes.items():
            gone = torch.tensor([i for i in range(tensor.shape[axis]) if i not in list(indices)])
            tensor.data.index_fill_(axis, gone, 0)
    return module


class Chain(nn.Module):
    """Layers called one after the other, the last on what is left per channel."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


EVEN = [0, 2, 4, 6]
#: layers, kept indices by parameter, input shape, and some attributes of the slim module.
CASES: dict[str, tuple[list[nn.Module], Kept, tuple[int, ...], dict[str, Any]]] = {
    "conv": (
        [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1)],
        {
            **{f"0.{name}": {0: EVEN} for name in ("weight", "bias")},
            **{f"1.{name}": {0: EVEN} for name in ("weight", "bias", "running_mean", "running_var")},
            "3.weight": {1: EVEN},
        },
        (1, 3, 6, 6),
        {"0.out_channels": 4, "1.num_features": 4, "3.in_channels": 4},
    ),
    "depthwise": (
        [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(16, 5, 1)],
        {
            "0.weight": {0: EVEN},
            "0.bias": {0: EVEN},
            "1.weight": {0: [0, 1, 4, 5, 8, 9, 12, 13]},
            "1.bias": {0: [0, 1, 4, 5, 8, 9, 12, 13]},
            "2.weight": {1: [0, 1, 4, 5, 8, 9, 12, 13]},
        },
        (1, 3, 6, 6),
        {"1.groups": 4, "1.in_channels": 4, "1.out_channels": 8},
    ),
    "channels within groups": (
        [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1, groups=2)],
        {"0.weight": {0: [0, 1, 4, 5]}, "0.bias": {0: [0, 1, 4, 5]}, "1.weight": {1: [0, 1]}},
        (1, 3, 4, 4),
        {"1.groups": 2, "1.in_channels": 4, "1.out_channels": 6},
    ),
    "transposed": (
        [nn.Conv1d(3, 8, 1), nn.ConvTranspose1d(8, 6, 2), nn.PReLU(6), nn.Conv1d(6, 2, 1)],
        {
            "0.weight": {0: EVEN},
            "0.bias": {0: EVEN},
            "1.weight": {0: EVEN, 1: [1, 2, 5]},
            "1.bias": {0: [1, 2, 5]},
            "2.weight": {0: [1, 2, 5]},
            "3.weight": {1: [1, 2, 5]},
        },
        (1, 3, 5),
        {"1.in_channels": 4, "1.out_channels": 3, "2.num_parameters": 3},
    ),
    "group norm": (
        [nn.Conv1d(3, 8, 1), nn.GroupNorm(4, 8), nn.Conv1d(8, 2, 1)],
        {
            "0.weight": {0: [0, 1, 4, 5]},
            "0.bias": {0: [0, 1, 4, 5]},
            "1.weight": {0: [0, 1, 4, 5]},
            "1.bias": {0: [0, 1, 4, 5]},
            "2.weight": {1: [0, 1, 4, 5]},
        },
        (1, 3, 5),
        {"1.num_groups": 2, "1.num_channels": 4},
    ),
    "linear": (
        [nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)],
        {"0.weight": {0: EVEN}, "0.bias": {0: EVEN}, "2.weight": {1: EVEN}},
        (2, 4),
        {"0.out_features": 4, "2.in_features": 4},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_slim_module_equals_the_masked_one(case: str) -> None:
    layers, kept, shape, attributes = CASES[case]
    module = randomised(Chain(*layers))
    kept = {f"layers.{name}": axes for name, axes in kept.items()}
    slim = slimmed(module, kept)
    for name, value in attributes.items():
        layer, _, attribute = name.rpartition(".")
        assert getattr(slim.get_submodule(f"layers.{layer}"), attribute) == value
    x = torch.rand(shape)
    with torch.no_grad():
        torch.testing.assert_close(slim(x), masked(module, kept)(x))


def test_layer_norm_and_embedding_sizes_follow() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 8)
            self.norm = nn.LayerNorm(8)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.norm(self.embedding(ids))

    slim = slimmed(Net(), {"embedding.weight": {1: EVEN}, "norm.weight": {0: EVEN}, "norm.bias": {0: EVEN}})
    assert slim(torch.ones(1, 2, dtype=torch.int64)).shape == (1, 2, 4)
    assert (slim.norm.normalized_shape, slim.embedding.embedding_dim) == ((4,), 4)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_lose_hidden_units(kind: type[nn.RNNBase], gates: int) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(5, 8, batch_first=True)
            self.out = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.rnn(x)[0])

    module = randomised(Net())
    rows = [8 * gate + i for gate in range(gates) for i in EVEN]
    kept = {"rnn.weight_ih_l0": {0: rows}, "rnn.weight_hh_l0": {0: rows, 1: EVEN}, "out.weight": {1: EVEN}}
    # The graph uses a bias gate by gate, and its plan speaks of each use.
    uses = {
        f"rnn.bias_{part}_l0@node_{gate}:0": {0: [i for i in range(8 * gates) if i // 8 != gate or i % 2 == 0]}
        for part in ("ih", "hh")
        for gate in range(gates)
    }
    slim = slimmed(module, {**kept, **uses})
    assert slim.rnn.hidden_size == 4
    x = torch.rand(2, 3, 5)
    with torch.no_grad():
        # A hidden unit that nobody listens to changes nothing.
        torch.testing.assert_close(
            slim(x), masked(module, {n: {1: EVEN} for n in ("rnn.weight_hh_l0", "out.weight")})(x)
        )


def test_layers_of_one_recurrent_module_share_a_width() -> None:
    module = nn.Sequential(nn.GRU(4, 8, num_layers=2))
    kept = {"0.weight_hh_l0": {0: [*range(4), *range(8, 12), *range(16, 20)], 1: range(4)}}
    with pytest.raises(CannotSlim, match=r"0 \(GRU\) has one width for all its layers"):
        slimmed(module, kept)


def test_multihead_attention_cannot_carry_fewer_heads() -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16)
    with pytest.raises(CannotSlim, match=r"self_attn \(MultiheadAttention\) cannot carry fewer heads"):
        slimmed(module, {"self_attn.in_proj_weight": {0: range(12)}, "self_attn.out_proj.weight": {1: range(4)}})


class Attention(nn.Module):
    """Attention as timm writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim, self.scale = 3, 4, 12, 4**-0.5
        self.fused_attn = True
        self.qkv, self.proj = nn.Linear(6, 36), nn.Linear(12, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if self.fused_attn:
            x = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * self.scale @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim))


@pytest.mark.parametrize(
    ("cells", "heads", "dim"), [([0, 1, 2, 3, 8, 9, 10, 11], 2, 4), ([0, 2, 4, 6, 8, 10], 3, 2)], ids=["heads", "dims"]
)
def test_attention_numbers_follow(cells: list[int], heads: int, dim: int) -> None:
    module = randomised(Attention())
    rows = [12 * part + cell for part in range(3) for cell in cells]
    kept = {"qkv.weight": {0: rows}, "qkv.bias": {0: rows}, "proj.weight": {1: cells}}
    slim = slimmed(module, kept)
    assert (slim.num_heads, slim.head_dim, slim.attn_dim) == (heads, dim, heads * dim)
    x = torch.rand(1, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(slim(x), masked(module, kept)(x))


def test_tied_weights_stay_tied_under_either_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.out = nn.Embedding(9, 8), nn.Linear(8, 9, bias=False)
            self.out.weight = self.embedding.weight

    for name in ("embedding.weight", "out.weight"):
        slim = slimmed(Tied(), {name: {1: EVEN}})
        assert slim.out.weight is slim.embedding.weight
        assert (slim.out.in_features, slim.embedding.embedding_dim) == (4, 4)


def test_dense_module_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 8))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    slim = slimmed(module, {"0.weight": {1: EVEN[:2]}})
    assert (module[0].weight.shape, module[0].in_features) == ((8, 4), 4)
    load_tensors(slim, {"0.weight": np.zeros((8, 2), np.float32), "0.bias": np.zeros(8, np.float32)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


LENET = {
    "conv1.weight": {0: range(10)},
    "conv1.bias": {0: range(10)},
    "conv2.weight": {1: range(10)},
    "fc1.weight": {0: range(200)},
    "fc1.bias": {0: range(200)},
    "fc2.weight": {1: range(200)},
}


def cut(net: Net, kept: Kept) -> ir.Model:
    """The slim graph of a network without reshapes of what is cut: only its initializers change."""
    model = net.model.clone()
    for name, axes in kept.items():
        array = net.params()[name]
        for axis, indices in axes.items():
            array = np.take(array, list(indices), axis)
        value = model.graph.initializers[name]
        value.const_value, value.shape = ir.tensor(array, name=name), ir.Shape(array.shape)
    for node in model.graph:
        for output in node.outputs:
            output.shape = None if output not in model.graph.outputs else output.shape
    return model


@pytest.fixture(scope="module")
def lenet() -> Net:
    return load(None, "models:lenet5")


def survives(module: nn.Module, net: Net, kept: Kept) -> tuple[bool, str]:
    return slim_module_survives(module, cut(net, kept), random_inputs(net, net.inputs))


def test_checkpoint_is_rebuilt_without_pickled_code(lenet: Net, tmp_path: Path) -> None:
    save_slim(lenet, plan(LENET), tmp_path / "slim.safetensors")
    module = load_slim(tmp_path)
    assert (type(module).__name__, module.training) == ("LeNet5", False)
    assert (module.conv1.out_channels, module.fc1.out_features) == (10, 200)
    assert survives(module, lenet, LENET) == (True, "")


def test_fine_tuned_values_are_saved(lenet: Net, tmp_path: Path) -> None:
    bias = np.arange(200, dtype=np.float32)
    save_slim(lenet, plan(LENET), tmp_path / "slim.safetensors", {"fc1.bias": bias})
    np.testing.assert_array_equal(load_slim(tmp_path).fc1.bias.detach().numpy(), bias)
    with pytest.raises(BadInput, match=r"fc1\.bias: is 500, and 200 in the plan"):
        save_slim(lenet, plan(LENET), tmp_path / "slim.safetensors", {"fc1.bias": np.zeros(500)})


def test_slim_checkpoint_can_be_pruned_again(lenet: Net, tmp_path: Path) -> None:
    path = tmp_path / "slim.safetensors"
    save_slim(lenet, plan(LENET), path)
    net = load(path)
    assert net.inputs == {"x": (1, 1, 28, 28)}
    kept = {"conv1.weight": {0: [1, 3]}, "conv1.bias": {0: [1, 3]}, "conv2.weight": {1: [1, 3]}}
    save_slim(net, plan(kept), path)
    module = load_slim(path)
    assert (module.conv1.out_channels, module.conv2.in_channels, module.fc1.out_features) == (2, 2, 200)
    assert survives(module, net, kept) == (True, "")


def test_what_is_not_in_the_state_dict_is_saved_once_it_is_cut(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = torch.nn.Linear(4, 8)\n"
        "        self.plain = torch.rand(8)\n"
        "        self.register_buffer('hidden', torch.rand(8), persistent=False)\n"
        "        self.head = torch.nn.Linear(8, 2)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.fc(x) * self.plain + self.hidden)\n"
    )
    arch = f"{tmp_path / 'net.py'}:Net"
    net = load(None, arch, "1x4")
    kept = {name: {0: EVEN} for name in ("fc.weight", "fc.bias", "plain", "hidden")} | {"head.weight": {1: EVEN}}
    save_slim(net, plan(kept), tmp_path / "slim.safetensors")
    with pytest.raises(BadInput, match=r"names its architecture as .*net\.py:Net"):
        load_slim(tmp_path)
    assert survives(load_slim(tmp_path, arch), net, kept) == (True, "")


def test_hard_coded_width_is_found_where_it_raises() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Flattening()
            self.head = nn.Linear(72, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x))

    class Flattening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).view(-1, 72)

    kept = {"body.conv.weight": {0: EVEN}, "body.conv.bias": {0: EVEN}, "head.weight": {1: range(36)}}
    graph = load(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(36, 2)), inputs=(1, 1, 5, 5)).model
    ok, why = slim_module_survives(slimmed(Net(), kept), graph, {"input": np.ones((1, 1, 5, 5), np.float32)})
    assert not ok
    assert why.startswith("body (Flattening) raises RuntimeError: shape '[-1, 72]' is invalid")


def test_silent_disagreement_is_found() -> None:
    class Mean(nn.Module):
        """Divides by the width it was built with."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.fc(x)
            return hidden.sum(1) / hidden.shape[1]

    module = randomised(Mean())
    net = load(module, inputs=(1, 4))
    kept = {"fc.weight": {0: EVEN}, "fc.bias": {0: EVEN}}
    ok, why = survives(slimmed(module, kept), net, kept)
    assert not ok
    assert "Mean differs from the graph by" in why


def test_number_of_outputs_is_compared() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    graph = load(nn.ReLU(), inputs=(1, 4)).model
    inputs = {"input": np.ones((1, 4), np.float32)}
    assert slim_module_survives(Pair(), graph, inputs) == (False, "Pair gives 2 outputs, the graph 1")


def test_named_inputs_reach_their_arguments() -> None:
    class Optional(nn.Module):
        def forward(
            self, x: torch.Tensor, y: torch.Tensor | None = None, z: torch.Tensor | None = None
        ) -> torch.Tensor:
            return x if z is None else x - z

    net = load(Optional(), inputs=["z=1x4", "x=1x4"])
    assert slim_module_survives(Optional(), net.model, random_inputs(net, net.inputs)) == (True, "")


class TestBadFiles:
    @pytest.fixture
    def slim(self, lenet: Net, tmp_path: Path) -> Path:
        save_slim(lenet, plan(LENET), tmp_path / "slim.safetensors")
        return tmp_path / "slim.safetensors"

    def rewritten(self, path: Path, attributes: Any = None, arch: str = "models:lenet5", drop: str = "") -> Path:
        tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
        own = json.dumps({"attributes": attributes or {}})
        save_file(tensors, path, metadata={"arch": arch, "input": "[]", "slimnet": own})
        return path

    def refusal(self, path: Path, arch: str | None = None) -> str:
        with pytest.raises(BadInput) as caught:
            load_slim(path, arch)
        assert str(path) in str(caught.value)
        return str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        assert "no such file" in self.refusal(tmp_path / "slim.safetensors")

    def test_ordinary_checkpoint(self, tmp_path: Path) -> None:
        save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
        assert "was not written by slimnet" in self.refusal(tmp_path / "a.safetensors")

    def test_foreign_architecture(self, slim: Path) -> None:
        assert "names its architecture as 'os:system'" in self.refusal(self.rewritten(slim, arch="os:system"))

    def test_other_architecture(self, slim: Path) -> None:
        assert "does not fit `arch` models:mlp" in self.refusal(slim, "models:mlp")

    def test_missing_tensor(self, slim: Path) -> None:
        assert "fc1.bias is missing in the file" in self.refusal(self.rewritten(slim, drop="fc1.bias"))

    @pytest.mark.parametrize(
        "attributes", [{"conv1": {"forward": 3}}, {"conv1": {"num_heads": 3}}, {"gone": {"groups": 1}}]
    )
    def test_attributes_that_do_not_exist(self, attributes: Any, slim: Path) -> None:
        assert "does not fit `arch` models:lenet5" in self.refusal(self.rewritten(slim, attributes))

    def test_network_without_architecture(self, tmp_path: Path) -> None:
        net = load(nn.Sequential(nn.Linear(4, 8)), inputs=(1, 4))
        with pytest.raises(BadInput, match="has no `arch` to build its class anew"):
            save_slim(net, plan({}), tmp_path / "slim.safetensors")
        assert not list(tmp_path.iterdir())


def test_input_given_replaces_the_one_in_the_file(lenet: Net, tmp_path: Path) -> None:
    save_slim(lenet, plan(LENET), tmp_path / "slim.safetensors")
    assert slim_source(tmp_path, inputs="2x1x28x28").inputs == ("2x1x28x28",)


def test_built_modules_are_whole(lenet: Net) -> None:
    assert lenet.torch is not None
    net = export_torch(TorchSource(build("models:lenet5"), "models:lenet5", ("x=1x1x28x28",)), "lenet5")
    np.testing.assert_array_equal(net.params()["fc2.weight"], lenet.params()["fc2.weight"])
