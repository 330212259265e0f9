"""ConvNet: Caffe's `cifar10_quick` (3x32x32 images), the small network of the SPP paper."""

from torch import Tensor, nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """Three 5x5 convolutions, 32-32-64, each with overlapping 3x3 pooling, then 64-classes.

    Caffe rounds pooled sizes up, hence `ceil_mode`: 32 -> 16 -> 8 -> 4.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.fc1 = nn.Linear(64 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True))
        x = F.avg_pool2d(F.relu(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.avg_pool2d(F.relu(self.conv3(x)), 3, 2, ceil_mode=True)
        return self.fc2(self.fc1(x.flatten(1)))


def convnet(num_classes: int = 10) -> ConvNet:
    return ConvNet(num_classes)
