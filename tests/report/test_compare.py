"""Several runs side by side."""

import io
import json

import pytest
from rich.console import Console

from slimnet.common.errors import BadInput
from slimnet.report.compare import comparison_plot, comparison_table, read_rows
from tests.networks.reports import bare, full


@pytest.fixture
def runs(tmp_path):
    """Folders of three runs, of which the last was neither timed nor given data."""
    for name, content in (("fast", full()), ("good", full()), ("bare", bare())):
        (tmp_path / name).mkdir()
        if name == "good":
            content["accuracy"]["after"], content["latency_ms"]["after"]["median"] = 0.95, 8.0
        (tmp_path / name / "report.json").write_text(json.dumps(content, default=float))
    return [tmp_path / name for name in ("fast", "good", "bare")]


def test_one_row_per_run(runs):
    rows = read_rows(runs)
    assert [row["run"] for row in rows] == ["fast", "good", "bare"]
    assert [row["latency"] for row in rows] == [4, 8, None]
    assert [row["accuracy"] for row in rows] == [0.89, 0.95, None]
    assert rows[0]["dense_accuracy"] == 0.9
    assert 0 < rows[0]["params_left"] < 1
    assert rows[0]["ratio"] == 0.5
    assert read_rows([runs[0] / "report.json"]) == rows[:1]


def test_folders_of_one_name_are_told_apart(runs, tmp_path):
    (tmp_path / "other").mkdir()
    runs[0].rename(tmp_path / "other" / "bare")
    names = [row["run"] for row in read_rows([tmp_path / "other" / "bare", runs[2]])]
    assert names == [str(tmp_path / "other" / "bare"), str(runs[2])]


def test_the_table_fits_eighty_columns(runs):
    console = Console(file=io.StringIO(), width=80)
    rows = read_rows(runs)
    console.print(comparison_table([rows[0] | {"run": "[red]a name that is rather long", "unproven": 2}, *rows[1:]]))
    text = console.file.getvalue()
    assert "[red]" in text
    assert "89.00%" in text
    assert "?" in text
    assert "…" not in text


def test_the_plot_puts_better_above_and_slower_to_the_right(runs):
    lines = comparison_plot(read_rows(runs)).splitlines()
    (top,) = [k for k, line in enumerate(lines) if "│" in line and line.endswith("b")]
    (bottom,) = [k for k, line in enumerate(lines) if "│a" in line]
    assert top < bottom
    assert comparison_plot(read_rows(runs[1:])) is None, "one point is no plot"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "not json", '{"model": 1}', "[" * 100_000, '{"params": {"after": "x"}}']
)
def test_what_is_no_report_is_named(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(BadInput, match="report") as error:
        read_rows([tmp_path])
    assert str(tmp_path) in str(error.value)


def test_a_folder_without_a_report_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"has no report\.json"):
        read_rows([tmp_path])
    with pytest.raises(BadInput, match="no such file"):
        read_rows([tmp_path / "nowhere"])
