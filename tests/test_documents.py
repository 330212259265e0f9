"""What the documents say is so: the worked example, and every file that they name."""

import re
from pathlib import Path

import numpy as np
import pytest

from slimnet.graph.surgery import slim
from slimnet.graph.trace import Tracer, trace
from tests.networks.graphs import net, units

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "docs" / "glossary.md",
]

EXAMPLE = """(float[1,3,2,2] x) => (float[1,5] y) 
    <float[4,3,1,1] w1, float[4,4,1,1] w2, int64[2] s = {1, 16}, float[16,5] fc>
    { a = Conv(x, w1)
      b = Conv(a, w2)
      c = Add(a, b)
      r = Reshape(c, s)
      y = MatMul(r, fc) }"""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document):
    text = document.read_text()
    paths = re.findall(r"`((?:slimnet|tests|benchmarks|recipes|models|docs|\.ci)/[\w./*-]*)`", text)
    paths += re.findall(r"\]\(([\w./-]+\.md)\)", text)
    missing = [
        path for path in paths if not list(ROOT.glob(path.rstrip("/"))) and not (document.parent / path).exists()
    ]
    assert missing == []


def test_the_labels_of_the_worked_example():
    values = Tracer(net(EXAMPLE)).run().values
    labels = {value.name: [axis.tolist() for axis in known.axes] for value, known in values.items() if known.axes}
    assert labels["x"] == [[0], [0, 0, 0], [0, 0], [0, 0]]
    assert labels["w1"] == [[1, 2, 3, 4], [5, 6, 7], [0], [0]]
    assert labels["w2"] == [[8, 9, 10, 11], [12, 13, 14, 15], [0], [0]]
    assert labels["fc"] == [[*range(16, 32)], [*range(32, 37)]]
    assert labels["a"] == [[0], [1, 2, 3, 4], [0, 0], [0, 0]]
    assert labels["b"] == [[0], [8, 9, 10, 11], [0, 0], [0, 0]]
    assert labels["r"] == [[0], [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]]


def test_the_unit_and_the_removal_of_the_worked_example():
    found = trace(net(EXAMPLE))
    assert units(found) == {"w1:0 w2:0 w2:1 fc:0x4": 4}
    assert sorted(pin.tensor for pin in found.pins) == ["fc", "w1"]
    model = slim(found, np.array([False, False, True, False]))
    shapes = {name: value.const_value.shape.numpy() for name, value in model.graph.initializers.items()}
    assert shapes["w1"] == (3, 3, 1, 1)
    assert shapes["w2"] == (3, 3, 1, 1)
    assert shapes["fc"] == (12, 5)
    target = next(node for node in model.graph if node.op_type == "Reshape").inputs[1].const_value.numpy()
    assert target.tolist() == [1, 12]
