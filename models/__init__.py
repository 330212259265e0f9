"""The built-in zoo: `--arch models:NAME` reads its architecture here.

`ZOO` maps a name to "file:factory" inside this folder; `INPUTS` gives the input shape (NCHW, batch 1) of the
network with its default arguments. Every factory takes `num_classes` and returns a freshly initialised module.
"""

ZOO: dict[str, str] = {
    "lenet_300_100": "lenet.py:lenet_300_100",
    "lenet5": "lenet.py:lenet5",
    "convnet": "convnet.py:convnet",
    "resnet20": "resnet_cifar.py:resnet20",
    "resnet32": "resnet_cifar.py:resnet32",
    "resnet56": "resnet_cifar.py:resnet56",
    "resnet110": "resnet_cifar.py:resnet110",
    "vgg19": "vgg_cifar.py:vgg19",
    "mlp": "mlp.py:mlp",
    "cnn": "cnn.py:cnn",
    "digits_resnet": "digits_resnet.py:digits_resnet",
}

INPUTS: dict[str, tuple[int, ...]] = {
    "lenet_300_100": (1, 1, 28, 28),
    "lenet5": (1, 1, 28, 28),
    "convnet": (1, 3, 32, 32),
    "resnet20": (1, 3, 32, 32),
    "resnet32": (1, 3, 32, 32),
    "resnet56": (1, 3, 32, 32),
    "resnet110": (1, 3, 32, 32),
    "vgg19": (1, 3, 32, 32),
    "mlp": (1, 1, 28, 28),
    "cnn": (1, 3, 32, 32),
    "digits_resnet": (1, 1, 8, 8),
}
