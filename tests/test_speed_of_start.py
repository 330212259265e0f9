"""The command starts at once: what it imports is what it needs."""

import pytest

from tests.networks.files import saved
from tests.networks.named import CNN

HEAVY = ("torch", "torchvision", "sklearn", "pandas", "matplotlib", "transformers")


def test_help_imports_nothing_that_takes_time(imported):
    loaded = imported("--help")
    assert "typer" in loaded
    assert loaded.isdisjoint((*HEAVY, "numpy", "scipy", "onnx", "onnx_ir", "onnxruntime", "onnxscript"))


def test_trace_imports_neither_torch_nor_a_runtime(imported, tmp_path):
    loaded = imported("trace", saved(tmp_path / "in" / "cnn.onnx", CNN))
    assert "onnx_ir" in loaded
    assert loaded.isdisjoint((*HEAVY, "onnxruntime", "onnxscript"))


@pytest.mark.parametrize("method", ["l1", "fermat"])
def test_pruning_an_onnx_file_never_imports_torch(imported, tmp_path, method):
    file = saved(tmp_path / "in" / "cnn.onnx", CNN)
    loaded = imported("prune", file, "--method", method, "-o", tmp_path / "out", "--bench-seconds", "0")
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(set(HEAVY) - {"matplotlib"}), "only the pictures of report.html take time to import"
