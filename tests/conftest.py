"""Fixtures that several folders of tests share."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks.timed import conv_net, from_text


@pytest.fixture
def text() -> Callable[[str], ir.Model]:
    return from_text


@pytest.fixture
def net() -> Callable[..., ir.Model]:
    return conv_net


@pytest.fixture
def image() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16), dtype=np.float32)}
