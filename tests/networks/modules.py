"""Small networks and data that train in a second."""

import numpy as np
from torch import nn

from slimnet.data.load import Data, load_data


def small_digits(count: int = 256) -> Data:
    """Some of the digits, without augmentation."""
    data = load_data("digits?augment=none")
    assert data.train is not None
    return Data(data.name, data.train.take(np.arange(count) * len(data.train) // count), data.val, data.test, "none")


def mlp() -> nn.Sequential:
    """Three linear layers for the digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10))


def cnn() -> nn.Sequential:
    """Two convolutions with batch norm and a classifier, for the digits."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


def valid_cnn() -> nn.Sequential:
    """Two convolutions without padding, one with batch norm, and a classifier, for images of 3x8x8."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 16, 4),
    )  # fmt: skip
