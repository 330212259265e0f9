"""What a section of a report is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from slimnet.report.run import Run
from slimnet.report.schema import Report


class Row(NamedTuple):
    """One row of the summary table; what is not known is empty.

    Attributes:
        what: The name of the figure.
        before: Its value in the dense network.
        after: Its value in the slim network.
        change: What that means.
    """

    what: str
    before: str = ""
    after: str = ""
    change: str = ""


class Section:
    """One subject of a report: what is collected about it, its rows of the summary table, its part of the page.

    The template, if there is one, lies beside the section's own file. It may define two macros: `cards(r)` writes its
    cards of the page's first row, `body(r, own)` its section below them, where `r` is the `Report` and `own` what
    `show` returns.

    Attributes:
        template: The name of the template's file; None for a section that is not on the page.
        anchor: The id of the section on the page, where its template has a body.
        link: What the page's navigation calls it; empty where it is not listed.
    """

    template: ClassVar[str | None] = None
    anchor: ClassVar[str] = ""
    link: ClassVar[str] = ""

    def collect(self, run: Run) -> Mapping[str, Any]:
        """The section's keys of report.json and their values, those of `Report` as its attributes have them."""
        return {}

    def rows(self, report: Report) -> Iterable[Row]:
        """The section's rows of the summary table."""
        return ()

    def show(self, report: Report) -> Mapping[str, Any] | None:
        """What the body of the template needs beside the report; None where there is nothing to show."""
        return None

    def folder(self) -> Path:
        """Where the template lies."""
        return Path(inspect.getfile(type(self))).parent
