"""VGG-19 with batch norm for CIFAR: the sixteen convolutions of Simonyan and Zisserman (2015), one linear layer."""

from torch import Tensor, nn

WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")


def features() -> nn.Sequential:
    """The convolutions: a width is conv, batch norm and ReLU; "M" halves the map (32 -> 1 in five steps)."""
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    def __init__(self, num_classes: int = 100) -> None:
        super().__init__()
        self.features = features()
        self.classifier = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def vgg19(num_classes: int = 100) -> VGG:
    return VGG(num_classes)
