"""Train `digits_resnet` on scikit-learn's digits and write `digits_resnet.pt` beside this file.

    python models/train_digits.py

One thread and fixed seeds: the same torch build gives the same weights. The number of epochs is fixed; nothing
is chosen on the test split, which is looked at once, at the end. The checkpoint is plain tensors and strings,
readable with `torch.load(..., weights_only=True)`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from digits_resnet import digits_resnet
from slimnet.data.sources.digits import load_digits_split

EPOCHS = 40
BATCH = 64
PEAK_LR = 0.1


def shifted(images: Tensor) -> Tensor:
    """The images [n, 1, 8, 8], each moved by up to one pixel along both axes, zeros coming in."""
    n, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1))
    rows = torch.randint(0, 3, (n, 1, 1)) + torch.arange(height)[:, None]
    columns = torch.randint(0, 3, (n, 1, 1)) + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """SGD with Nesterov momentum, one learning-rate cycle, label smoothing and shifts."""
    optimizer = torch.optim.SGD(model.parameters(), lr=PEAK_LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(model(shifted(images[batch])), labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of `images` whose largest logit is the label's."""
    return (model.eval()(images).argmax(1) == labels).float().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    split = {name: tuple(map(torch.from_numpy, arrays)) for name, arrays in load_digits_split().items()}
    model = digits_resnet()
    train(model, *split["train"])
    test_accuracy = accuracy(model, *split["test"])
    print(f"validation {accuracy(model, *split['val']):.4f}  test {test_accuracy:.4f}")
    checkpoint = {
        "arch": "models:digits_resnet",
        "state_dict": model.state_dict(),
        "input": [1, 1, 8, 8],
        "data": "digits",
        "test_accuracy": test_accuracy,
        "command": "python models/train_digits.py",
    }
    torch.save(checkpoint, Path(__file__).with_name("digits_resnet.pt"))


if __name__ == "__main__":
    main()
