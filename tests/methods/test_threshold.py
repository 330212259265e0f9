"""From small weights to masks, by hand."""

import pytest
import torch

from slimnet.methods.threshold import filled, masks_above


def mask(rows: str) -> torch.Tensor:
    """A mask as its rows: "10 00"."""
    return torch.tensor([[char == "1" for char in row] for row in rows.split()])


def test_weights_that_are_not_small():
    params = {"w": torch.tensor([[1.0, -1.0], [0.1, -3.0]]), "b": torch.tensor([0.05, -2.0])}
    std = float(params["w"].std(correction=0))
    assert masks_above(params, ratio=0.99 / std)["w"].tolist() == [[True, True], [False, True]]
    assert masks_above(params, absolute=1.0)["b"].tolist() == [False, True]


def test_a_weight_stays_where_its_row_and_its_column_do():
    assert filled({"w": mask("100 000 010")})["w"].tolist() == mask("110 000 110").tolist()


def test_the_bias_keeps_the_rows_that_its_weight_keeps():
    """Whatever is small in it: a filter that stays is computed with its bias, and one that goes has none."""
    full = filled({"fc.weight": mask("100 000 010"), "fc.bias": torch.tensor([False, True, True])})
    assert full["fc.bias"].tolist() == [True, False, True]


@pytest.mark.parametrize("bias", ["fc.bias", "other.bias"])
def test_what_is_no_bias_of_the_weight_stays_as_it_is(bias):
    masks = {"fc.weight": mask("10 00 01"), bias: torch.tensor([False, True])}
    assert filled(masks)[bias].tolist() == [False, True]


def test_kernels_go_as_a_whole():
    conv = torch.zeros(2, 2, 3, 3, dtype=torch.bool)
    conv[0, 1, 2, 2] = True
    full = filled({"conv.weight": conv})["conv.weight"]
    assert full[0, 1].all()
    assert int(full.sum()) == 9
