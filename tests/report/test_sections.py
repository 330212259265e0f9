"""A report is what its sections make of a run."""

import dataclasses
import io

import numpy as np
from rich.console import Console

from slimnet.graph.trace import trace
from slimnet.report.html import write_report
from slimnet.report.run import Measured, Run
from slimnet.report.schema import Report
from slimnet.report.sections import SECTIONS
from slimnet.report.summary import summarise, summary_table
from slimnet.verification.verify import Verification
from tests.networks.added.carbon import Carbon
from tests.networks.graphs import net
from tests.networks.named import CNN
from tests.networks.reports import Page, full


def run():
    """A run that removes three units."""
    traced = trace(net(CNN))
    removed = np.zeros(traced.n_units, bool)
    removed[traced.groups[0].units[:3]] = True
    plan = traced.plan(removed, {"method": "l1", "ratio": 0.5})
    measured = Measured(params=(100, 50), macs=(4_000_000, 1_000_000))
    return Run(traced, removed, plan, Verification(exact=True), measured, {}, None, [], {})


def made(sections):
    """Its report."""
    return summarise(*vars(run()).values(), sections)


def told(report, sections=SECTIONS, width=80):
    """The summary table as text."""
    console = Console(file=io.StringIO(), width=width)
    console.print(summary_table(report, sections))
    return console.file.getvalue()


def test_an_added_section_is_in_the_file_the_table_and_the_page(tmp_path):
    sections = (*SECTIONS[:4], Carbon(), *SECTIONS[4:])
    report = made(sections)
    assert report.content["carbon"] == {"before": 4000, "after": 1000}
    assert {**report.content, "carbon": None} == {**made(SECTIONS).content, "carbon": None}
    assert Report.from_json(report.content) == report
    (line,) = [line.split() for line in told(report, sections).splitlines() if "carbon" in line]
    assert line == ["carbon", "4000", "g", "1000", "g"]
    write_report(report.content, tmp_path / "report.html", sections)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "carbon" in page.ids
    assert ("href", "#carbon") in page.attributes
    assert "1 k g" in page.text
    assert "It cost 4,000 grams." in page.text
    anchors = [value for name, value in page.attributes if name == "id"]
    assert anchors.index("layers") < anchors.index("carbon") < anchors.index("pinned")


def test_without_a_section_its_rows_and_its_part_of_the_page_are_gone(tmp_path):
    kept = tuple(section for section in SECTIONS if section.anchor != "proof")
    report = Report.from_json(full())
    assert "slim = masked" in told(report)
    assert "slim = masked" not in told(report, kept)
    write_report(report.content, tmp_path / "report.html", kept)
    assert "proof" not in Page((tmp_path / "report.html").read_text(encoding="utf-8")).ids


def test_no_two_sections_collect_the_same():
    keys = [key for section in SECTIONS for key in section.collect(run())]
    assert sorted(keys) == sorted(field.name for field in dataclasses.fields(Report) if field.name != "more")


def test_the_table_says_what_was_found():
    report = Report.from_json(full())
    text = " ".join(told(report).split())
    for words in (
        "speedup asked for 2x 2.02x in 2 tries",
        "latency (median) 4 ms 4 ms 2.00x faster",
        "95 % interval 1.90x to 2.10x",
        "accuracy as cut 90.00% 10.00% -80.00 points",
        "accuracy recovered 90.00% 70.00% -20.00 points",
        "agreement recovered 100.00% 97.00%",
        "accuracy 90.00% 89.00% -1.00 points",
        "weights not zero 1,000 50 5.00% left",
    ):
        assert words in text, words
    slower = dataclasses.replace(report, speedup=dataclasses.replace(report.speedup, latency=0.8))
    assert "1.25x slower" in told(slower)


def test_the_table_says_what_else_was_found():
    content = full()
    content["verify"] |= {"unproven": ["conv1"], "proven": ["conv2"], "plain_mask_error": 0.01, "dense_error": 0.02}
    content["torch"] = {"survives": False, "why": "its widths are fixed"}
    content["gathered"] = {"fc": {"before": 1200, "after": 6}}
    lines = [" ".join(line.split()) for line in told(Report.from_json(content)).splitlines()]
    assert any(line.startswith("slim = masked unproven") for line in lines), "which is never called exact"
    assert {
        "groups proven 1 of 2",
        "inexact: distance to mask 1.0e-02",
        "distance to the original 2.0e-02",
        "inputs read by fc 1,200 6",
        "PyTorch module does not",
    } <= set(lines)
