"""Other libraries' loggers keep the levels that a program has given them."""

import logging

import pytest

from slimnet.common.files import first_cause
from slimnet.common.quiet import only_errors
from slimnet.graph import optimise as module
from slimnet.report.charts import tradeoff
from tests.networks.graphs import net
from tests.networks.named import CNN

LIBRARIES = ("onnxscript", "onnx_ir", "matplotlib", "matplotlib.font_manager", "torch", "torch.onnx", "accelerate")


@pytest.fixture
def levels():
    """Levels nobody would choose, one for each library, and what they are now."""
    chosen = {name: 11 + k for k, name in enumerate(LIBRARIES)}
    before = {name: logging.getLogger(name).level for name in LIBRARIES}
    for name, level in chosen.items():
        logging.getLogger(name).setLevel(level)
    yield chosen
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def failing(*_, **__):
    raise RuntimeError("fails")


def now() -> dict[str, int]:
    return {name: logging.getLogger(name).level for name in LIBRARIES}


def test_nothing_below_an_error_is_said_inside(levels, caplog):
    with only_errors("onnx_ir"):
        logging.getLogger("onnx_ir.passes").warning("chatter")
        logging.getLogger("onnx_ir.passes").error("failure")
    assert [record.message for record in caplog.records] == ["failure"]
    logging.getLogger("onnx_ir.passes").warning("heard again")
    assert caplog.records[-1].message == "heard again"


def test_levels_are_as_before_also_after_a_failure(levels):
    with pytest.raises(RuntimeError, match="fails"), only_errors(*LIBRARIES):
        failing()
    assert now() == levels


def test_optimising_leaves_levels_alone(levels):
    module.optimise(net(CNN).model)
    assert now() == levels


def test_optimising_leaves_levels_alone_when_it_fails(levels, monkeypatch):
    monkeypatch.setattr(module.optimizer, "fold_constants", failing)
    with pytest.raises(RuntimeError) as raised:
        module.optimise(net(CNN).model)
    assert str(first_cause(raised.value)) == "fails"
    assert now() == levels


def test_drawing_leaves_levels_and_styles_alone(levels):
    from matplotlib import rcParams

    styles = dict(rcParams)
    assert tradeoff([("run", "l1", 1.0, 0.9), ("other", "l1", 2.0, 0.8)]).startswith("<svg")
    assert now() == levels
    assert dict(rcParams) == styles
