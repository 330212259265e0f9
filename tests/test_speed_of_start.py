"""The command starts at once: what it imports is what it needs."""

import subprocess
import sys

import pytest

from tests.cli.conftest import CNN, saved

HEAVY = ("torch", "torchvision", "sklearn", "pandas", "matplotlib", "transformers")


def modules(*words: object) -> set[str]:
    """Names of everything a run of the command line imports, in a process of its own."""
    script = (
        "import sys; from slimnet.cli import main; sys.argv = ['slimnet', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_imports_nothing_that_takes_time():
    loaded = modules("--help")
    assert "typer" in loaded
    assert loaded.isdisjoint((*HEAVY, "numpy", "scipy", "onnx", "onnx_ir", "onnxruntime", "onnxscript"))


def test_trace_imports_neither_torch_nor_a_runtime(tmp_path):
    loaded = modules("trace", saved(tmp_path / "in" / "cnn.onnx", CNN))
    assert "onnx_ir" in loaded
    assert loaded.isdisjoint((*HEAVY, "onnxruntime", "onnxscript"))


@pytest.mark.parametrize("method", ["l1", "fermat"])
def test_pruning_an_onnx_file_never_imports_torch(tmp_path, method):
    file = saved(tmp_path / "in" / "cnn.onnx", CNN)
    loaded = modules("prune", file, "--method", method, "-o", tmp_path / "out", "--bench-seconds", "0")
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(set(HEAVY) - {"matplotlib"}), "only the pictures of report.html take time to import"
