"""A dozen real architectures in small, and the most parameters that may be left of each at half the width."""

from collections.abc import Callable
from functools import partial

import torchvision
from torch import nn
from torchvision.models import convnext, maxvit, resnet, swin_transformer

Build = Callable[[], nn.Module]
SMALL = {"weights": None, "num_classes": 10}


def zoo(name: str, **options: object) -> Build:
    return partial(torchvision.models.get_model, name, **SMALL, **options)


def swin(block: type[nn.Module], merge: type[nn.Module]) -> Build:
    return partial(
        swin_transformer.SwinTransformer,
        *([4, 4], 24, [1, 1], [2, 4], [4, 4]),
        num_classes=10,
        block=block,
        downsample_layer=merge,
    )


def convnext_small() -> nn.Module:
    blocks = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 2)]
    return convnext.ConvNeXt(blocks, num_classes=10)


def resnext() -> nn.Module:
    return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], 10, groups=8, width_per_group=8)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(12, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


NETWORKS: dict[str, tuple[Build, tuple[int, ...], float]] = {
    # The last number is the most parameters that may be left.
    "resnet18": (zoo("resnet18"), (1, 3, 64, 64), 0.27),
    "resnext": (resnext, (1, 3, 64, 64), 0.29),
    "densenet": (partial(torchvision.models.DenseNet, 8, (2, 3, 2), 16, num_classes=10), (1, 3, 64, 64), 0.30),
    "mobilenet_v3_small": (zoo("mobilenet_v3_small"), (1, 3, 64, 64), 0.32),
    "shufflenet": (zoo("shufflenet_v2_x0_5"), (1, 3, 64, 64), 0.32),
    "squeezenet": (zoo("squeezenet1_1"), (1, 3, 64, 64), 0.33),
    "regnet": (zoo("regnet_y_400mf"), (1, 3, 64, 64), 0.29),
    "vit": (
        partial(torchvision.models.VisionTransformer, 32, 8, 2, 4, 32, 64, num_classes=10),
        (1, 3, 32, 32),
        0.67,
    ),
    "swin": (swin(swin_transformer.SwinTransformerBlock, swin_transformer.PatchMerging), (1, 3, 32, 32), 0.62),
    "swin_v2": (swin(swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2), (1, 3, 32, 32), 0.62),
    "maxvit": (partial(maxvit.MaxVit, (64, 64), 8, 4, [16, 32], [1, 1], 8, 0.0, num_classes=10), (1, 3, 64, 64), 0.60),
    "convnext": (convnext_small, (1, 3, 32, 32), 0.70),
    "lstm": (partial(Recurrent, nn.LSTM), (1, 6, 12), 0.45),
    "gru": (partial(Recurrent, nn.GRU), (1, 6, 12), 0.45),
}  # fmt: skip
