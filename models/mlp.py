"""The MLP of the PQ-index paper (SAP): in-128-256-classes."""

from math import prod

from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """`input_shape` is one image, channels first: (1, 28, 28) for MNIST, (3, 32, 32) for CIFAR."""

    def __init__(self, input_shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(prod(input_shape), 128)
        self.fc2 = nn.Linear(128, 256)
        self.fc3 = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def mlp(input_shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10) -> MLP:
    return MLP(input_shape, num_classes)
