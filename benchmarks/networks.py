"""The networks that the benchmarks walk, with weights under which every layer moves the output.

A freshly built network hardly computes anything: vision transformers start with a head of zeros, ConvNeXt with layer
scales of 1e-6. Nothing can be proven on those, so all weights are drawn anew and batch norms calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
import torchvision
from torch import nn
from torchvision.models import segmentation

from slimnet.graph.net import Net
from slimnet.io import load

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
#: From timm: what torchvision's zoo has no example of.
TIMM = (
    *("convmixer_768_32", "cspresnet50", "coat_tiny", "deit_tiny_patch16_224", "dla34", "dm_nfnet_f0", "dpn68"),
    *("eca_nfnet_l0", "edgenext_small", "efficientformer_l1", "efficientvit_b0", "fastvit_t8", "focalnet_tiny_srf"),
    *("gcresnet33ts", "gernet_s", "ghostnet_100", "gmlp_s16_224", "hardcorenas_a", "hrnet_w18", "inception_v4"),
    *("levit_128", "mixer_b16_224", "mobilevit_s", "mobilevitv2_050", "nest_tiny", "pit_ti_224", "poolformer_s12"),
    *("repvgg_a0", "res2net50_26w_4s", "resmlp_12_224", "resnest14d", "rexnet_100", "selecsls42", "skresnet18"),
    *("twins_svt_small", "tf_mixnet_s", "vovnet39a", "xception41", "xcit_nano_12_p16_224"),
)
#: A batch norm that sees pooled features gets at least this fraction of their mean square as its variance: between
#: random images they hardly vary, and dividing by next to nothing would drown every other branch.
VARIANCE_FLOOR = 0.1
#: Standard deviation of the logarithm of the channels' scales.
_SPREAD = 0.5


@dataclass(frozen=True)
class Network:
    """A network of the walk: `build` gives a module, or the path of an ONNX file."""

    name: str
    kind: str
    build: Callable[[], nn.Module | Path]
    input: tuple[int, ...]
    input_spec: str = ""

    @property
    def spec(self) -> str:
        return self.input_spec or "x".join(map(str, self.input))


def catalogue(with_timm: bool = False) -> dict[str, Network]:
    """All networks by name."""
    found = [*_torchvision(), *_light(), *_recurrent(), *(_timm() if with_timm else ())]
    return {network.name: network for network in found}


def select(networks: dict[str, Network], pattern: str | None) -> list[str]:
    """Names that match one of the shell patterns in a comma-separated list; all if None."""
    patterns = pattern.split(",") if pattern else ["*"]
    return [name for name in networks if any(fnmatchcase(name, p) for p in patterns)]


def prepared(network: Network, seed: int = 0) -> Net:
    """The network as slimnet loads it, its weights drawn anew and its batch norms calibrated."""
    built = network.build()
    if isinstance(built, Path):
        return _randomised_onnx(load(built), seed)
    module = randomised(built, network, seed)
    net = load(module, inputs=network.spec)
    net.name = network.name
    return net


# -- where they come from --------------------------------------------------------------------------------------------


def _torchvision() -> Iterator[Network]:
    for name in torchvision.models.list_models(module=torchvision.models):
        size = 299 if name == "inception_v3" else 224
        yield Network(name, "classification", _torchvision_builder(name), (1, 3, size, size))
    for name in torchvision.models.list_models(module=segmentation):
        yield Network(name, "segmentation", _torchvision_builder(name), (1, 3, 224, 224))


def _torchvision_builder(name: str) -> Callable[[], nn.Module]:
    # The auxiliary heads of these two are not part of the network that predicts.
    auxiliary = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    backbone = {"weights_backbone": None} if name in torchvision.models.list_models(module=segmentation) else {}
    return lambda: torchvision.models.get_model(name, weights=None, **auxiliary, **backbone)


def _timm() -> Iterator[Network]:
    import timm

    for name in TIMM:
        size = 256 if name.startswith(("mobilevit", "coat", "fastvit", "gcresnet", "efficientvit", "nfnet")) else 224
        yield Network(f"timm:{name}", "timm", lambda name=name: timm.create_model(name), (1, 3, size, size))


def _light() -> Iterator[Network]:
    for file in sorted(LIGHT.glob("*.onnx")):
        yield Network(file.stem, "onnx", lambda file=file: file, (1, 3, 224, 224))


class _Sequence(nn.Module):
    """A classifier of sequences: the last step, or all of them, of a recurrent network."""

    def __init__(self, recurrent: nn.Module, width: int, every_step: bool = False, words: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, recurrent.input_size) if words else nn.Identity()
        self.recurrent = recurrent
        self.head = nn.Sequential(nn.Linear(width, 48), nn.ReLU(), nn.Linear(48, 10))
        self.every_step = every_step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, _ = self.recurrent(self.embedding(x))
        return self.head(steps if self.every_step else steps[:, -1])


def _recurrent() -> Iterator[Network]:
    shape = (2, 20, 24)
    options = {"batch_first": True}
    cells: dict[str, Callable[[], nn.Module]] = {
        "lstm": lambda: _Sequence(nn.LSTM(24, 64, **options), 64),
        "gru": lambda: _Sequence(nn.GRU(24, 64, **options), 64),
        "rnn": lambda: _Sequence(nn.RNN(24, 64, **options), 64),
        "lstm_3_layers": lambda: _Sequence(nn.LSTM(24, 64, num_layers=3, **options), 64),
        "lstm_bidirectional": lambda: _Sequence(nn.LSTM(24, 64, num_layers=2, bidirectional=True, **options), 128, True),
        "gru_bidirectional": lambda: _Sequence(nn.GRU(24, 64, num_layers=2, bidirectional=True, **options), 128, True),
    }
    for name, build in cells.items():
        yield Network(name, "recurrent", build, shape)
    words = lambda: _Sequence(nn.LSTM(32, 64, bidirectional=True, **options), 128, True, words=500)  # noqa: E731
    yield Network("lstm_words", "recurrent", words, (2, 20), "2x20:int64")


# -- weights ---------------------------------------------------------------------------------------------------------


def randomised(module: nn.Module, network: Network, seed: int) -> nn.Module:
    """The module in eval mode with every parameter drawn anew and its batch norms calibrated."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for prefix, child in module.named_modules():
            for name, parameter in child.named_parameters(prefix, recurse=False):
                values = _drawn(generator, tuple(parameter.shape), child, name.rpartition(".")[2])
                parameter.copy_(torch.from_numpy(values))
    module.eval()
    if any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules()):
        _calibrate(module, network, seed)
    return module


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], owner: nn.Module, name: str) -> np.ndarray:
    if name == "logit_scale":  # Swin v2 takes its exponential
        return np.log(rng.uniform(5, 15, shape)).astype(np.float32)
    if len(shape) <= 1 or name.startswith(("layer_scale", "gamma")):
        around_one = name.startswith(("weight", "layer_scale", "gamma"))
        values = rng.uniform(0.5, 1.5, shape) if around_one else 0.2 * rng.standard_normal(shape)
        return np.asarray(values, np.float32)
    if "weight" not in name or isinstance(owner, nn.Embedding):
        return 0.5 * _heavy_tailed(rng, shape)
    transposed = isinstance(owner, nn.modules.conv._ConvTransposeNd)
    fan_in = math.prod(shape[1:]) if not transposed else shape[0] // owner.groups * math.prod(shape[2:])
    return _heavy_tailed(rng, shape) * np.float32(math.sqrt(_gain(owner) / fan_in))


def _gain(owner: nn.Module) -> float:
    """Variance a layer should give: 2 before a ReLU, 1 where weights act on a state or on each other."""
    return 1.0 if isinstance(owner, nn.RNNBase | nn.MultiheadAttention) else 2.0


def _heavy_tailed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers of unit variance, times a log-normal scale for every index of the first two axes.

    As in trained networks some channels matter far more than others, so one unit of thousands can be seen to act.
    """
    values = rng.standard_normal(shape, dtype=np.float32)
    for axis in (0, 1):
        scale = rng.lognormal(-_SPREAD**2, _SPREAD, shape[axis]).astype(np.float32)
        values *= scale.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return values


def _calibrate(module: nn.Module, network: Network, seed: int) -> None:
    """Give every batch norm the statistics of its own inputs on random images."""
    norms = [child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    with _measuring(norms), torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        module(torch.randn((4, *network.input[1:]), generator=generator))
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_var.clamp_(min=VARIANCE_FLOOR * (norm.running_mean**2 + norm.running_var))


@contextmanager
def _measuring(norms: list[Any]) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


# -- files whose weights are constants -------------------------------------------------------------------------------


def _randomised_onnx(net: Net, seed: int) -> Net:
    """A copy of an ONNX network with random initializers in place of its constant weights."""
    rng = np.random.default_rng(seed)
    model = net.model.clone()
    graph = model.graph
    statistics = {v for n in graph if n.op_type == "BatchNormalization" for v in n.inputs[3:]}
    for node in list(graph):
        if node.op_type == "ConstantOfShape" and (shape := _shape_of(node)) and math.prod(shape) > 1:
            _make_initializer(graph, node, _drawn_for(rng, shape, node.outputs[0] in statistics))
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.size > 1:
            values = _drawn_for(rng, tuple(tensor.shape.numpy()), value in statistics)
            value.const_value = ir.Tensor(values, name=value.name)
    _calibrate_onnx(model, net, seed)
    return Net(model, net.name, net.inputs, net.source)


def _shape_of(node: ir.Node) -> tuple[int, ...]:
    source = node.inputs[0]
    return () if source is None or source.const_value is None else tuple(source.const_value.numpy().tolist())


def _make_initializer(graph: ir.Graph, node: ir.Node, values: np.ndarray) -> None:
    old = node.outputs[0]
    tensor = ir.Tensor(values, name=old.name)
    new = ir.Value(name=old.name, shape=tensor.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor)
    for user, place in list(old.uses()):
        user.replace_input_with(place, new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)


def _drawn_for(rng: np.random.Generator, shape: tuple[int, ...], statistic: bool) -> np.ndarray:
    if statistic:
        return np.ones(shape, np.float32)
    if len(shape) == 1:
        return (0.5 + 0.2 * rng.standard_normal(shape)).astype(np.float32)
    return _heavy_tailed(rng, shape) * np.float32(math.sqrt(2 / math.prod(shape[1:])))


def _calibrate_onnx(model: ir.Model, net: Net, seed: int) -> None:
    """Give every batch norm the statistics of its own inputs: computed in a copy of the graph that normalises itself."""
    copy = model.clone()
    wanted: list[str] = []
    for node in [n for n in copy.graph if n.op_type == "BatchNormalization"]:
        x = node.inputs[0]
        axes = {"axes": [0, 2, 3], "keepdims": 1}
        mean = ir.node("ReduceMean", [x], axes)
        centred = ir.node("Sub", [x, mean.outputs[0]])
        square = ir.node("Mul", [centred.outputs[0], centred.outputs[0]])
        variance = ir.node("ReduceMean", [square.outputs[0]], axes)
        flat = [ir.node("Squeeze", [v], {"axes": [0, 2, 3]}) for v in (mean.outputs[0], variance.outputs[0])]
        for place, squeezed in enumerate(flat):
            value = squeezed.outputs[0]
            value.name, value.type = f"{node.inputs[3 + place].name}/measured", ir.TensorType(ir.DataType.FLOAT)
            wanted.append(value.name)
            copy.graph.outputs.append(value)
        copy.graph.insert_before(node, [mean, centred, square, variance, *flat])
        for place, squeezed in enumerate(flat):
            node.replace_input_with(3 + place, squeezed.outputs[0])
    if not wanted:
        return
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(ir.to_proto(copy).SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in net.inputs.items()}
    for name, array in zip(wanted, session.run(wanted, feed), strict=True):
        original = name.removesuffix("/measured")
        model.graph.initializers[original].const_value = ir.Tensor(array, name=original)
