"""Inputs without labels: in every form, checked before any work."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from slimnet.common.errors import BadInput
from slimnet.data.unlabelled import load_unlabelled
from tests.networks.graphs import net

PICTURE = "(float[N,3,8,6] x) => (y) <float[4,3,1,1] w> { y = Conv(x, w) }"
TOKENS = "(int64[N,5] ids, float[N,5] mask) => (y) <float[9,4] t> { e = Gather(t, ids) y = MatMul(mask, e) }"
RNG = np.random.default_rng(0)


def pictures(count: int = 20):
    return RNG.standard_normal((count, 3, 8, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_arrays_of_one_input(here):
    x = pictures()
    np.save("x.npy", x)
    np.savez("any.npz", pixels=x)
    np.savez("split.npz", x_train=x, y_train=np.zeros(20), x_test=x[:3], y_test=np.zeros(3))
    for option in ("x.npy", "any.npz", "split.npz"):
        found = load_unlabelled(option, net(PICTURE, n=1))
        assert np.array_equal(np.concatenate([feed["x"] for feed in found.feeds]), x)
        assert all(feed["x"].shape == (1, 3, 8, 6) for feed in found.feeds)
        assert found.notes == ()


def test_arrays_of_several_inputs_by_name(here):
    ids, mask = RNG.integers(0, 9, (20, 5)), np.ones((20, 5), np.float32)
    np.savez("in.npz", ids=ids.astype(np.int32), mask=mask)
    found = load_unlabelled("in.npz", net(TOKENS, n=1))
    assert found.feeds[3]["ids"].dtype == np.int64
    assert np.array_equal(found.feeds[3]["ids"][0], ids[3])
    np.savez("in.npz", ids=ids)
    with pytest.raises(BadInput, match=r"`calib` in.npz: holds ids; net takes ids, mask"):
        load_unlabelled("in.npz", net(TOKENS, n=1))


def test_limit_takes_them_evenly_and_a_seed_at_random(here):
    x = pictures(30)
    np.save("x.npy", x)
    even = load_unlabelled("x.npy?limit=3", net(PICTURE, n=1))
    assert [float(f["x"][0, 0, 0, 0]) for f in even.feeds] == [float(v) for v in x[[0, 10, 20], 0, 0, 0]]
    some = load_unlabelled("x.npy?limit=3&seed=1", net(PICTURE, n=1))
    again = load_unlabelled("x.npy?limit=3&seed=1", net(PICTURE, n=1))
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(some.feeds, again.feeds, strict=True))
    assert even.notes == ("`calib` x.npy?limit=3: 3 inputs are few; give 16 or more, from real use",)


def test_a_folder_of_images(here):
    folder = here / "pictures" / "deeper"
    folder.mkdir(parents=True)
    for k in range(17):
        Image.new("RGB", (20, 10), (10 * k, 20, 30)).save(folder / f"{k:02}.png")
    feeds = load_unlabelled("pictures", net(PICTURE, n=1)).feeds
    assert len(feeds) == 17
    assert feeds[0]["x"].shape == (1, 3, 8, 6)
    assert np.allclose(feeds[2]["x"][0, :, 0, 0], np.array([20, 20, 30]) / 255)
    whole = load_unlabelled("pictures?scale=255&colours=bgr", net(PICTURE, n=1)).feeds
    assert np.allclose(whole[2]["x"][0, :, 0, 0], [30, 20, 20])
    normal = load_unlabelled("pictures?preset=half", net(PICTURE, n=1)).feeds
    assert np.allclose(normal[2]["x"], feeds[2]["x"] * 2 - 1, atol=1e-6)
    last = net("(float[N,8,6,3] x) => (y) <float[3,4] w> { y = MatMul(x, w) }", n=1)
    assert load_unlabelled("pictures", last).feeds[0]["x"].shape == (1, 8, 6, 3)


def test_what_a_function_gives(here):
    (here / "mine.py").write_text(
        "import numpy as np\n"
        "def array(): return np.ones((20, 3, 8, 6)) * np.arange(20).reshape(-1, 1, 1, 1)\n"
        "def named(): return {'x': array()}\n"
        "def stream():\n"
        "    for k in __import__('itertools').count(): yield np.full((3, 8, 6), k)\n"
        "def broken():\n"
        "    yield np.ones((3, 8, 6))\n"
        "    raise OSError('the camera is off')\n"
        "def nothing(): return []\n"
    )
    for name in ("array", "named", "stream"):
        feeds = load_unlabelled(f"mine.py:{name}?limit=20", net(PICTURE, n=1)).feeds
        assert [float(feed["x"].max()) for feed in feeds] == [float(k) for k in range(20)]
    with pytest.raises(BadInput, match=r"`calib` mine.py:broken: broken\(\) fails \(OSError: the camera is off\)"):
        load_unlabelled("mine.py:broken", net(PICTURE, n=1))
    with pytest.raises(BadInput, match="gives no inputs"):
        load_unlabelled("mine.py:nothing", net(PICTURE, n=1))
    with pytest.raises(BadInput, match="has no function missing"):
        load_unlabelled("mine.py:missing", net(PICTURE, n=1))


def test_the_training_split_of_labelled_data_and_never_the_test_split(here):
    digits = net("(float[N,1,8,8] x) => (y) <float[4,1,3,3] w> { y = Conv(x, w) }", n=1)
    found = load_unlabelled("digits?limit=40", digits)
    assert 0 < len(found.feeds) <= 40
    assert all(feed["x"].shape == (1, 1, 8, 8) for feed in found.feeds)
    with pytest.raises(BadInput, match="`calib` digits: samples of shape 1x8x8 do not fit"):
        load_unlabelled("digits", net(PICTURE, n=1))


def test_a_fixed_batch_is_filled(here):
    fixed = net(PICTURE.replace("N,", "8,"))
    np.save("x.npy", pictures(20))
    found = load_unlabelled("x.npy", fixed)
    assert [feed["x"].shape for feed in found.feeds] == [(8, 3, 8, 6)] * 2
    assert found.notes == ("`calib` x.npy: 4 inputs that fill no batch of 8 are left out",)
    np.save("x.npy", pictures(5))
    with pytest.raises(BadInput, match="gives 5 inputs, fewer than the batch of 8"):
        load_unlabelled("x.npy", fixed)


@pytest.mark.parametrize(
    ("array", "words"),
    {
        "shape": (np.ones((20, 3, 8, 7), np.float32), r"an input x of shape 1x3x8x7 does not fit 1x3x8x6"),
        "rank": (np.ones((20, 8), np.float32), r"an input x of shape 8 does not fit"),
        "nan": (np.full((20, 3, 8, 6), np.nan, np.float32), "holds values that are not finite"),
        "text": (np.full((20, 3, 8, 6), "a"), "is of type <U1; net takes float32"),
        "empty": (np.ones((0, 3, 8, 6), np.float32), "holds so many samples of each input: x 0"),
        "number": (np.float32(3), "holds so many samples"),
    }.values(),
)
def test_what_does_not_fit_is_told(here, array, words):
    np.save("x.npy", array)
    with pytest.raises(BadInput, match=words):
        load_unlabelled("x.npy", net(PICTURE, n=1))


@pytest.mark.parametrize(
    ("option", "words"),
    {
        "x.npy?limt=3": "'limt' is not known here; the settings are limit, seed",
        "x.npy?limit=0": "limit cannot be '0'; use a number of inputs",
        "x.npy?limit=2&limit=3": "'limit' is given twice",
        "empty": "holds no images",
        "nothing.npy": "does not exist|no such file",
        "broken.npy": "cannot be read as an array",
        "what": "is not understood",
    }.items(),
)
def test_a_wrong_option_is_told_in_one_line(here, option, words):
    (here / "empty").mkdir()
    (here / "broken.npy").write_bytes(b"junk")
    np.save("x.npy", pictures())
    with pytest.raises(BadInput, match=words) as caught:
        load_unlabelled(option, net(PICTURE, n=1))
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_not_made_of_fractions(here):
    np.savez("in.npz", ids=np.ones((20, 5)), mask=np.ones((20, 5)))
    with pytest.raises(BadInput, match="input ids is of type float64; net takes int64"):
        load_unlabelled("in.npz", net(TOKENS, n=1))


def test_the_same_input_again_and_again_is_noted(here):
    np.save("x.npy", np.ones((20, 3, 8, 6), np.float32))
    (note,) = load_unlabelled("x.npy", net(PICTURE, n=1)).notes
    assert "all inputs are the same" in note


def test_bytes_are_fractions_for_networks_of_floating_numbers(here):
    np.save("x.npy", np.full((20, 3, 8, 6), 51, np.uint8))
    assert np.allclose(load_unlabelled("x.npy", net(PICTURE, n=1)).feeds[0]["x"], 0.2)
