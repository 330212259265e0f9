"""Packages that only some verbs need are asked for by those verbs: nothing else notices that they are missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slimnet.common.errors import BadInput
from slimnet.common.required import MissingPackage, required
from tests.networks.files import DIGITS, saved
from tests.networks.named import CNN

ROOT = Path(__file__).parents[1]
#: Makes the packages named in the first argument look as if they were not installed, or broken.
RUN = """
import sys
from importlib.machinery import ModuleSpec
names, how = sys.argv[1].split(","), sys.argv[2]
class Broken:
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in names:
            return ModuleSpec(name, Broken()) if how == "broken" else None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = ["slimnet", *sys.argv[3:]]
"""
MAIN = RUN + "from slimnet.cli import main; main()"
OPTIONAL = "statsmodels,accelerate,sklearn"


def without(packages: str, *words: object, script: str = MAIN, how: str = "missing") -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", script, packages, how, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def refused(done: subprocess.CompletedProcess) -> str:
    """The one line that a user gets."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def cnn(tmp_path):
    return saved(tmp_path / "in" / "cnn.onnx", CNN)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["missing", "broken"])
def test_an_onnx_file_is_pruned_and_analysed_without_them(tmp_path, cnn, how):
    pruned = without(OPTIONAL, "prune", cnn, "-o", tmp_path / "out", "--bench-seconds", "0", how=how)
    assert pruned.returncode == 0, pruned.stderr
    assert (tmp_path / "out" / "slim.onnx").exists()
    analysed = without(OPTIONAL, "analyze", cnn, "-o", tmp_path / "why", how=how)
    assert analysed.returncode == 0, analysed.stderr
    assert "pip install" in analysed.stdout
    assert "statsmodels" in analysed.stdout
    content = json.loads((tmp_path / "why" / "analysis.json").read_text())
    for layer in content["distribution"]["layers"]:
        assert {"variance", "mean", "magnitude"} <= layer["tests"].keys()
        assert "statsmodels" in layer["skipped"]["gaussian"]
    assert content["distribution"]["passing"].keys() == {"variance", "mean", "magnitude"}


def test_every_public_name_can_be_imported_without_them():
    script = RUN + "import slimnet; [getattr(slimnet, name) for name in slimnet.__all__]"
    done = without(OPTIONAL + ",matplotlib,jinja2", script=script)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures, none of which has to be looked at."""
    for split in ("train", "test"):
        (tmp_path / "pictures" / split / "a").mkdir(parents=True)
        (tmp_path / "pictures" / split / "a" / "1.png").touch()
    return tmp_path / "pictures"


@pytest.mark.slow
def test_training_asks_for_accelerate_before_it_begins(tmp_path):
    words = ("train", "--arch", "models:digits_resnet", "--data", "digits", "-o", tmp_path / "x.pt")
    assert refused(without("accelerate", *words)) == (
        "slimnet: training needs accelerate, which is not installed; pip install accelerate"
    )


@pytest.mark.slow
def test_fine_tuning_asks_for_accelerate_before_anything_is_removed(tmp_path):
    words = ("prune", DIGITS, "--epochs", "1", "--data", "digits", "-o", tmp_path / "out")
    line = refused(without("accelerate", *words, how="broken"))
    assert line.startswith("slimnet: training needs accelerate, which cannot be imported (numpy.dtype size changed")
    assert line.endswith("; pip install --force-reinstall accelerate")
    assert not (tmp_path / "out").exists()


def test_data_sets_ask_for_what_reads_them(cnn, pictures):
    digits = without("sklearn", "eval", cnn, "--data", "digits")
    assert "needs scikit-learn, which is not installed; pip install scikit-learn" in refused(digits)
    folder = without("PIL", "eval", cnn, "--data", f"imagefolder:{pictures}")
    assert "needs pillow, which is not installed; pip install pillow" in refused(folder)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_page_is_known_to_be_impossible_before_the_work_that_it_shows(tmp_path, cnn, package):
    line = refused(without(package, "prune", cnn, "-o", tmp_path / "out"))
    assert f"needs {package}, which is not installed; pip install {package}" in line
    assert not (tmp_path / "out").exists()


def test_a_package_that_lacks_one_of_its_own_is_broken_not_missing():
    with pytest.raises(MissingPackage, match=r"needs json, which cannot be imported \(No module named 'patsy'\)"):
        fail_inside("json", ModuleNotFoundError("No module named 'patsy'", name="patsy"))


def test_a_missing_package_is_bad_input_of_one_line():
    with pytest.raises(BadInput, match=r"^this needs pillow, which is not installed; pip install pillow$"):
        fail_inside("pillow", ModuleNotFoundError("No module named 'PIL'", name="PIL"))


def fail_inside(package: str, error: Exception) -> None:
    with required(package, "this"):
        raise error
