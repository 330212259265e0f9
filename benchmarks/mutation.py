"""Change slimnet's source in small ways, one at a time, and list the changes that no test notices.

    nice python benchmarks/mutation.py [MODULE ...] [--count 12] [--seed 0] [--survivors] [--tests TEST ...]

A change that survives is either equivalent (nothing anybody could see is different) or something that the tests do not
ask for yet. Read the table, write a test that fails with the change in the source, and run `--survivors` to see it
killed. For a change that is equivalent, say why in its row of results/mutation.json ("why"); the row keeps it.

A MODULE is a path below slimnet/ without its ending, such as planning/budget; without any, all of `MODULES` are run.
The tests of slimnet/x/y.py are tests/x/test_y.py and those in `EXTRA`. Changes are drawn by chance, the same for the
same seed and source, evenly over their kinds (see mutants.py). They are made in a copy of the checkout. One test
process runs at a time, and is killed after five times as long as the tests take without a change. A run that was
interrupted goes on where it was; a module that has changed since is drawn anew. Keep to modules that delete no files.

Writes results/mutation.json and the table results/mutation.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import pytest
from mutants import Mutant, mutants, sample

ROOT = Path(__file__).parents[1]
FILE = harness.RESULTS / "mutation.json"
#: Where a wrong result would be silent.
MODULES = (
    *("graph/surgery", "graph/shrink", "graph/gather", "graph/op", "graph/units"),
    *("planning/budget", "planning/rounding", "planning/widths", "planning/solve", "planning/target"),
    *("methods/criteria", "methods/greg", "methods/group_hs", "methods/spp", "methods/from_data"),
    *("analysis/compressibility", "analysis/cwda", "training/loop", "training/phase"),
    *("runtime/onnxruntime", "runtime/feeds", "verification/verify", "timing/gate", "timing/latency"),
)
#: Tests of a module besides its own file, quick ones first.
EXTRA = {
    "graph/surgery": ("tests/graph/test_trace.py", "tests/graph/rules", "tests/graph/test_random_graphs.py"),
    "graph/op": ("tests/graph/test_trace.py", "tests/graph/rules", "tests/graph/test_mutations.py"),
    "graph/units": ("tests/graph/test_trace.py", "tests/graph/rules"),
    "planning/budget": ("tests/planning/test_rounding.py",),
    "planning/widths": ("tests/planning/test_rounding.py", "tests/planning/test_budget.py"),
    "methods/criteria": ("tests/methods/test_published.py",),
    "training/phase": ("tests/training/test_loop.py",),
    "runtime/feeds": ("tests/verification/test_verify.py",),
    "runtime/onnxruntime": ("tests/runtime/test_contract.py", "tests/runtime/test_given_backend.py"),
    "verification/verify": ("tests/graph/test_mutations.py",),
}
#: Seconds that a test process may take at the least, and times as long as without a change at the most.
LEAST, TIMES = 30, 5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("modules", nargs="*", metavar="MODULE", help="such as planning/budget; all if none is given")
    options.add_argument("--count", type=int, default=12, help="changes to draw in each module (%(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of the draw (%(default)s)")
    options.add_argument("--survivors", action="store_true", help="run only what survived without a reason, again")
    options.add_argument("--tests", nargs="+", metavar="TEST", help="files to run instead of the module's own")
    given = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    load_libraries()
    for module in given.modules or MODULES:
        if not (ROOT / "slimnet" / f"{module}.py").exists():
            options.error(f"slimnet/{module}.py does not exist; a module is given like planning/budget")
        tests = given.tests or tests_of(module)
        if not tests:
            options.error(f"{module}: has no tests/{module} of its own; name some with --tests, or in EXTRA")
        with tempfile.TemporaryDirectory() as folder:
            run(module, tests, copy_of_the_checkout(Path(folder)), given)
        report(harness.read(FILE))


def load_libraries() -> None:
    """Load what every test process would spend most of its time loading; none of it starts a thread by that."""
    for name in ("torch", "torchvision", "onnxruntime", "onnx_ir", "scipy.stats", "sklearn.datasets", "accelerate"):
        importlib.import_module(name)


def tests_of(module: str) -> list[str]:
    """The test files of a module."""
    package, _, name = module.rpartition("/")
    own = f"tests/{package}/test_{name}.py"
    return [test for test in dict.fromkeys((own, *EXTRA.get(module, ()))) if (ROOT / test).exists()]


def copy_of_the_checkout(folder: Path) -> Path:
    """All that the tests read."""
    for name in ("slimnet", "tests", "models", "recipes", "README.md", "pyproject.toml", "cli.py", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def run(module: str, tests: Sequence[str], copy: Path, given: argparse.Namespace) -> None:
    """Run the changes of one module that have no result yet, or those that survived, and write each result."""
    file = copy / "slimnet" / f"{module}.py"
    source = file.read_text(encoding="utf-8")
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    known = harness.read(FILE).get(module, {"rows": []})
    found = mutants(source)
    if given.survivors:
        survived = {row["change"] for row in known["rows"] if not row["killed"] and not row["why"]}
        chosen = [mutant for mutant in found if mutant.change in survived]
    else:
        chosen = sample(found, given.count, f"{given.seed} {module}")
    same = known.get("source") == digest
    done = {row["change"] for row in known["rows"] if same and (row["killed"] or not given.survivors)}
    chosen = [mutant for mutant in chosen if mutant.change not in done]
    if not chosen:
        return
    whole, seconds = outcome(copy, tests, 1200)
    if whole:
        print(f"{module}: not run, since its tests fail without any change: {whole}", file=sys.stderr)
        return
    rows = known["rows"] if same or given.survivors else []
    reasons = {row["change"]: row["why"] for row in known["rows"] if row.get("why")}
    for mutant in chosen:
        change(file, mutant.source)
        killer, took = outcome(copy, tests, max(LEAST, TIMES * seconds))
        row = row_of(mutant, killer, took, reasons)
        rows = [*(r for r in rows if r["change"] != mutant.change), row]
        table = harness.read(FILE)
        table[module] = {"source": digest, "seed": given.seed, "possible": len(found), "tests": list(tests),
                         "rows": sorted(rows, key=lambda r: r["line"])}  # fmt: skip
        harness.write(FILE, table)
        print(f"{module}:{mutant.line} {'killed' if killer else 'SURVIVED'} ({took} s): {mutant.change}", flush=True)


def row_of(mutant: Mutant, killer: str, took: float, reasons: dict[str, str]) -> harness.Row:
    row: dict[str, Any] = {"line": mutant.line, "kind": mutant.kind, "change": mutant.change, "killed": killer,
                           "seconds": took}  # fmt: skip
    return row if killer else row | {"why": reasons.get(mutant.change, "")}


def change(file: Path, source: str) -> None:
    """Write a source; what was compiled of the last one may look as if it were of this, so it goes."""
    file.write_text(source, encoding="utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


def outcome(copy: Path, tests: Sequence[str], limit: float) -> tuple[str, float]:
    """The first test that fails ("" if none does), and seconds. What hangs or does not start has failed too."""
    started = time.monotonic()
    log = copy / "log"
    child = os.fork()
    if not child:
        _test(copy, tests, log)
    code = None
    while code is None and time.monotonic() - started < limit:
        time.sleep(0.05)
        ended, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if ended else None
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    text = log.read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    other = f"no result within {limit:.0f} s" if code is None else f"exit code {code}"
    return "" if code == 0 else failed[1] if failed else other, round(time.monotonic() - started, 1)


def _test(copy: Path, tests: Sequence[str], log: Path) -> None:
    """Be the process that runs the tests, in the copy; the large libraries are loaded already."""
    os.setsid()
    with log.open("w") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.chdir(copy)
    os.environ.update(PYTHONPATH=str(copy), HOME=str(copy))
    sys.path[0] = str(copy)
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", *tests])
    sys.stdout.flush()
    os._exit(int(code))


def report(table: dict[str, Any]) -> None:
    """Write results/mutation.md."""
    rows = {module: table[module]["rows"] for module in MODULES if module in table}
    rows |= {module: entry["rows"] for module, entry in table.items() if module not in rows}
    survivors = {module: [row for row in found if not row["killed"]] for module, found in rows.items()}
    total, left = (sum(map(len, part.values())) for part in (rows, survivors))
    text = "# Mutation\n\n`nice python benchmarks/mutation.py [MODULE ...] --count DRAWN`, then `--survivors`; "
    text += f"{harness.versions('pytest', 'hypothesis', 'numpy', 'torch', 'onnxruntime')}.\n\n"
    text += f"{__doc__.splitlines()[0]} Of {total} changes the tests notice {total - left}.\n\n"
    counts = [[module, table[module]["possible"], len(found), len(survivors[module])] for module, found in rows.items()]
    text += harness.markdown(["module", "possible", "drawn", "survived"], counts)
    text += "\n## Survivors\n\n"
    lines = [[f"{module}.py:{row['line']}", f"`{row['change']}`", row["why"] or "**no test yet**"]
             for module, found in survivors.items() for row in found]  # fmt: skip
    text += harness.markdown(["where", "change", "why it is left"], lines) if lines else "None.\n"
    (harness.RESULTS / "mutation.md").write_text(text)


if __name__ == "__main__":
    main()
