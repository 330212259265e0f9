"""A backend that another package brings."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimnet.runtime.backend import Backend
from slimnet.runtime.registry import backend
from tests.networks.backends import install

#: All that a package has to bring to run networks: onnx's own evaluator, as a backend.
REFERENCE = """
import time
from dataclasses import dataclass, replace

import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from slimnet.common.errors import BadInput
from slimnet.runtime.backend import RunFailed, RuntimeInfo
from slimnet.runtime.machine import cores, cpu


@dataclass(frozen=True)
class Reference:
    provider: str = "numpy"
    threads: int | None = None

    def with_threads(self, threads):
        return replace(self, threads=threads)

    def describe(self):
        return RuntimeInfo("reference", onnx.__version__, self.provider, self.threads, cpu(), cores())

    def session(self, model, optimise=True):
        return Session(ReferenceEvaluator(ir.to_proto(model if isinstance(model, ir.Model) else ir.load(model))))

    def probe(self, model, folder):
        raise BadInput("the reference evaluator cannot time nodes")


class Session:
    def __init__(self, evaluator):
        self.evaluator, self.inputs = evaluator, evaluator.input_names

    def run(self, feed):
        try:
            return self.evaluator.run(None, dict(feed))
        except Exception as error:
            raise RunFailed("reference", str(error)) from error

    def bind(self, feed):
        def timed(runs):
            start = time.perf_counter()
            for _ in range(runs):
                self.run(feed)
            return time.perf_counter() - start

        return timed


def make(provider, threads):
    return Reference(provider or "numpy", threads)
"""


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """That backend, installed."""
    install(tmp_path, monkeypatch, "reference_backend:make")
    (tmp_path / "site" / "reference_backend.py").write_text(REFERENCE)
    yield backend("simulated", 2)
    sys.modules.pop("reference_backend", None)
