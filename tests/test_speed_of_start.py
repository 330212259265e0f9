"""The command starts at once: what it imports is what it needs."""

import json
import subprocess
import sys

import pytest

from tests.networks.files import saved
from tests.networks.named import CNN
from tests.networks.reports import bare

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
    assert loaded.isdisjoint((*HEAVY, "scipy.optimize", "scipy.stats"))


def test_comparing_runs_imports_nothing_that_takes_time(imported, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(bare()))
    loaded = imported("compare", tmp_path)
    assert "rich" in loaded
    assert loaded.isdisjoint((*HEAVY, "numpy", "scipy", "onnx", "onnx_ir", "onnxruntime", "onnxscript"))


def test_charts_and_templates_are_imported_when_a_page_is_written():
    script = "import sys, slimnet.report.html, slimnet.pipeline.prune; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"slimnet.report.charts", "slimnet.report.page"} <= loaded
    assert loaded.isdisjoint((*HEAVY, "jinja2"))
