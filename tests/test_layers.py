"""Imports run one way, and torch stays in its corner."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.networks.files import ROOT, saved
from tests.networks.named import MLP

SOURCES = sorted((ROOT / "slimnet").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

#: A package imports only packages that stand before it, late and type-checking imports included.
ORDER = (
    *("common", "graph", "methods", "data", "runtime", "io", "calibration", "analysis"),
    *("timing", "verification", "recovery", "report", "planning", "training", "pipeline", "cli"),
)
#: The modules beside the packages: the public API, for which there is no order.
PUBLIC = ("slimnet", "slimnet.__main__", "slimnet.api", "slimnet.testing")

ONNX = ("onnx", "onnx_ir", "onnxruntime", "onnxscript")
TORCH = ("torch", "torchvision")
#: What the modules of a package must not import, not even late.
FOREIGN = {
    "graph": (*TORCH, "onnxruntime"),
    "methods": ONNX,
    **dict.fromkeys(("runtime", "analysis", "timing", "verification", "recovery", "report", "planning"), TORCH),
}
#: Modules that may load torch as they are loaded: imported by others only when it is needed.
CORNER = (
    *(
        "slimnet.io.torch_",
        "slimnet.training.",
        "slimnet.methods.",
        "slimnet.calibration.classifier",
        "slimnet.calibration.gradients",
        "slimnet.common.torch_private",
    ),
    *("slimnet.pipeline.finetune", "slimnet.pipeline.iterative", "slimnet.pipeline.train"),
)
#: The methods that work on numpy arrays, for which pruning an ONNX file needs no torch.
NUMPY = tuple(f"slimnet.methods.{name}" for name in ("base", "criteria", "from_data", "lookup", "registry"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str | None:
    """The package of slimnet that a module lies in; None for the modules beside them."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] if rest and module not in PUBLIC else None


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


def test_every_package_has_its_place_and_nothing_else_lies_beside_them():
    names = [module_name(path) for path in SOURCES]
    assert sorted({package_of(name) for name in names} - {None}) == sorted(ORDER)
    assert {name for name in names if package_of(name) is None} == set(PUBLIC)


def test_the_documents_tell_the_same_order():
    lines = (ROOT / "ARCHITECTURE.md").read_text().splitlines()
    assert [tuple(line.split()) for line in lines if line.strip().startswith("common ")] == [ORDER]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_imports_only_packages_that_stand_before_its_own(path):
    package = package_of(module_name(path))
    if package is None:
        return
    below = ORDER[: ORDER.index(package) + 1]
    own = [name for name in imports(path) if within(name, "slimnet")]
    assert [name for name in own if package_of(name) not in below] == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_module_imports_a_library_that_is_not_for_its_package(path):
    foreign = (*FOREIGN.get(package_of(module_name(path)) or "", ()), "models")
    assert [name for name in imports(path) if any(within(name, bad) for bad in foreign)] == []


def test_onnxruntime_is_imported_by_one_module():
    """Another runtime is another module like it."""
    importing = {module_name(path) for path in SOURCES if any(within(name, "onnxruntime") for name in imports(path))}
    assert importing == {"slimnet.runtime.onnxruntime"}


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


@pytest.mark.parametrize("path", TESTS, ids=module_name)
def test_what_tests_share_stands_in_tests_networks(path):
    """And fixtures in conftest files, which nobody imports."""
    assert [name for name in imports(path) if within(name, "tests") and not within(name, "tests.networks")] == []


def test_pruning_an_onnx_file_never_imports_torch(tmp_path):
    script = f"""
import sys
import slimnet
trace = slimnet.trace(slimnet.load({str(saved(tmp_path / "mlp.onnx", MLP))!r}))
plan = slimnet.plan(trace, method="l1", ratio=0.5)
model = slimnet.slim(trace, plan)
slimnet.verify(trace, plan, model)
print(len(trace.groups), model.graph.initializers["w"].shape[1], "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == ["1", "4", "False"]
