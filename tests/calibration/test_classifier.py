"""Whether a module can classify some data, without changing it."""

import numpy as np
import pytest
import torch
from torch import nn

from slimnet.calibration.classifier import check_classes
from slimnet.common.errors import BadInput
from slimnet.data.samples import Samples
from slimnet.io.torch_forward import evaluating


def samples(classes: int = 3) -> Samples:
    return Samples(np.zeros((6, 4), np.float32), np.arange(6) % classes)


def network(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, outputs))


def test_a_classifier_is_left_as_it_is():
    module = network().train()
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    check_classes(module, samples(), "mine")
    assert [part.training for part in module.modules()] == [True, True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (network(2), "`data` mine: has 3 classes, and the network 2 outputs"),
        (nn.Linear(5, 3), r"does not run on samples of shape \[4\]"),
        (nn.Unflatten(1, (2, 2)), "one vector of class scores"),
    ],
)
def test_a_module_that_cannot_classify_the_data_is_refused(module, says):
    module.register_parameter("any", nn.Parameter(torch.zeros(1)))
    with pytest.raises(BadInput, match=says):
        check_classes(module, samples(), "mine")
