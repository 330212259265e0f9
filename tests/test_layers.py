"""Imports run one way."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "slimnet").rglob("*.py"))
ONNX = ("onnx", "onnx_ir", "onnxruntime", "onnxscript")
TORCH = ("torch", "torchvision")

#: What the modules of a package must not import, not even late.
FORBIDDEN = {
    "slimnet": ("models", "slimnet.cli"),
    "slimnet.graph": (*TORCH, "onnxruntime", "slimnet.io", "slimnet.methods", "slimnet.timing", "slimnet.report"),
    "slimnet.planning": TORCH,
    "slimnet.analysis": TORCH,
    "slimnet.methods": (*ONNX, "slimnet.io", "slimnet.timing"),
    "slimnet.timing": TORCH,
    "slimnet.report": TORCH,
    "slimnet.verification": TORCH,
}
#: Modules that may load torch as they are loaded: imported by others only when it is needed.
CORNER = ("slimnet.io.torch_", "slimnet.training.", "slimnet.methods.")
#: The methods that work on numpy arrays, for which pruning an ONNX file needs no torch.
NUMPY = ("slimnet.methods.base", "slimnet.methods.criteria", "slimnet.methods.from_data")
#: The command line is the only one that may know the command line.
FREE = ("slimnet.cli", "slimnet.__main__")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of everything a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by full name, please"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_module_imports_what_lies_above_it(path):
    name = module_name(path)
    forbidden = {bad for package, bads in FORBIDDEN.items() if within(name, package) for bad in bads}
    if any(within(name, free) for free in FREE):
        forbidden = {"models"}
    assert [i for i in imports(path) if any(within(i, bad) for bad in forbidden)] == []


def test_torch_stays_in_its_corner():
    """Only the modules that read and write PyTorch load it as they are loaded."""
    at_import = set()
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(within(name, torch) for name in names for torch in TORCH):
                at_import.add(module_name(path))
    assert at_import
    assert all(name.startswith(CORNER) and name not in NUMPY for name in at_import)


def test_pruning_an_onnx_file_never_imports_torch(tmp_path):
    script = f"""
import sys
from onnx import helper, numpy_helper, TensorProto, save
import numpy as np
tensor = lambda name, *shape: numpy_helper.from_array(np.ones(shape, np.float32), name)
value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
graph = helper.make_graph(nodes, "g", [value("x", 1, 3)], [value("y", 1, 2)], [tensor("a", 3, 8), tensor("b", 8, 2)])
path = {str(tmp_path / "tiny.onnx")!r}
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

import slimnet
trace = slimnet.trace(slimnet.load(path))
plan = slimnet.plan(trace, method="l1", ratio=0.5)
model = slimnet.slim(trace, plan)
slimnet.verify(trace, plan, model)
print(len(trace.groups), model.graph.initializers["a"].shape[1], "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == ["1", "4", "False"]
