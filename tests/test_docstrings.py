"""Docstrings say of each argument and attribute what it is: in a phrase with a capital letter and a period."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.networks.files import ROOT

PACKAGES = sorted(path.parent.name for path in (ROOT / "slimnet").glob("*/__init__.py"))

SECTION = re.compile(r"^(?:Args|Attributes):\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
ITEM = re.compile(r"^ {4}(?=\S)", re.MULTILINE)
#: A capital letter, or what has none: a quotation, code, a number, a bracket.
BEGINNING = re.compile(r"""[A-Z"'`\d(\[{]""")
ENDINGS = (".", ".)", '."')


def items(docstring: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the arguments and attributes that a docstring lists."""
    for section in SECTION.findall(docstring):
        for item in ITEM.split(section)[1:]:
            name, _, text = " ".join(item.split()).partition(": ")
            yield name, text


def incomplete(source: str) -> Iterator[str]:
    """The items in the docstrings of a module that do not begin and end as they should, with their places."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for name, text in items(ast.get_docstring(node) or ""):
                if not BEGINNING.match(text) or not text.endswith(ENDINGS):
                    yield f"{node.lineno}: {node.name}: {name}: {text}"


def incomplete_in(files: list[Path]) -> list[str]:
    """All incomplete items of some files."""
    assert files
    return [f"{path.relative_to(ROOT)}:{what}" for path in files for what in incomplete(path.read_text("utf-8"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_items_are_complete_phrases(package):
    assert incomplete_in(sorted((ROOT / "slimnet" / package).rglob("*.py"))) == []


def test_items_of_the_public_modules_are_complete_phrases():
    assert incomplete_in(sorted((ROOT / "slimnet").glob("*.py"))) == []


@pytest.mark.parametrize(
    ("item", "complete"),
    [
        ("ratio: The fraction of channels to remove.", True),
        ('prefer: "heads" or "head-dims".', True),
        ("shape, size: [N, C],\n            a shape in two lines.", True),
        ("trace: The network (see `trace`.)", True),
        ("trace: of the network.", False),
        ("ratio: The fraction of channels", False),
        ("ratio: The fraction of channels to remove,\n            in (0, 1)", False),
        ("ratio", False),
    ],
)
def test_incomplete_items_are_found(item, complete):
    source = f'def f():\n    """Do something.\n\n    Args:\n        {item}\n        last: The end.\n    """\n'
    assert len(list(incomplete(source))) == (0 if complete else 1)
