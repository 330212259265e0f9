"""Files that leave sizes of their inputs open, without --input: every verb that reads one says what was chosen."""

import json

import pytest

from tests.networks.files import saved

#: One unknown size after the other, as PaddlePaddle's exporter writes them, and what --input gives for them.
OPEN = """(float[N,3,H,W] x) => (y) <float[16,3,3,3] w, float[8,16,3,3] v>
    { a = Conv<strides=[2,2]>(x, w) b = Relu(a) y = Conv(b, v) }"""
CHOSEN = "the file leaves sizes of its inputs open; chosen were x=1x3x224x224"
QUICK = ("--bench-seconds", "0")


@pytest.fixture
def file(tmp_path):
    return saved(tmp_path / "in" / "open.onnx", OPEN)


def test_a_report_says_what_was_chosen(slimnet, file, tmp_path):
    outcome = slimnet("prune", file, *QUICK)
    assert outcome.code == 0, outcome.err
    assert CHOSEN in outcome.out.replace("\n", " ")
    report = json.loads((tmp_path / "open-slim" / "report.json").read_text())
    assert report["notes"] == [CHOSEN]
    assert report["macs"]["before"] == 111 * 111 * 16 * 27 + 109 * 109 * 8 * 144


def test_nothing_is_said_of_what_was_given(slimnet, file):
    assert CHOSEN[:30] not in slimnet("prune", file, "--input", "1x3x48x192", *QUICK).out
    assert json.loads(slimnet("trace", file, "--input", "1x3x48x192", "--json").out)["notes"] == []


def test_a_trace_says_what_was_chosen(slimnet, file):
    assert CHOSEN in slimnet("trace", file).out.replace("\n", " ")
    assert json.loads(slimnet("trace", file, "--json").out)["notes"] == [CHOSEN]


def test_a_picture_smaller_than_a_kernel_is_refused(slimnet, file):
    assert "give larger --input" in slimnet("prune", file, "--input", "1x3x3x3").line


def test_data_of_another_size_name_the_input(slimnet, file):
    line = slimnet("eval", file, "--data", "digits").line
    assert "samples of shape 1x8x8 do not fit open, which takes x=1x3x224x224" in line
    assert line.endswith(f"{CHOSEN}: give --input")
