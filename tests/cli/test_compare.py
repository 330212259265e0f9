"""slimnet compare: runs side by side."""

import json

import pytest


@pytest.fixture
def runs(slimnet, cnn, tmp_path):
    for ratio in ("0.25", "0.5"):
        assert slimnet("prune", cnn, "-o", f"r{ratio}", "--ratio", ratio, "--bench-seconds", "0").code == 0
    return ["r0.25", "r0.5"]


def test_runs_as_a_table_as_json_and_as_a_page(slimnet, runs, tmp_path):
    outcome = slimnet("compare", *runs, "-o", "sub/runs.html")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "written to sub/runs.html"
    assert all(run in outcome.out for run in runs)
    assert "r0.25" in (tmp_path / "sub" / "runs.html").read_text()
    rows = json.loads(slimnet("compare", *runs, "--json").out)
    assert [row["ratio"] for row in rows] == [0.25, 0.5]
    assert rows[0]["params"] > rows[1]["params"]
    for run, row in zip(runs, rows, strict=True):
        assert row["params"] == json.loads((tmp_path / run / "report.json").read_text())["params"]["after"]


def test_every_run_has_its_page_and_its_command(slimnet, runs, tmp_path):
    page = (tmp_path / "r0.5" / "report.html").read_text()
    command = json.loads((tmp_path / "r0.5" / "report.json").read_text())["command"]
    assert command.startswith("slimnet prune ")
    assert "-o r0.5 --ratio 0.5 --bench-seconds 0" in command
    assert "-o r0.5 --ratio 0.5 --bench-seconds 0" in page


def test_a_folder_without_a_run(slimnet, tmp_path):
    outcome = slimnet("compare", tmp_path)
    assert outcome.code == 2
    assert "has no report.json" in outcome.line


def test_a_page_that_cannot_be_written(slimnet, runs, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = slimnet("compare", *runs, "-o", "file/runs.html")
    assert outcome.code == 2
    assert "cannot be written" in outcome.line
