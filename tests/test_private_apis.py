"""Private names of other libraries stand in two modules, so that a new release can break nothing else."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "slimnet").rglob("*.py"))

#: Where private names of other libraries may stand.
ALLOWED = ("slimnet/common/torch_private.py", "slimnet/training/accelerator.py")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


@cache
def own_names() -> set[str]:
    """Every private name that slimnet defines itself: functions, classes, variables, attributes and fields."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return {name for name in found if is_private(name)}


def imported(tree: ast.Module) -> set[str]:
    """Names that a file binds to other libraries and their modules."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("slimnet"):
            found |= {alias.asname or alias.name for alias in node.names}
    return found - {"slimnet"}


def root_of(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def foreign_private_names(source: str, own: set[str]) -> Iterator[str]:
    """Private modules and names that a source imports from elsewhere, and private attributes that are not slimnet's."""
    tree = ast.parse(source)
    libraries = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if root_of(node) in libraries or node.attr not in own:
                yield ast.unparse(node)
            continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            match node.args[1:2]:
                case [ast.Constant(value=str(name))] if is_private(name) and name not in own:
                    yield ast.unparse(node)
            continue
        else:
            continue
        outside = (name for name in names if not name.startswith("slimnet."))
        yield from (name for name in outside if any(is_private(part) for part in name.split(".")))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_uses_a_private_name_of_another_library(path):
    found = list(foreign_private_names(path.read_text(), own_names()))
    assert bool(found) == (path.relative_to(ROOT).as_posix() in ALLOWED), found


@pytest.mark.parametrize(
    "line",
    [
        "from torch.utils import _pytree",
        "from torch.utils._pytree import tree_leaves",
        "import onnx_ir._core",
        "import torch; torch._foreach_abs([])",
        "from torch import nn; nn.modules.conv._ConvNd",
        "def f(module): return module._buffers",
        "def f(module): return getattr(module, '_buffers')",
    ],
)
def test_every_way_to_reach_a_private_name_is_noticed(line):
    assert list(foreign_private_names(line, {"_own"}))


@pytest.mark.parametrize("line", ["self._own = 1", "import torch; torch.nn.Module", "from slimnet.x import _own"])
def test_own_private_names_are_not(line):
    assert not list(foreign_private_names(line, {"_own"}))
