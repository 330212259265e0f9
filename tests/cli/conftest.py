"""The command line as a user runs it, and a small network to run it on."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slimnet.cli import main
from tests.networks.backends import install
from tests.networks.files import saved
from tests.networks.named import CNN


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
def simulated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options for a runtime that takes the time of the weights, whatever else the machine does."""
    install(tmp_path_factory.mktemp("installed"), monkeypatch)
    return ("--provider", "simulated", "--threads", "1")


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    """A small convolutional network as a file of its own folder, so that the working folder stays empty."""
    return saved(tmp_path / "in" / "cnn.onnx", CNN)
