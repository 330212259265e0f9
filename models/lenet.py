"""LeNet-300-100 and LeNet-5 as Caffe trains them on MNIST (1x28x28 images)."""

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet300100(nn.Module):
    """Three fully connected layers, 784-300-100-classes (LeCun et al. 1998)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """Two 5x5 convolutions and two fully connected layers, 20-50-500-classes: Caffe's `lenet.prototxt`.

    Caffe has no ReLU after the convolutions: only max pooling lies between them.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def lenet_300_100(num_classes: int = 10) -> LeNet300100:
    return LeNet300100(num_classes)


def lenet5(num_classes: int = 10) -> LeNet5:
    return LeNet5(num_classes)
