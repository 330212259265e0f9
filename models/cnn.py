"""The CNN of the PQ-index paper (SAP): four 3x3 convolutions with batch norm, then global average pooling."""

from torch import Tensor, nn
from torch.nn import functional as F


def block(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class CNN(nn.Module):
    """`in_channels` is 1 for MNIST and 3 for CIFAR; any image of at least 8x8 pixels."""

    def __init__(self, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(in_channels, 64),
            nn.MaxPool2d(2),
            block(64, 128),
            nn.MaxPool2d(2),
            block(128, 256),
            nn.MaxPool2d(2),
            block(256, 512),
        )
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def cnn(in_channels: int = 3, num_classes: int = 10) -> CNN:
    return CNN(in_channels, num_classes)
