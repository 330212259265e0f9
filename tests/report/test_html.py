"""The pages: one file each, with what there is to show and nothing else, whatever the names are."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from slimnet.report.analysis import write_analysis
from slimnet.report.compare import write_comparison
from slimnet.report.html import write_report
from tests.networks.reports import Page, bare, full

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

#: Would run, load or break out if it were not escaped; and mathematics that matplotlib cannot parse.
HOSTILE = """</text></svg><script>alert(1)</script><img src=x onerror="alert(2)">'"--> $\\frac{$ <!-- ]]> 名"""


def shown(content, path) -> Page:
    write_report(content, path)
    return Page(path.read_text(encoding="utf-8"))


def test_everything_recorded_is_shown(tmp_path):
    page = shown(full(), tmp_path / "report.html")
    assert set("summary notes widths layers target speed training pinned recovery proof made".split()) <= page.ids
    text = " ".join(page.text)
    for words in ("slimnet prune cnn.onnx --ratio 0.5", "89.00%", "was 90.00%", "as cut 10.00%", "97.00%", "0.016",
                  "as cut 16.00%", "exact",
                  "2.00x faster", "something worth knowing", "a note on timing", "a processor",
                  "a runtime", "1.2.3", "a provider", "seed of finetune", "weights not zero",
                  "Predicted 2.1x, found 2.02x in 2 tries",
                  "is an output of the network"):  # fmt: skip
        assert words in text, words
    for title in ("loss", "accuracy", "learning rate", "lambda", "sparsity", "norm"):
        assert title in page.text, title


def test_what_was_not_recorded_has_no_section(tmp_path):
    content = bare()
    content["pinned"] = content["notes"] = []
    page = shown(content, tmp_path / "report.html")
    assert page.ids.isdisjoint({"notes", "target", "speed", "training", "pinned"})
    assert "latency, median" not in page.text
    assert "accuracy" not in page.text
    without_groups = content | {"groups": [], "weights": []}
    assert shown(without_groups, tmp_path / "report.html").ids.isdisjoint({"widths", "layers"})


def test_old_reports_without_the_newer_keys_are_shown(tmp_path):
    content = {key: value for key, value in bare().items() if key not in ("weights", "command")}
    content["groups"] = [{key: value for key, value in g.items() if key != "scores"} for g in content["groups"]]
    assert "widths" in shown(content, tmp_path / "report.html").ids


def test_unproven_is_never_called_exact(tmp_path):
    content = full()
    content["verify"] |= {"unproven": ["conv1"], "proven": ["conv2"]}
    text = shown(content, tmp_path / "report.html").text
    assert "unproven" in text
    assert "exact" not in text


def test_iterations_of_single_weight_pruning_are_drawn(tmp_path):
    rows = [{"iteration": k, "remaining": 0.8**k, "accuracy": None, "test": 0.9, "pq": [0.2, 0.3], "gini": 0.4}
            for k in range(3)]  # fmt: skip
    page = shown(bare() | {"training": {"search": {"settings": {}, "iterations": rows}}}, tmp_path / "report.html")
    assert {"PQ index", "weights left", "p 0.5, q 1", "Gini"} <= set(page.text)


def test_a_page_needs_nothing_else(tmp_path):
    page = shown(full(), tmp_path / "report.html")
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith(("#", "data:")), (name, value)
    assert page.tags.count("script") == 1
    assert {"link", "iframe", "object"} & set(page.tags) <= {"link"}
    assert "http" not in (tmp_path / "report.html").read_text().replace("http-equiv", "")


def test_names_from_files_are_text(tmp_path):
    content = json.loads(json.dumps(full()).replace("conv1", json.dumps(HOSTILE)[1:-1]))
    content |= {"model": HOSTILE, "method": HOSTILE, "command": HOSTILE, "notes": [HOSTILE]}
    content["target"] |= {"kind": HOSTILE}
    content["how"] |= {HOSTILE: HOSTILE}
    content["pinned"][0] |= {"op": HOSTILE, "node": HOSTILE, "why": HOSTILE, "tensor": HOSTILE}
    content["training"] = {HOSTILE: content["training"]["sparsify"]}
    content["training"][HOSTILE]["epochs"][0][HOSTILE] = 1.0
    page = shown(content, tmp_path / "report.html")
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert sum(HOSTILE in text for text in page.text) >= 6


def deep(groups, layers):
    """A report with so many groups and layers."""
    content = full()
    group, weight, layer = content["groups"][0], content["weights"][-1], content["bench"]["layers"][0]
    content["groups"] = [group | {"name": f"layer3.{k}.conv1.weight"} for k in range(groups)]
    content["weights"] = [weight | {"name": f"layer3.{k}.conv1.weight"} for k in range(layers)]
    content["bench"]["layers"] = [layer | {"name": f"layer3.{k}.conv1"} for k in range(layers)]
    return content


def test_a_deep_network_stays_small_and_quick(tmp_path):
    """What takes time is what is drawn: with twice the layers no more pictures, and less than twice the elements."""
    page = shown(deep(110, 160), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert "86 more groups" in page.text
    twice = shown(deep(220, 320), tmp_path / "twice.html")
    assert twice.tags.count("svg") == page.tags.count("svg")
    assert len(twice.tags) < 2 * len(page.tags)


def test_figures_that_are_no_numbers_and_names_that_are_no_text(tmp_path):
    """A page is written after hours of training: nothing may keep it from being written."""
    content = json.loads(json.dumps(full()).replace("conv1", "\\u0000\\u001b[31m\\n\\ud800").replace("conv2", ""))
    content["training"]["sparsify"]["epochs"][1] |= {"loss": float("nan"), "lambda": float("inf"), "accuracy": None}
    content["training"]["finetune"]["epochs"] = []
    content["bench"]["layers"][0] |= {"ms": {"before": 0.0, "after": 0.0}}
    content["groups"][0]["scores"] = None
    content["command"] = "slimnet prune \udcff.onnx"
    assert "training" in shown(content, tmp_path / "report.html").ids


def test_the_same_report_gives_the_same_page(tmp_path):
    for name in ("a", "b"):
        write_report(full() | {"timing_s": {}}, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


ROW = {"run": "a", "model": "m", "method": "l1", "ratio": 0.5, "params": 10, "params_left": 0.1, "macs": 10,
       "macs_left": 0.2, "latency": 2.0, "speedup": 2.0, "accuracy": 0.9, "error": 1e-7, "unproven": 0,
       "dense_latency": 4.0, "dense_accuracy": 0.95}  # fmt: skip


def test_runs_side_by_side(tmp_path):
    unmeasured = dict.fromkeys(("latency", "speedup", "accuracy", "dense_latency", "dense_accuracy", "ratio"))
    write_comparison([ROW, ROW | {"run": HOSTILE} | unmeasured], tmp_path / "runs.html")
    page = Page((tmp_path / "runs.html").read_text(encoding="utf-8"))
    assert {"tradeoff", "runs"} <= page.ids
    assert HOSTILE in page.text
    assert page.tags.count("script") == 1
    write_comparison([ROW | unmeasured], tmp_path / "runs.html")
    assert "tradeoff" not in Page((tmp_path / "runs.html").read_text(encoding="utf-8")).ids


def test_an_analysis_is_shown(tmp_path):
    from slimnet.graph.trace import trace
    from slimnet.pipeline.analyze import analyze
    from tests.networks.graphs import net
    from tests.networks.named import CNN

    content = analyze(trace(net(CNN))).to_json()
    write_analysis(content, tmp_path / "analysis.html")
    page = Page((tmp_path / "analysis.html").read_text(encoding="utf-8"))
    assert {"similarity", "spread", "distribution", "compressibility", "made"} <= page.ids
    assert {"fermat", "1.00", "PQ index of the weights", "Gini index"} <= set(page.text)
    write_analysis({key: content[key] for key in ("model", "params", "macs")}, tmp_path / "analysis.html")
    page = Page((tmp_path / "analysis.html").read_text(encoding="utf-8"))
    assert page.ids.isdisjoint({"similarity", "spread", "distribution", "compressibility"})


# -- in a browser ----------------------------------------------------------------------------------------------------


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in headless Chromium with a profile of its own."""
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
    command = [str(CHROMIUM), *quiet, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *options]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60)


#: Clicks, types and sorts like a reader, and leaves what came of it in the title.
READER = """<script>
const table = document.getElementById("layer-table"), field = document.querySelector("input.filters");
const names = () => [...table.tBodies].filter((b) => !b.hidden).map((b) => b.querySelector(".opens").textContent);
const told = { first: names(), closed: table.tBodies[0].rows[1].hidden };
table.tBodies[0].rows[0].click();
told.open = !table.tBodies[0].rows[1].hidden;
table.tHead.querySelectorAll("button")[1].click();
told.up = names();
table.tHead.querySelectorAll("button")[1].click();
told.down = names();
field.value = "output of the network"; field.dispatchEvent(new Event("input"));
told.found = names();
document.title = JSON.stringify(told);
</script>"""


@needs_chromium
def test_a_reader_finds_why_a_layer_is_not_smaller(tmp_path):
    path = tmp_path / "report.html"
    write_report(full(), path)
    text = path.read_text(encoding="utf-8").replace("script-src 'sha256-", "script-src 'unsafe-inline' 'x-")
    path.write_text(text.replace("</body>", f"{READER}</body>"), encoding="utf-8")
    dom = Page(browse(path, tmp_path, "--dump-dom").stdout)
    told = json.loads(dom.text[dom.tags.index("title") and next(k for k, t in enumerate(dom.text) if t[:2] == '{"')])
    assert told["first"] == ["conv1", "conv2", "fc"]
    assert told["closed"]
    assert told["open"]
    assert told["up"] == ["conv1", "fc", "conv2"]  # 4, 5 and 6 filters are left
    assert told["down"] == ["conv2", "fc", "conv1"]
    assert told["found"] == ["fc"]


@needs_chromium
@pytest.mark.parametrize("names", ["plain", "hostile"])
def test_a_browser_has_nothing_to_complain_about(tmp_path, names):
    content = full()
    if names == "hostile":
        content = json.loads(json.dumps(content).replace("conv1", json.dumps(HOSTILE)[1:-1]))
    write_report(content, tmp_path / "report.html")
    done = browse(
        tmp_path / "report.html", tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1100,2000"
    )
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 50_000
