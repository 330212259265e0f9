"""The page of a run: what its sections show, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet.report.page import write_page
from slimnet.report.reading import to_json
from slimnet.report.schema import Report
from slimnet.report.section import Section
from slimnet.report.sections import SECTIONS


def write_report(content: Mapping[str, Any], path: Path, sections: Sequence[Section] = SECTIONS) -> None:
    """Write what report.json says as a page.

    Args:
        content: The plain values of report.json; it may lack keys that are newer than itself.
        path: The .html file.
        sections: The sections of the page, in its order.

    Raises:
        BadInput: The content is not a report; the message names the key.
    """
    report = Report.from_json(to_json(content))
    parts = [{"template": section.template, "anchor": section.anchor, "link": section.link,
              "own": section.show(report)} for section in sections if section.template]  # fmt: skip
    title = f"{report.model}: {report.method}"
    write_page("report.html.j2", path, {section.folder() for section in sections}, title=title, r=report, parts=parts)
