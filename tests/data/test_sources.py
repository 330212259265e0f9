"""The sources of data: one file each, found by itself, and those that other packages bring along."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.data import sources
from slimnet.data.load import load_data
from slimnet.data.source import Source
from slimnet.data.sources import built_in, forms

ROOT = Path(__file__).parents[2]
#: The example in the documentation of the sources, which is a module of its own.
EXAMPLE = textwrap.dedent(sources.__doc__[sources.__doc__.index("    import numpy") :])


def line(spec: object) -> str:
    """The one line that says why an option is refused."""
    with pytest.raises(BadInput) as error:
        load_data(str(spec))
    assert "\n" not in str(error.value)
    return str(error.value)


# -- those of slimnet ------------------------------------------------------------------------------------------------


def test_names_and_forms_are_unique():
    assert len({source.name for source in built_in()}) == len({source.form for source in built_in()}) == len(built_in())


def test_the_forms_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    paragraph = readme[readme.index("**Data.**") : readme.index("**Your own loop.**")]
    for form in re.split(", | or ", forms()):
        assert f"`{form}`" in paragraph or (form == "FILE.npz" and "`.npz`" in paragraph)


def test_the_forms_are_in_the_help_of_every_verb_that_takes_data():
    script = """
import sys
import typer
from slimnet.cli import app
from slimnet.data.sources import forms
verbs = typer.main.get_command(app).commands
shared = {name for name, verb in verbs.items() for p in verb.params if forms() in (getattr(p, "help", "") or "")}
print(*sorted(shared))
assert not {"numpy", "torch", "PIL", "sklearn", "importlib.metadata"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"analyze", "prune", "shrink", "slim"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("form", "option", "place"),
    [
        ("digits", "digits", "digits"),
        ("digits", "digits:here", None),
        ("mnist:DIR", "mnist:a/b", "a/b"),
        ("mnist:DIR", "mnist:C:/b", "C:/b"),
        ("mnist:DIR", "mnist:", None),
        ("mnist:DIR", "fashion-mnist:a", None),
        ("FILE.npz", "a/b.npz", "a/b.npz"),
        ("FILE.npz", "a/bxnpz", None),
        ("FILE.py:CALLABLE", "C:/a.py:make", "C:/a.py:make"),
        ("FILE.py:CALLABLE", "a.py:", None),
        ("FILE.py:CALLABLE", ".py:make", None),
    ],
)
def test_a_form_says_where_the_data_lie(form, option, place):
    assert Source(name="any", form=form, read=lambda spec: {}).place(option) == place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits as the example reads them."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 20), ("test", 6)):
        np.savez(tmp_path / f"{name}.npz", x=rng.standard_normal((count, 5)), y=np.arange(count) % 2)
    return tmp_path


def test_a_file_in_the_folder_is_all_that_a_source_takes(folder, tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("sources")
    (place / "speech.py").write_text(EXAMPLE + "SOURCES = (SOURCE,)\n")
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(place)])
    built_in.cache_clear()
    try:
        assert "imagefolder:DIR, speech:DIR, FILE.npz or FILE.py:CALLABLE" in forms()
        data = load_data(f"speech:{folder}?val=4&limit=10")
        assert (len(data.train), len(data.val), len(data.test)) == (10, 4, 6)
        assert "speech:DIR" in line("nothing")
    finally:
        built_in.cache_clear()
        sys.modules.pop("slimnet.data.sources.speech", None)


# -- those of other packages -----------------------------------------------------------------------------------------


@pytest.fixture
def distribution(tmp_path_factory, monkeypatch):
    """Puts a distribution with a source on the path, as pip would install it."""
    place = tmp_path_factory.mktemp("site")

    def install(code: str) -> None:
        (place / "speech_data.py").write_text(code)
        info = place / "speech_data-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: speech-data\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[slimnet.data]\nspeech = speech_data:SOURCE\n")
        monkeypatch.syspath_prepend(str(place))

    yield install
    sys.modules.pop("speech_data", None)


def test_a_distribution_brings_its_source(distribution, folder):
    assert "speech" not in line(f"speech:{folder}").partition("use")[2]
    distribution(EXAMPLE)
    assert line("nothing").endswith("; other packages add speech")
    assert "speech_data" not in sys.modules, "it is loaded only when it is called by its name"
    data = load_data(f"speech:{folder}")
    assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 6)
    assert data.test.shape == (5,)
    assert "the settings of speech are val, limit, normalize, augment" in line(f"speech:{folder}?size=3")
    assert "is not understood" in line("speech:")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nowhere", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')"),
        ("SOURCE = 3", "is no slimnet.data.source.Source"),
        (EXAMPLE.replace('("train", "test")', '("train",)'), "gives train (Samples); it must give Samples, as test"),
        (EXAMPLE.replace("name: labelled", "name + '1': labelled"), "gives train1 (Samples), test1 (Samples)"),
        (EXAMPLE.replace('labelled(found["x"]', '(found["x"]'), "gives train (tuple), test (tuple)"),
    ],
)
def test_a_source_that_cannot_be_used(distribution, folder, code, says):
    distribution(code)
    assert says in line(f"speech:{folder}")
