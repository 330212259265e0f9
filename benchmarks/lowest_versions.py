"""Run the tests with exactly the lowest versions that pyproject.toml allows of everything slimnet depends on.

    nice python benchmarks/lowest_versions.py [--env FOLDER] [--workers 2] [TEST ...]

Makes a virtual environment (in FOLDER, which is kept and may exist already, else in a temporary one), installs every
dependency at its lower bound and pytest with its plugins as they are now, and runs the suite, or the tests named.
Takes some 5 GB of disk, for torch's CUDA libraries, and as long as the suite does. A bound whose tests fail is raised.

Writes results/lowest_versions.json and the table results/lowest_versions.md when the whole suite was run.
Exits with 1 if a test fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import harness

ROOT = Path(__file__).parents[1]
FILE = harness.RESULTS / "lowest_versions.json"
#: The test that compares the bounds with the result of the last run.
ABOUT_THIS = "tests/test_packaging.py::test_exactly_the_lower_bounds_of_all_dependencies_were_tested"
#: What the tests need beside slimnet's own dependencies. torch-pruning, the peer, goes with any torch.
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "torch-pruning", "hatchling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, help="folder of the environment, which is kept")
    parser.add_argument("--workers", default="2", help="test processes at a time")
    parser.add_argument("tests", nargs="*", help="the whole suite if none is named")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = environment(options.env or Path(folder))
        counts, failed = run(python, options.workers, options.tests)
        if not options.tests:
            write({"versions": installed(python), "tests": counts, "failed": failed})
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    sys.exit(bool(failed))


def lower_bounds() -> dict[str, str]:
    """The lowest version that pyproject.toml allows, by package.

    Raises:
        ValueError: a dependency has none.
    """
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {}
    for requirement in content["project"]["dependencies"]:
        match = re.fullmatch(r"([\w-]+)>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement} has no lower bound; write it as NAME>=VERSION")
        found[match[1]] = match[2]
    return found


def environment(folder: Path) -> Path:
    """The Python of an environment with the lowest versions, which is made or brought up to date."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pins = [f"{package}=={version}" for package, version in lower_bounds().items()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins, *TOOLS], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT)], check=True)
    return python


def run(python: Path, workers: str, tests: list[str]) -> tuple[dict[str, int], list[str]]:
    """Tests by outcome, and the names of those that fail."""
    command = [str(python), "-m", "pytest", "-q", "-n", workers, "-p", "no:cacheprovider", "-rfE"]
    command += ["--deselect", ABOUT_THIS, *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout[-20_000:])
    summary = done.stdout.rstrip().rpartition("\n")[2]
    counts = {outcome: int(count) for count, outcome in re.findall(r"(\d+) (passed|failed|skipped|errors?)", summary)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, flags=re.MULTILINE)
    if done.returncode and not failed:
        failed = [summary]
    return counts, failed


def installed(python: Path) -> dict[str, str]:
    """What the environment really holds of slimnet's dependencies, and its Python."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    versions = {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}
    asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    return {"python": asked} | {package: versions[package] for package in lower_bounds()}


def write(table: dict[str, Any]) -> None:
    harness.write(FILE, table)
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in table["tests"].items())
    failing = "".join(f"- {name}\n" for name in table["failed"])
    rows = [(package, version) for package, version in table["versions"].items()]
    text = f"# Lowest versions\n\n`python benchmarks/lowest_versions.py`: the suite with exactly these. {counts}.\n\n"
    FILE.with_suffix(".md").write_text(text + failing + harness.markdown(("package", "version"), rows))


if __name__ == "__main__":
    main()
