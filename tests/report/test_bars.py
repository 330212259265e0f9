"""The chart of groups, which is written without matplotlib."""

import re
import subprocess
import sys

import pytest

from slimnet.report import bars
from tests.networks.reports import Page

GROUP = {"name": "conv1.weight", "before": 64, "after": 32, "scores": {"kept": [0, 0, 3, 1], "removed": [2, 1, 0, 0]}}


def rectangles(svg):
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', part)) for part in re.findall(r"<rect [^>]*>", svg)]


def test_a_bar_is_as_long_as_its_units_are_many():
    wide = GROUP | {"before": 128, "after": 16}
    kept, removed, *other = rectangles(bars.widths([GROUP, wide]))
    assert float(kept["width"]) == pytest.approx(float(removed["width"]), abs=0.2)
    assert float(removed["x"]) == pytest.approx(float(kept["x"]) + float(kept["width"]), abs=0.2)
    assert float(other[1]["width"]) == pytest.approx(3.5 * float(kept["width"]), abs=1)
    assert (kept["fill"], removed["fill"]) == ("var(--kept)", "var(--removed)")


def test_names_figures_and_titles_are_text():
    page = Page(bars.widths([GROUP, GROUP | {"name": "<b>&\x1b", "before": 2048, "after": 1024}]))
    told = {
        "conv1",
        "<b>&\N{REPLACEMENT CHARACTER}",
        "32 of 64",
        "1,024 of 2,048",
        "importance of the units, and the cut",
    }
    assert told <= set(page.text)
    assert "b" not in page.tags


@pytest.mark.parametrize("scores", [None, {"kept": [0], "removed": [0]}, {"kept": [5], "removed": [0]}])
def test_what_was_not_ranked_or_not_pruned_is_drawn_too(scores):
    page = Page(bars.widths([{"name": "", "before": 1, "after": 1, "scores": scores}]))
    assert "1 of 1" in page.text
    assert ("highest" in page.text) == (scores is not None)


@pytest.mark.parametrize("most", [1, 2, 5, 9, 10, 11, 19, 20, 49, 50, 99, 100, 999, 1000, 2048, 123_456_789])
def test_ticks_are_round_few_and_reach_nearly_as_far_as_the_bars(most):
    ticks = list(bars._ticks(most))
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert most / 2 < ticks[-1] <= most
    assert str(ticks[1]).rstrip("0") in ("1", "2", "5")


def test_drawing_it_imports_no_matplotlib():
    script = f"import sys; from slimnet.report import bars; bars.widths([{GROUP!r}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "matplotlib" not in done.stdout.split()
