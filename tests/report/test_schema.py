"""report.json: what it says, and what is not one."""

import copy
import dataclasses
import inspect
import json
import re
from typing import get_type_hints, is_typeddict

import pytest

from slimnet.common.errors import BadInput
from slimnet.report import schema
from slimnet.report.reading import to_json
from slimnet.report.schema import Report
from tests.networks.reports import bare, full

OBJECTS = [
    kind for _, kind in inspect.getmembers(schema, inspect.isclass)
    if kind.__module__ == schema.__name__ and (dataclasses.is_dataclass(kind) or is_typeddict(kind))
]  # fmt: skip


def without(content, *path):
    """A copy of a report that lacks a key."""
    content = copy.deepcopy(content)
    part = content
    for step in path[:-1]:
        part = part[step]
    del part[path[-1]]
    return content


def changed(content, value, *path):
    """A copy of a report with another value of a key."""
    content = copy.deepcopy(content)
    part = content
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return content


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_every_key_is_described_in_a_sentence(kind):
    attributes = inspect.getdoc(kind).partition("Attributes:\n")[2]
    described = [
        entry.strip().split(": ", 1) for entry in re.split(r"^    (?=\w+: )", attributes, flags=re.MULTILINE)[1:]
    ]
    assert [name for name, _ in described] == list(get_type_hints(kind))
    assert [text for _, text in described if not (text[0].isupper() and text.endswith("."))] == []


@pytest.mark.parametrize("content", [bare(), full()], ids=["bare", "full"])
def test_what_is_written_is_what_is_read(content, tmp_path):
    report = Report.from_json(content)
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path) == Report.load(tmp_path / "report.json") == report
    assert json.loads((tmp_path / "report.json").read_text()) == report.content


def test_a_run_writes_every_key_and_no_other():
    content = bare()
    assert list(content) == [field.name for field in dataclasses.fields(Report) if field.name != "more"]
    assert Report.from_json(content).content == content


def test_values_are_plain_and_exact():
    import numpy as np

    assert to_json({"a": np.float32(0.5), "b": (np.int64(3), 1 / 3)}) == {"a": 0.5, "b": [3, 1 / 3]}
    with pytest.raises(TypeError, match="set does not belong in a report"):
        to_json({"a": {1}})


def test_keys_of_other_versions_are_kept():
    content = bare() | {"carbon": {"g": 1}}
    report = Report.from_json(content)
    assert report.more == {"carbon": {"g": 1}}
    assert report.content == content


def test_reports_that_are_older_than_a_key_are_read():
    old = without(without(without(full(), "weights"), "command"), "groups", 0, "scores")
    old["latency_ms"]["after"]["median"] = 4  # a whole number is a number
    report = Report.from_json(old)
    assert (report.weights, report.command, report.groups[0].scores) == ([], None, None)


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (without(full(), "params", "after"), "params.after is missing"),
        (without(full(), "verify"), "verify is missing"),
        (changed(full(), "many", "params", "after"), "params.after is not a whole number"),
        (changed(full(), True, "params", "after"), "params.after is not a whole number"),
        (changed(full(), 10**30, "macs", "before"), "macs.before is not a whole number"),
        (changed(full(), [3], "how"), "how is not an object"),
        (changed(full(), None, "groups", 1, "before"), r"groups\[1\].before is not a whole number"),
        (changed(full(), "fast", "latency_ms", "after", "median"), "latency_ms.after.median is not a number"),
        (changed(full(), 3, "training", "sparsify", "epochs"), "training.sparsify.epochs is not a list"),
        (changed(full(), "low", "training", "sparsify", "epochs", 0, "loss"), r"epochs\[0\].loss is not a number"),
        (changed(full(), 3, "notes", 0), r"notes\[0\] is not text"),
        (changed(full(), "no", "verify", "exact"), "verify.exact is not true or false"),
    ],
)  # fmt: skip
def test_a_damaged_report_is_refused_by_its_key(damaged, complaint):
    with pytest.raises(BadInput, match=complaint) as error:
        Report.from_json(damaged, "a/report.json")
    assert str(error.value).startswith("a/report.json: ")
    assert "\n" not in str(error.value)


def test_a_benchmark_has_the_keys_of_the_schema():
    from slimnet.pipeline.config import RunConfig
    from slimnet.pipeline.prune import prune
    from tests.networks.graphs import net
    from tests.networks.named import CNN

    report = prune(net(CNN), run=RunConfig(bench_seconds=0.01))
    assert report.bench is not None
    assert report.latency_ms.after is not None
    low, high = report.bench.latency_interval
    assert 0 < low <= high
    assert {"conv1", "conv2", "fc"} <= {layer.name for layer in report.bench.layers}
    assert Report.from_json(report.content) == report
