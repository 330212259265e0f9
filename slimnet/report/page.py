"""How a page is made.

A page is one file that needs nothing else: styles, a few lines of script and charts are inside it, and a content
security policy forbids it any connection and any script but its own. Everything that comes from files is escaped; what
this package made itself, its script and its charts, in which names are escaped already, is marked `safe` in templates.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.common.files import replacing
from slimnet.common.required import required
from slimnet.report.charts import check_matplotlib
from slimnet.report.explain import POOR

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def check_pages(charts: bool) -> None:
    """Make sure, before any work, that pages can be written.

    Args:
        charts: Whether matplotlib is to draw some of their charts.

    Raises:
        MissingPackage: A package that draws or writes them is not installed, or does not work.
    """
    if charts:
        check_matplotlib()
    with required("jinja2", "a page"):
        import jinja2  # noqa: F401


def write_page(template: str, path: Path, folders: Iterable[Path] = (), **values: Any) -> None:
    """Write a page.

    Args:
        template: The name of its template.
        path: The .html file; an existing one is replaced as a whole or not at all.
        folders: Where further templates lie that it includes.
        values: What the template shows.

    Raises:
        MissingPackage: A package is missing, see `check_pages`.
    """
    check_pages(charts=False)  # a chart asks for what draws it
    text = _environment([_TEMPLATES, *folders]).get_template(template).render(**values)
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8", errors="replace")  # a command line may hold bytes that are no text


def _environment(folders: list[Path]) -> Environment:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(folders), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {"script": script, "script_hash": digest, "poor": POOR}
    environment.filters |= {"count": count, "short_count": short_count, "ms": milliseconds, "times": times,
                            "percent": percent, "scientific": scientific}  # fmt: skip
    return environment


# -- numbers -------------------------------------------------------------------------------------------------------


def count(value: float | None) -> str:
    """A whole number with separators."""
    return "" if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """A large number in three digits: 25.6 M."""
    if value is None:
        return ""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def milliseconds(value: float | None) -> str:
    """A time in three digits."""
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def times(value: float | None) -> str:
    """A speedup."""
    return "" if value is None else f"{value:.2f}x"


def percent(value: float | None) -> str:
    """A fraction as per cent."""
    return "" if value is None else f"{value:.2%}"


def scientific(value: float | None) -> str:
    """A number whose size may be anything, in two digits."""
    return "" if value is None else f"{value:.2g}"
