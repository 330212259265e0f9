"""What a wheel carries: the package with the reference networks inside it, and nothing else at the top level."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.networks.files import ROOT

hatchling = pytest.importorskip("hatchling.build", reason="the wheel is built with hatchling")


def test_exactly_the_lower_bounds_of_all_dependencies_were_tested() -> None:
    """benchmarks/lowest_versions.py has run the suite with them; a bound that nobody has tried is a guess."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    bounds = dict(requirement.split(">=") for requirement in content["project"]["dependencies"])
    tested = json.loads((ROOT / "benchmarks" / "results" / "lowest_versions.json").read_text())
    assert tested["versions"].keys() - {"python"} == bounds.keys()
    for package, bound in bounds.items():
        version = tested["versions"][package].partition("+")[0]
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", version), f"{package}: {bound} allowed, {version} tested"
    assert tested["tests"]["passed"] > 1000
    assert tested["failed"] == []


def build(kind: str, source: Path, target: Path) -> Path:
    """Build the "wheel" or "sdist" of the project in `source` into `target` and give its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(source)
        return target / getattr(hatchling, f"build_{kind}")(str(target))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_wheel_installs_only_the_package(wheel: Path) -> None:
    folders = {name.split("/")[0].split("-")[0] for name in names(wheel)}
    assert folders == {"slimnet"}


@pytest.mark.parametrize("folder", ["slimnet", "models"])
def test_wheel_carries_every_file_of_the_package_and_the_zoo(wheel: Path, folder: str) -> None:
    inside = Path("slimnet") if folder == "slimnet" else Path("slimnet/models")
    files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.*") if path.is_file()]
    expected = {(inside / file).as_posix() for file in files if "__pycache__" not in file.parts}
    assert expected
    assert expected <= names(wheel)


def test_wheel_says_that_its_annotations_are_to_be_used(wheel: Path) -> None:
    assert "slimnet/py.typed" in names(wheel)


def test_wheel_installs_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert b"slimnet = slimnet.cli:main" in archive.read(entry_points)


def test_wheel_built_from_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert names(build("wheel", source, tmp_path)) == names(wheel)


@pytest.mark.slow
def test_command_works_from_the_wheel_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = f"import slimnet.cli as cli; assert cli.__file__.startswith({str(site)!r}); cli.main()"
    checkpoint = site / "slimnet" / "models" / "digits_resnet.pt"
    run = subprocess.run(
        [sys.executable, "-c", script, "prune", "--method", "l1", "--ratio", "0.5", checkpoint, "-o", "out"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "slim.onnx").stat().st_size < checkpoint.stat().st_size / 2
