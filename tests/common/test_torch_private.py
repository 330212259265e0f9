"""What torch does not promise still does what slimnet needs; each test names what breaks without it."""

import io
import logging
import warnings

import pytest
import torch
from torch import nn

from slimnet.common import torch_private as private


def tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))]


#: A function, what it does to each tensor of a list, and its second argument: one for all, or one for each.
ON_LISTS = {
    "add one number": (private.foreach_add, torch.add, 2.0),
    "add": (private.foreach_add_, torch.add, tensors(1)),
    "multiply": (private.foreach_mul, torch.mul, [2.0, 3.0]),
    "multiply in place by numbers": (private.foreach_mul_, torch.mul, [2.0, 3.0]),
    "multiply in place by one number": (private.foreach_mul_, torch.mul, 2.0),
    "multiply in place": (private.foreach_mul_, torch.mul, tensors(1)),
    "divide": (private.foreach_div, torch.div, tensors(1)),
    "divide in place": (private.foreach_div_, torch.div, tensors(1)),
}


@pytest.mark.parametrize(("on_lists", "on_tensors", "other"), ON_LISTS.values(), ids=ON_LISTS)
def test_transformed_l1_and_hoyer_compute_on_lists_of_tensors(on_lists, on_tensors, other):
    values, others = tensors(0), other if isinstance(other, list) else [other] * 2
    expected = [on_tensors(x, y) for x, y in zip(values, others, strict=True)]
    result = on_lists(values, other)
    torch.testing.assert_close(values if on_lists.__name__.endswith("_") else list(result), expected)


@pytest.mark.parametrize(
    ("on_lists", "on_tensors"), [(private.foreach_abs, torch.abs), (private.foreach_sign, torch.sign)]
)
def test_transformed_l1_and_hoyer_take_absolute_values_and_signs_of_lists(on_lists, on_tensors):
    torch.testing.assert_close(list(on_lists(tensors(0))), [on_tensors(x) for x in tensors(0)])


@pytest.mark.parametrize(
    "made", [nn.Conv1d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv3d(2, 2, 1), nn.ConvTranspose2d(2, 2, 1)], ids=repr
)
def test_slim_modules_of_every_convolution_get_their_widths(made):
    assert isinstance(made, private.CONVOLUTION)


@pytest.mark.parametrize("made", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)])
def test_the_statistics_of_every_batch_norm_are_estimated_anew(made):
    assert isinstance(made, private.BATCH_NORM)
    assert isinstance(made, private.CHANNEL_NORM)


def test_slim_modules_of_instance_norms_get_their_widths_and_keep_their_statistics():
    assert isinstance(nn.InstanceNorm2d(2), private.CHANNEL_NORM)
    assert not isinstance(nn.InstanceNorm2d(2), private.BATCH_NORM)
    assert not isinstance(nn.GroupNorm(1, 2), private.CHANNEL_NORM)


def test_outputs_are_flattened_in_the_order_of_an_exported_program():
    class Nested(nn.Module):
        def forward(self, x):
            return {"b": (x + 1, [x + 2]), "a": x + 3}

    x = torch.zeros(2)
    program = torch.export.export(Nested(), (x,))
    values = [float(t[0]) for t in private.tensors_in(Nested()(x))]
    nodes = next(node for node in program.graph.nodes if node.op == "output").args[0]
    assert values == [float(node.args[1]) for node in nodes]
    assert private.tensors_in(("text", 1, None, x)) == [x]


def test_the_graph_that_torchscript_prints_when_it_fails_goes_to_the_log(capfd, caplog):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    warnings.simplefilter("ignore")
    caplog.set_level(logging.DEBUG, private.__name__)
    with private.graphs_logged(), pytest.raises(torch.onnx.errors.UnsupportedOperatorError):
        torch.onnx.export(Odd(), (torch.ones(2, 2),), io.BytesIO(), dynamo=False)
    assert "graph(" not in "".join(capfd.readouterr())
    assert "aten::linalg_eigvals" in caplog.text


def test_weights_without_values_are_told_from_others():
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    stand_ins = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"]
    assert stand_ins
    assert all(isinstance(tensor, private.FAKE_TENSOR) for tensor in stand_ins)
    assert not isinstance(nn.Linear(2, 2).weight, private.FAKE_TENSOR)


def test_outputs_get_the_keys_of_what_a_module_returns():
    class Two(nn.Module):
        def forward(self, x):
            return {"a": x + 1, "c": 3, "b": (x + 2,)}

    returned = private.returned_by(torch.export.export(Two(), (torch.zeros(2),)))
    assert (list(returned), returned["c"]) == (["a", "c", "b"], None)
    assert all(isinstance(part, torch.Tensor) for part in (returned["a"], *returned["b"]))


def test_programs_that_return_more_than_tensors_are_translated():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls.add_(1)
            return {"n": 3, "a": x + self.calls, "none": None}

    program = torch.export.export(Mixed(), (torch.zeros(2),))
    private.drop_constants(program)
    exported = torch.onnx.export(program, optimize=False, verbose=False)
    assert len(exported.model.graph.outputs) == 1


def test_returned_objects_that_torch_does_not_look_into_are_told_from_others():
    x = torch.zeros(2)
    assert all(private.is_leaf(value) for value in (x, 3, object()))
    assert not any(private.is_leaf(value) for value in ([x], {"x": x}, (), torch.max(x, 0)))
