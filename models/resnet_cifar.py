"""ResNet-20/32/56/110 for CIFAR (He et al. 2016, section 4.2) with parameter-free shortcuts (option A).

Parameter names are those of the widely shared CIFAR checkpoints (`layer1.0.conv1.weight`, ..., `linear.bias`).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zero channels on both sides up to the new width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pad = (out_channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if stride == 1 else PadShortcut(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


def stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels with `blocks` blocks each: depth 6 * blocks + 2."""

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, blocks, 1)
        self.layer2 = stage(16, 32, blocks, 2)
        self.layer3 = stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def resnet20(num_classes: int = 10) -> ResNet:
    return ResNet(3, num_classes)


def resnet32(num_classes: int = 10) -> ResNet:
    return ResNet(5, num_classes)


def resnet56(num_classes: int = 10) -> ResNet:
    return ResNet(9, num_classes)


def resnet110(num_classes: int = 10) -> ResNet:
    return ResNet(18, num_classes)
