"""The networks that the benchmarks walk, with weights under which every layer moves the output.

A freshly built network hardly computes anything: vision transformers start with a head of zeros, ConvNeXt with layer
scales of 1e-6. Nothing can be proven on those, so all weights are drawn anew. With half of its channels masked, a
network loses some variance at every batch norm, and after fifty layers all of it, so those are calibrated on the masked
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
import torchvision
from torch import nn
from torchvision.models import detection, optical_flow, segmentation, video

from slimnet.graph.net import Net
from slimnet.io.load import load
from slimnet.runtime.backend import RunFailed
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
#: A batch norm's variance is at least this fraction of its layer's median, and below this fraction of the mean square
#: it counts as none: pooled features hardly vary, and dividing by next to nothing would drown every other branch.
VARIANCE_FLOOR = 1.0
#: Standard deviation of the logarithm of the channels' scales.
_SPREAD = 0.55


@dataclass(frozen=True)
class Network:
    """A network of the walk: `build` gives a module, or the path of an ONNX file.

    Attributes:
        name: Its name in the tables.
        kind: What it is an example of.
        build: Builds it, or writes its file.
        input: The shape of its input, empty where it has several.
        input_spec: Its inputs as `--input` specs, where they are more than one picture.
        drawn: Whether its weights are drawn already, by what wrote the file.
    """

    name: str
    kind: str
    build: Callable[[], nn.Module | Path]
    input: tuple[int, ...] = ()
    input_spec: str | tuple[str, ...] = ""
    drawn: bool = False

    @property
    def spec(self) -> str | list[str]:
        if isinstance(self.input_spec, tuple):
            return list(self.input_spec)
        return self.input_spec or "x".join(map(str, self.input))


def catalogue(everything: bool = False) -> dict[str, Network]:
    """The networks by name: torchvision's for pictures, onnx's and recurrent ones, or all that coverage walks."""
    found = [*_torchvision(), *_light(), *_recurrent()]
    if everything:
        found += [*_torchvision_others(), *_timm(), *_language(), *_generated()]
    return {network.name: network for network in found}


def select(networks: dict[str, Network], pattern: str | None) -> list[str]:
    """Names that match one of the shell patterns in a comma-separated list; all if None."""
    patterns = pattern.split(",") if pattern else ["*"]
    return [name for name in networks if any(fnmatchcase(name, p) for p in patterns)]


def prepared(network: Network, seed: int = 0) -> Net:
    """The network as slimnet loads it, its weights drawn anew."""
    built = network.build()
    if isinstance(built, Path) and network.drawn:
        return load(built)
    if isinstance(built, Path):
        return _randomised_onnx(load(built), seed)
    net = load(randomised(built, seed), inputs=network.spec)
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


def _torchvision_others() -> Iterator[Network]:
    """Detection, video and optical flow; detectors scale the pictures themselves, to a size that is small here."""
    small = {"weights_backbone": None, "min_size": 128, "max_size": 128}
    for name in torchvision.models.list_models(module=detection):
        fixed = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}.get(name)
        keywords = {"weights_backbone": None} if fixed else small
        build = partial(torchvision.models.get_model, name, weights=None, **keywords)
        size = fixed or 128
        yield Network(name, "detection", build, (1, 3, size, size))
    for name in torchvision.models.list_models(module=video):
        build = partial(torchvision.models.get_model, name, weights=None)
        size = 224 if name.startswith(("swin", "mvit", "s3d")) else 112
        yield Network(name, "video", build, (1, 3, 16, size, size))
    for name in torchvision.models.list_models(module=optical_flow):
        build = partial(torchvision.models.get_model, name, weights=None)
        yield Network(name, "optical flow", build, (), ("image1=1x3x128x128", "image2=1x3x128x128"))


def _timm() -> Iterator[Network]:
    from timm_families import FAMILIES

    from slimnet.io.torch_arch import build

    for name, size in FAMILIES.items():
        # With a thousand classes, none of which can go, the classifier alone would be half of the small ones.
        spec = f"timm:{name}{'&' if '?' in name else '?'}num_classes=10"
        yield Network(f"timm:{name}", "timm", partial(build, spec), (1, 3, size, size))


def _language() -> Iterator[Network]:
    from language import MODELS, builder

    for name, (_, _, inputs) in MODELS.items():
        yield Network(f"transformers:{name}", "transformers", builder(name), (), inputs)


def _generated() -> Iterator[Network]:
    from generators import FILES, MODULES, file_builder

    for name, (build, inputs) in MODULES.items():
        yield Network(f"made:{name}", "made", build, (), inputs)
    for name in FILES:
        yield Network(f"file:{name}", "file", file_builder(name, lambda m: randomised(m, 0)), drawn=True)


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
        "lstm_bidirectional": lambda: _Sequence(
            nn.LSTM(24, 64, num_layers=2, bidirectional=True, **options), 128, True
        ),
        "gru_bidirectional": lambda: _Sequence(nn.GRU(24, 64, num_layers=2, bidirectional=True, **options), 128, True),
    }
    for name, build in cells.items():
        yield Network(name, "recurrent", build, shape)
    words = lambda: _Sequence(nn.LSTM(32, 64, bidirectional=True, **options), 128, True, words=500)  # noqa: E731
    yield Network("lstm_words", "recurrent", words, (2, 20), "2x20:int64")


# -- weights ---------------------------------------------------------------------------------------------------------


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """The module with every parameter and statistic drawn anew."""
    rng = np.random.default_rng(seed)
    squeezers = []
    with torch.no_grad():
        for child in module.modules():
            for name, parameter in child.named_parameters(recurse=False):
                parameter.copy_(torch.from_numpy(_drawn(rng, tuple(parameter.shape), child, name)))
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None:
                child.running_mean.normal_(generator=torch.Generator().manual_seed(seed))
                child.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(seed))
                seed += 1
            if isinstance(child, torchvision.ops.SqueezeExcitation):
                squeezers.append(child.fc1)
            if hasattr(child, "conv_reduce"):  # timm's
                squeezers.append(child.conv_reduce)
        for layer in squeezers:
            # They see means of positive numbers: with weights of both signs all of their few units may be dead.
            layer.weight.abs_()
    return module


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], owner: nn.Module, name: str) -> np.ndarray:
    if name == "logit_scale":  # Swin v2 takes its exponential
        return np.asarray(np.log(rng.uniform(5, 15, shape)), np.float32)
    if len(shape) <= 1 or name.startswith(("layer_scale", "gamma")):
        around_one = name.startswith(("weight", "layer_scale", "gamma", "scale"))
        # Evenly spaced in random order, so that no value occurs twice.
        values = (rng.permutation(math.prod(shape)).reshape(shape) + 0.5) / math.prod(shape) - 0.5
        # A single number is its own mean, which must not be zero: nothing would go through.
        centre = 1.0 if around_one else 0.35 * (math.prod(shape) == 1)
        return (centre + (values if around_one else 0.7 * values)).astype(np.float32)
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
        scale = rng.lognormal(-(_SPREAD**2), _SPREAD, shape[axis]).astype(np.float32)
        values *= scale.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return values


# -- files whose weights are constants -------------------------------------------------------------------------------


def _randomised_onnx(net: Net, seed: int) -> Net:
    """A copy of an ONNX network with random initializers in place of its constant weights."""
    rng = np.random.default_rng(seed)
    model = net.model.clone()
    graph = model.graph
    for node in list(graph):
        if node.op_type == "ConstantOfShape" and math.prod(shape := _shape_of(node)) > 1:
            _make_initializer(graph, node, np.zeros(shape, np.float32))
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.size > 1:
            values = _drawn_for(rng, tuple(tensor.shape.numpy()), _is_gain(value))
            value.const_value = ir.Tensor(values, name=value.name)
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


def _is_gain(value: ir.Value) -> bool:
    """Whether a vector multiplies channels: in a batch norm, or made a column first."""
    for node, place in value.uses():
        if (node.op_type, place) == ("BatchNormalization", 1):
            return True
        if node.op_type == "Unsqueeze" and any(user.op_type == "Mul" for user, _ in node.outputs[0].uses()):
            return True
    return False


def _drawn_for(rng: np.random.Generator, shape: tuple[int, ...], gain: bool) -> np.ndarray:
    if len(shape) == 1:
        return (rng.uniform(0.5, 1.5, shape) if gain else 0.2 * rng.standard_normal(shape)).astype(np.float32)
    return _heavy_tailed(rng, shape) * np.float32(math.sqrt(2 / math.prod(shape[1:])))


# -- batch norms -----------------------------------------------------------------------------------------------------


def calibrate(net: Net, masked: ir.Model, seeds: Iterable[int] = range(100, 104)) -> None:
    """Give every batch norm of a network the statistics of its own inputs in the masked network, on random inputs."""
    model = masked.clone()
    known = net.model.graph.initializers
    norms = [node for node in model.graph if node.op_type == "BatchNormalization"]
    # One that standardises weights has no statistics of its own.
    norms = [node for node in norms if all(value.name in known for value in node.inputs[3:])]
    wanted = [[value.name for value in node.inputs[3:]] for node in norms]
    for node in norms:
        _normalise_itself(model, node)
    if not norms:
        return
    session = DEFAULT.session(model)
    samples = []
    for seed in seeds:
        with suppress(RunFailed):  # a detector that finds nothing there
            samples.append(session.run(random_inputs(net, net.inputs, seed))[-2 * len(norms) :])
    if not samples:
        return
    for k, names in enumerate(wanted):
        means = np.stack([sample[2 * k] for sample in samples])
        variances = np.stack([sample[2 * k + 1] for sample in samples])
        mean, variance = means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)
        flat = variance < VARIANCE_FLOOR * mean**2
        mean[flat] /= 2
        variance[flat] = 4 * mean[flat] ** 2
        unused = variance < 1e-6
        variance = np.maximum(variance, 0.1 * np.median(variance[~unused])).astype(np.float32)
        variance[unused] = 1
        for name, array in zip(names, (mean, variance), strict=True):
            _set(net, name, array)


def _normalise_itself(model: ir.Model, node: ir.Node) -> None:
    """Feed a batch norm the mean and variance of its input, and make the two outputs of the graph."""
    graph, x = model.graph, node.inputs[0]
    rank = 4 if x.shape is None else len(x.shape)
    axes = [0, *range(2, rank)]
    new: list[ir.Node] = []

    def reduced(value: ir.Value, keep: int) -> ir.Value:
        attributes: dict[str, Any] = {"keepdims": keep}
        inputs = [value]
        if graph.opset_imports[""] < 18:
            attributes["axes"] = axes
        else:
            new.append(ir.node("Constant", [], {"value_ints": axes}))
            inputs.append(new[-1].outputs[0])
        new.append(ir.node("ReduceMean", inputs, attributes))
        return new[-1].outputs[0]

    wide = reduced(x, 1)
    new.append(ir.node("Sub", [x, wide]))
    new.append(ir.node("Mul", [new[-1].outputs[0]] * 2))
    for place, source in ((3, x), (4, new[-1].outputs[0])):
        value = reduced(source, 0)
        value.name, value.type = f"{node.outputs[0].name}/{place}", ir.TensorType(ir.DataType.FLOAT)
        node.replace_input_with(place, value)
        graph.outputs.append(value)
    graph.insert_before(node, new)


def _set(net: Net, name: str, array: np.ndarray) -> None:
    net.model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    if net.torch is not None:
        net.torch.module.get_buffer(name).copy_(torch.from_numpy(array))
