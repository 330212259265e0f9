"""Small networks of kinds that no zoo has, and one network as every exporter, opset and number format writes it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


def block(width: int, out: int) -> nn.Sequential:
    """Two convolutions with batch norm."""
    layers: list[nn.Module] = []
    for before in (width, out):
        layers += [nn.Conv2d(before, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two steps down, two up, and skips that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = block(3, 16), block(16, 32), block(32, 64)
        self.up2, self.up1 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.join2, self.join1, self.out = block(64, 32), block(32, 16), nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = self.up2(self.middle(F.max_pool2d(b, 2)))
        y = self.up1(self.join2(torch.cat([b, y], 1)))
        return self.out(self.join1(torch.cat([a, y], 1)))


class SuperResolution(nn.Module):
    """Residual blocks, then pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 32, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 32, 3, padding=1)) for _ in range(2)
        )
        self.up = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())
        self.out = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        for part in self.body:
            x = x + part(x)
        return self.out(self.up(x))


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates, residuals and summed skips."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 24, 1)
        self.gates = nn.ModuleList(nn.Conv1d(24, 64, 2, dilation=2**k) for k in range(4))
        self.residuals = nn.ModuleList(nn.Conv1d(32, 24, 1) for _ in range(4))
        self.skips = nn.ModuleList(nn.Conv1d(32, 40, 1) for _ in range(4))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(40, 40, 1), nn.ReLU(), nn.Conv1d(40, 16, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = self.first(x), []
        for k, (gate, residual, skip) in enumerate(zip(self.gates, self.residuals, self.skips, strict=True)):
            a, b = gate(F.pad(x, (2**k, 0))).chunk(2, 1)
            z = a.tanh() * b.sigmoid()
            x = x + residual(z)
            skips.append(skip(z))
        return self.out(sum(skips))


class Crnn(nn.Module):
    """Convolutions over a line of text, then two recurrent layers over its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(block(1, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d((8, 2)))
        self.recurrent = nn.LSTM(32, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(48, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        columns = self.conv(x).squeeze(2).transpose(1, 2)
        return self.out(self.recurrent(columns)[0]).log_softmax(-1)


class Siamese(nn.Module):
    """One encoder for two pictures, whose features are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            block(3, 16), nn.MaxPool2d(2), block(16, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.project, self.compare = nn.Linear(32, 24), nn.Linear(24, 1)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        a, b = self.project(self.encoder(left)), self.project(self.encoder(right))
        return self.compare((a - b).abs())


class ManyInAndOut(nn.Module):
    """A picture, a vector and tokens go in; classes, a box and a map of them come out."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.vector, self.words = block(3, 24), nn.Linear(7, 24), nn.Embedding(50, 24)
        self.joined = nn.Conv2d(24, 32, 3, padding=1)
        self.classes, self.box, self.map = nn.Linear(32, 5), nn.Linear(32, 4), nn.Conv2d(32, 2, 1)

    def forward(self, picture: torch.Tensor, vector: torch.Tensor, words: torch.Tensor) -> dict[str, torch.Tensor]:
        condition = self.vector(vector) + self.words(words).mean(1)
        x = F.relu(self.joined(self.picture(picture) * condition[:, :, None, None]))
        pooled = x.mean((2, 3))
        return {"classes": self.classes(pooled), "box": self.box(pooled), "map": self.map(x)}


class Autoencoder(nn.Module):
    """Strided convolutions to a code, transposed ones back."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            *(nn.Conv2d(3, 16, 4, 2, 1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.SiLU()),
            *(nn.Flatten(), nn.Linear(32 * 64, 20)),
        )
        self.decode = nn.Sequential(
            *(nn.Linear(20, 32 * 64), nn.Unflatten(1, (32, 8, 8)), nn.ConvTranspose2d(32, 16, 4, 2, 1)),
            *(nn.InstanceNorm2d(16, affine=True), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))


class Detector(nn.Module):
    """Split and concatenated bottlenecks, a pyramid, and one head at two scales, as the YOLO family has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deeper = block(3, 16), block(16, 32)
        self.split, self.inner, self.fuse = nn.Conv2d(32, 32, 1), block(16, 16), nn.Conv2d(48, 32, 1)
        self.last, self.lateral = block(32, 64), nn.Conv2d(64, 32, 1)
        self.small, self.large = nn.Conv2d(64, 9, 1), nn.Conv2d(64, 9, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deeper(F.max_pool2d(self.stem(x), 2))
        a, b = self.split(x).chunk(2, 1)
        x = F.silu(self.fuse(torch.cat([a, b, self.inner(b)], 1)))
        deep = self.last(F.max_pool2d(x, 2))
        fine = torch.cat([x, F.interpolate(self.lateral(deep), scale_factor=2.0)], 1)
        found = torch.cat([self.small(fine).flatten(2), self.large(deep).flatten(2)], 2)
        return torch.cat([found[:, :4] * 32, found[:, 4:].sigmoid()], 1)


class Mixed(nn.Module):
    """What most networks for pictures have: residuals, a depthwise convolution, a gate, pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = block(3, 16), block(16, 16)
        self.wide, self.depthwise = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.squeeze, self.excite = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.out = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = F.max_pool2d(F.relu(x + self.inner(x)), 2)
        x = F.relu6(self.depthwise(F.relu6(self.wide(x))))
        gate = F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return self.out((x * self.excite(gate).sigmoid()).mean((2, 3)))


_PICTURE = "1x3x32x32"
#: Name -> class and inputs.
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "u_net": (UNet, (_PICTURE,)),
    "pixel_shuffle": (SuperResolution, (_PICTURE,)),
    "wavenet": (WaveNet, ("1x1x64",)),
    "crnn": (Crnn, ("1x1x16x64",)),
    "siamese": (Siamese, (f"left={_PICTURE}", f"right={_PICTURE}")),
    "many_in_and_out": (ManyInAndOut, (f"picture={_PICTURE}", "vector=1x7", "words=1x6:int64")),
    "autoencoder": (Autoencoder, (_PICTURE,)),
    "detector": (Detector, (_PICTURE,)),
    "mixed": (Mixed, (_PICTURE,)),
}

#: Name -> how `Mixed` is written as a file.
FILES: dict[str, Callable[[nn.Module, Path], None]] = {
    **{f"torchscript_opset_{n}": lambda m, path, n=n: exported(m, path, n, dynamo=False) for n in range(9, 21)},
    **{f"dynamo_opset_{n}": lambda m, path, n=n: exported(m, path, n, dynamo=True) for n in range(18, 24)},
    "float16": lambda module, path: _float16(module, path),
    "quantised": lambda module, path: _quantised(module, path),
    "open_batch": lambda module, path: exported(module, path, 18, dynamo=False, open_batch=True),
}


def file_builder(name: str, drawn: Callable[[nn.Module], nn.Module]) -> Callable[[], Path]:
    """What writes one of the files; `drawn` gives the network its weights."""

    def build() -> Path:
        path = Path(tempfile.mkdtemp(), f"{name}.onnx")
        FILES[name](settled(drawn(Mixed())), path)
        return path

    return build


def settled(module: nn.Module) -> nn.Module:
    """The module in eval mode, with the statistics that its batch norms see: half precision overflows without."""
    generator = torch.Generator().manual_seed(0)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.reset_running_stats()
            child.momentum = None  # the average over all batches
    with torch.no_grad():
        for _ in range(4):
            module.train()(torch.randn(8, 3, 32, 32, generator=generator))
    return module.eval()


def exported(module: nn.Module, path: Path, opset: int, dynamo: bool, open_batch: bool = False) -> None:
    """Write a module as one of torch's exporters does."""
    axes = {"x": {0: "batch"}} if open_batch else None
    x = torch.rand(1, 3, 32, 32)
    torch.onnx.export(module, (x,), path, opset_version=opset, dynamo=dynamo, input_names=["x"], dynamic_axes=axes)


def _float16(module: nn.Module, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    exported(module, path, 17, dynamo=False)
    onnx.save(convert_float_to_float16(onnx.load(path)), path)


def _quantised(module: nn.Module, path: Path) -> None:
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.rest = [{"x": rng.standard_normal((1, 3, 32, 32), np.float32)} for _ in range(8)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.rest.pop() if self.rest else None

    exported(module, dense := path.with_suffix(".dense.onnx"), 17, dynamo=False)
    quantize_static(dense, path, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True)
