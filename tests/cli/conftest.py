"""The command line as a user runs it, and small networks to run it on."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from slimnet.cli import main
from tests.networks.graphs import net

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "models" / "digits_resnet.pt"

#: Two convolutions with a batch norm between them, and a classifier.
CNN = """(float[N,3,8,8] x) => (y)
    <float[8,3,3,3] conv1, float[8] scale, float[8] shift, float[8] mean, float[8] var, float[12,8,3,3] conv2,
     float[12] bias2, float[12,5] fc>
    { a = Conv(x, conv1)
      b = BatchNormalization(a, scale, shift, mean, var)
      c = Relu(b)
      d = Conv(c, conv2, bias2)
      e = Relu(d)
      f = GlobalAveragePool(e)
      g = Flatten(f)
      y = MatMul(g, fc) }"""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that a user's mistake gets."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.out == ""
        return lines[0]


Slimnet = Callable[..., Outcome]


@pytest.fixture
def slimnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Slimnet:
    """Runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["slimnet", *map(str, words)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    """A small convolutional network as a file of its own folder, so that the working folder stays empty."""
    return saved(tmp_path / "in" / "cnn.onnx", CNN)


def saved(path: Path, text: str, **weights: Any) -> Path:
    """Write a network given as text."""
    path.parent.mkdir(exist_ok=True)
    ir.save(net(text, **weights).model, path)
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder, hidden ones too, with its content."""
    found: dict[str, bytes | None] = {}
    for at, folders, files in os.walk(folder):
        found |= {str(Path(at, name).relative_to(folder)): None for name in folders}
        found |= {str(Path(at, name).relative_to(folder)): Path(at, name).read_bytes() for name in files}
    return found
