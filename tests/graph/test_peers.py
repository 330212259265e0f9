"""On plain convolutional networks the groups are those of torch-pruning."""

import pytest

from slimnet.graph.trace import trace
from slimnet.io.load import load

Sides = set[frozenset[tuple[str, str]]]


def ours(module) -> Sides:
    """Which sides of which convolutions and linear layers are cut together."""
    groups = set()
    for group in trace(load(module, inputs="1x3x64x64")).groups:
        weights = [m for m in group.members if m.tensor.endswith(".weight") and "Norm" not in m.use.op]
        sides = {(m.tensor.removesuffix(".weight"), "out" if m.axis == 0 else "in") for m in weights}
        groups.add(frozenset(sides))
    return groups


def theirs(module) -> Sides:
    """The same by torch-pruning; a depthwise convolution has one side."""
    import torch
    import torch_pruning as tp

    graph = tp.DependencyGraph().build_dependency(module, torch.zeros(1, 3, 64, 64))
    last = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1]
    names = {m: name for name, m in module.named_modules()}
    groups = set()
    for group in graph.get_all_groups(ignored_layers=[last], root_module_types=[torch.nn.Conv2d, torch.nn.Linear]):
        sides = set()
        for dependency, _ in group:
            layer = dependency.target.module
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                depthwise = getattr(layer, "groups", 1) > 1
                out = depthwise or graph.is_out_channel_pruning_fn(dependency.handler)
                sides.add((names[layer], "out" if out else "in"))
        groups.add(frozenset(sides))
    return groups


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v2"])
def test_groups_agree_with_torch_pruning(name):
    models = pytest.importorskip("torchvision").models
    pytest.importorskip("torch_pruning")
    module = getattr(models, name)().eval()
    found = ours(module)
    assert len(found) > 8
    assert found == theirs(module)
