"""Inputs for calibration: every form of `--calib`, and what is told of those that cannot be used."""

from __future__ import annotations

import io
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimnet.common import memory
from slimnet.common.errors import BadInput
from slimnet.data.load import Data, load_data
from slimnet.data.samples import Samples
from slimnet.data.unlabelled import Unlabelled, load_unlabelled
from slimnet.graph.net import Net
from slimnet.runtime.onnxruntime import OnnxRuntime
from tests.networks.graphs import net


def takes(kind: str, name: str = "pixels") -> Net:
    """A network of one input of a kind such as "float[N,3,8,8]"."""
    return net(f"({kind} {name}) => ({kind} out) {{ out = Identity({name}) }}")


VECTORS = takes("float[N,4]")
IMAGES = takes("float[N,3,8,8]")
IDS = takes("int64[1,T]", "ids")
PAIR = net("(float[N,4] a, int64[N,T] ids) => (float[N,4] y, int64[N,T] z) { y = Relu(a) z = Identity(ids) }")
RNG = np.random.default_rng(0)


def stacked(found: Unlabelled) -> np.ndarray:
    """All samples of the only input."""
    return np.concatenate([value for feed in found.feeds for value in feed.values()])


def notes(found: Unlabelled) -> list[str]:
    """What is noted, after the option that each note begins with."""
    assert all(note.startswith(f"`calib` {found.name}: ") for note in found.notes)
    return [note.removeprefix(f"`calib` {found.name}: ") for note in found.notes]


def vectors(count: int) -> np.ndarray:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


def told(option: str, network: Net, **options: dict[str, int]) -> str:
    """The one line that refuses an option, which begins with it."""
    with pytest.raises(BadInput) as caught:
        load_unlabelled(option, network, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"`calib` {option}: ")
    return message


@pytest.fixture
def saved(tmp_path):
    """Save one array, or arrays by name, and give the path."""

    def save(array: np.ndarray | None = None, **arrays: np.ndarray) -> str:
        path = tmp_path / ("inputs.npz" if array is None else "inputs.npy")
        np.savez(path, **arrays) if array is None else np.save(path, array)
        return str(path)

    return save


@pytest.fixture
def code(tmp_path):
    """Write a Python file, and give FILE.py:make."""

    def write(text: str) -> str:
        path = tmp_path / "own.py"
        path.write_text("import numpy as np\n" + textwrap.dedent(text))
        return f"{path}:make"

    return write


def folder(path: Path, *sizes: tuple[int, int], suffix: str = ".png") -> str:
    """A folder of random images of some widths and heights."""
    for k, (width, height) in enumerate(sizes):
        place = path / f"part{k % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{k}{suffix}")
    return str(path)


def plain(path: Path, *colour: int) -> str:
    """A folder with one image of a single colour."""
    path.mkdir()
    Image.new("RGB", (8, 8), colour).save(path / "plain.png")
    return str(path)


class TestArrays:
    def test_a_feed_is_one_sample_where_the_batch_is_open(self, saved):
        found = load_unlabelled(saved(vectors(20)), VECTORS)
        assert len(found.feeds) == 20
        assert all(feed["pixels"].shape == (1, 4) and feed["pixels"].dtype == np.float32 for feed in found.feeds)
        assert np.array_equal(stacked(found), vectors(20))
        assert notes(found) == []

    def test_the_network_runs_on_every_feed(self, saved):
        found = load_unlabelled(saved(vectors(20).astype(np.float64)), VECTORS)
        session = OnnxRuntime(threads=1).session(VECTORS.model, optimise=False)
        assert [session.run(feed)[0].tolist() for feed in found.feeds] == [[row.tolist()] for row in vectors(20)]

    def test_a_fixed_batch_is_filled_and_what_is_left_is_told(self, saved):
        found = load_unlabelled(saved(vectors(19)), takes("float[8,4]"))
        assert [feed["pixels"].shape for feed in found.feeds] == [(8, 4), (8, 4)]
        assert np.array_equal(stacked(found), vectors(16))
        assert notes(found) == ["3 samples of 19 left out, which fill no batch of 8"]

    def test_too_few_for_a_batch(self, saved):
        assert "gives 7 samples, and net takes 8" in told(saved(vectors(7)), takes("float[8,4]"))

    @pytest.mark.parametrize("name", ["pixels", "x", "x_train", "inputs", "anything"])
    def test_names_of_the_only_array(self, saved, name):
        assert np.array_equal(stacked(load_unlabelled(saved(**{name: vectors(20)}), VECTORS)), vectors(20))

    def test_train_of_labelled_data_and_never_test(self, saved):
        path = saved(x_test=vectors(9) + 1, y_test=np.zeros(9, int), x_train=vectors(20), y_train=np.zeros(20, int))
        assert np.array_equal(stacked(load_unlabelled(path, VECTORS)), vectors(20))

    def test_only_test_data_are_refused(self, saved):
        assert "only test data" in told(saved(x_test=vectors(9), y_test=np.zeros(9, int)), VECTORS)
        assert "only test data" in told(saved(x_test=vectors(9)), VECTORS)
        assert "is test data to `data`" in told(saved(x=vectors(9), y=np.zeros(9, int)), VECTORS)
        assert "is test data to `data`" in told(saved(x=vectors(9), y=np.zeros(9, int)), takes("float[N,4]", "x"))

    def test_several_inputs_by_name(self, saved):
        ids = RNG.integers(0, 9, (20, 6)).astype(np.int32)
        found = load_unlabelled(saved(a=vectors(20), ids=ids), PAIR)
        assert [feed["ids"].tolist() for feed in found.feeds] == [[row.tolist()] for row in ids]
        assert found.feeds[3]["ids"].dtype == np.int64
        assert np.array_equal(found.feeds[3]["a"], vectors(20)[3:4])

    def test_missing_and_unknown_names_list_those_of_the_network(self, saved):
        ids = np.ones((20, 6), int)
        assert "holds a, and net takes a (4, float32), ids (any, int64)" in told(saved(a=vectors(20)), PAIR)
        assert "net takes no extra; its inputs are a, ids" in told(saved(a=vectors(9), ids=ids, extra=ids), PAIR)
        assert "net takes pixels (4, float32)" in told(saved(first=vectors(9), second=vectors(9)), VECTORS)
        assert "holds nothing" in told(saved(), VECTORS)

    def test_counts_differ(self, saved):
        assert "holds 20 of a, 19 of ids" in told(saved(a=vectors(20), ids=np.ones((19, 6), int)), PAIR)

    def test_one_array_for_several_inputs(self, saved):
        assert "is one array, and net takes a (4, float32), ids" in told(saved(vectors(20)), PAIR)

    def test_inputs_without_a_batch_axis(self, saved):
        network = net("(float[1,4] a, float s) => (float[1,4] y) { y = Mul(a, s) }")
        found = load_unlabelled(saved(a=vectors(20), s=np.arange(20, dtype=np.float32)), network)
        assert [(feed["a"].shape, feed["s"].shape) for feed in found.feeds] == [((1, 4), ())] * 20
        assert [float(feed["s"]) for feed in found.feeds] == list(range(20))

    def test_a_single_axis_is_a_whole_tensor(self, saved):
        found = load_unlabelled(saved(np.arange(320).reshape(20, 16)), takes("int64[16]"))
        assert [feed["pixels"].shape for feed in found.feeds] == [(16,)] * 20

    def test_first_axes_that_differ_make_every_sample_a_feed(self, saved):
        network = net("(float[2,4] a, float[3,4] b) => (float[5,4] y) { y = Concat<axis=0>(a, b) }")
        found = load_unlabelled(saved(a=RNG.random((20, 2, 4)), b=RNG.random((20, 3, 4))), network)
        assert [(feed["a"].shape, feed["b"].shape) for feed in found.feeds] == [((2, 4), (3, 4))] * 20

    def test_open_axes_take_any_size(self, saved):
        assert load_unlabelled(saved(np.ones((20, 7), int)), IDS).feeds[0]["ids"].shape == (1, 7)

    @pytest.mark.parametrize("shape", [(20, 5), (20, 4, 1), (4,), ()])
    def test_wrong_shapes(self, saved, shape):
        message = told(saved(np.ones(shape, np.float32)), VECTORS)
        assert "shape" in message
        assert "4" in message
        assert "net" in message

    @pytest.mark.parametrize("shape", [(0, 4), (0,), (20, 0)])
    def test_empty(self, saved, shape):
        assert told(saved(pixels=np.ones(shape, np.float32)), VECTORS)
        assert told(saved(np.ones(shape, np.float32)), VECTORS)
        assert "holds no samples" in told(saved(np.ones((0, 4), np.float32)), VECTORS)

    @pytest.mark.parametrize(
        ("kind", "dtype", "example"),
        [
            ("float", "int64", "float32"),
            ("float", "bool", "float32"),
            ("float", "complex64", "float32"),
            ("int64", "float32", "int64"),
            ("int64", "U1", "int64"),
            ("bool", "int64", "bool"),
        ],
    )
    def test_wrong_kinds(self, saved, kind, dtype, example):
        message = told(saved(np.ones((20, 4)).astype(dtype)), takes(f"{kind}[N,4]"))
        assert f"x.astype('{example}')" in message

    @pytest.mark.parametrize("kind", ["float16", "double", "bfloat16", "bool", "int32", "uint8", "int8"])
    def test_dtypes_of_the_network(self, saved, kind):
        network = takes(f"{kind}[N,4]")
        dtype = network.model.graph.inputs[0].dtype.numpy()
        given = {"bool": bool, "float16": np.float32, "double": np.float32, "bfloat16": np.float32}.get(kind, np.int64)
        found = load_unlabelled(saved(RNG.integers(0, 2, (20, 4)).astype(given)), network)
        assert {feed["pixels"].dtype for feed in found.feeds} == {dtype}

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_not_finite(self, saved, value):
        given = vectors(20).astype(float)
        given[13, 2] = value
        assert "pixels holds NaN, infinity, or values beyond float32" in told(saved(given), VECTORS)

    def test_integers_that_do_not_fit(self, saved):
        assert "uint8 goes from 0 to 255" in told(saved(np.full((20, 4), 256)), takes("uint8[N,4]"))
        assert "int8 goes from -128 to 127" in told(saved(np.full((20, 4), -129)), takes("int8[N,4]"))

    def test_indices_beyond_the_table(self, saved):
        path = saved(np.arange(40).reshape(20, 2))
        assert "ids holds 10 to 11, and the table that it indexes has 11 rows; give 0 to 10" in told(
            path, IDS, bounds={"ids": 11}
        )
        assert len(load_unlabelled(path, IDS, {"ids": 40}).feeds) == 20

    def test_bytes_are_scaled_unless_the_option_keeps_them(self, saved):
        pixels = RNG.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
        path = saved(pixels)
        scaled, kept = load_unlabelled(path, IMAGES), load_unlabelled(f"{path}?scale=255", IMAGES)
        assert np.array_equal(stacked(scaled), Samples(pixels, np.zeros(20, int)).__getitems__(range(20))[0])
        assert np.array_equal(stacked(kept), pixels)
        assert notes(scaled) == ["the bytes of pixels are divided by 255; say scale=255 to keep 0..255"]
        assert notes(kept) == ["the bytes of pixels are kept in 0..255"]
        assert np.array_equal(stacked(load_unlabelled(path, takes("uint8[N,3,8,8]"))), pixels)

    def test_normalisation(self, saved):
        values = RNG.random((20, 3, 8, 8)).astype(np.float32)
        path = saved(values)
        by_lists = stacked(load_unlabelled(f"{path}?mean=1,2,3&std=2,4,8", IMAGES))
        np.testing.assert_allclose(by_lists[:, 2], (values[:, 2] - 3) / 8, rtol=1e-5)
        assert np.array_equal(by_lists, stacked(load_unlabelled(f"{path}?normalize=1,2,3/2,4,8", IMAGES)))
        np.testing.assert_allclose(stacked(load_unlabelled(f"{path}?mean=1", IMAGES)), values - 1, rtol=1e-5)
        last = load_unlabelled(f"{saved(values.transpose(0, 2, 3, 1))}?std=2,4,8", takes("float[N,8,8,3]"))
        np.testing.assert_allclose(stacked(last)[..., 1], values[:, 1] / 4, rtol=1e-5)

    def test_normalisation_that_does_not_fit(self, saved):
        path = saved(RNG.random((20, 3, 8, 8)))
        assert "does not fit 3 channels" in told(f"{path}?mean=1,2", IMAGES)
        assert "does not fit 3 channels" in told(f"{path}?std=0", IMAGES)
        assert "give one of them" in told(f"{path}?mean=1&normalize=cifar", IMAGES)
        assert "is for one input of floats" in told(f"{path}?mean=1", PAIR)

    def test_not_what_the_name_says(self, tmp_path, saved):
        for name in ("text.npz", "text.npy"):
            (tmp_path / name).write_text("no array")
            assert "write it with numpy.save" in told(str(tmp_path / name), VECTORS)
        np.save(tmp_path / "pickled.npy", np.array([None]), allow_pickle=True)
        assert "write it with numpy.save" in told(str(tmp_path / "pickled.npy"), VECTORS)
        np.savez(tmp_path / "pickled.npz", pixels=np.array([None]), allow_pickle=True)
        assert "pickled" in told(str(tmp_path / "pickled.npz"), VECTORS)
        Path(saved(pixels=vectors(9))).rename(tmp_path / "several.npy")
        assert "write it with numpy.save" in told(str(tmp_path / "several.npy"), VECTORS)
        with pytest.raises(BadInput, match="no such file"):
            load_unlabelled(str(tmp_path / "absent.npz"), VECTORS)

    def test_a_header_that_promises_more_than_there_is_takes_no_memory(self, tmp_path):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 4)})
        (tmp_path / "bomb.npy").write_bytes(header.getvalue())
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
            archive.writestr("pixels.npy", header.getvalue())
        assert "write it with numpy.save" in told(str(tmp_path / "bomb.npy"), VECTORS)
        assert "shorter than its header says" in told(str(tmp_path / "bomb.npz"), VECTORS)

    def test_more_than_memory_holds(self, saved, monkeypatch):
        monkeypatch.setattr(memory, "memory", lambda: 100)
        assert "give fewer samples, or save them as .npy" in told(saved(pixels=vectors(20)), VECTORS)


class TestCounts:
    def test_limit_is_evenly_spread(self, saved):
        found = load_unlabelled(f"{saved(vectors(100))}?limit=20", VECTORS)
        assert np.array_equal(stacked(found), vectors(100)[::5])

    def test_without_limit_512_are_taken(self, saved):
        assert np.array_equal(stacked(load_unlabelled(saved(vectors(1024)), VECTORS)), vectors(1024)[::2])

    def test_seed_draws_always_alike(self, saved):
        path = saved(vectors(100))
        one, again, other = (stacked(load_unlabelled(f"{path}?limit=20&seed={seed}", VECTORS)) for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)
        assert len(np.unique(one[:, 0])) == 20

    def test_fewer_than_limit_are_told(self, saved):
        found = load_unlabelled(f"{saved(vectors(20))}?limit=30", VECTORS)
        assert notes(found) == ["there are only 20 samples of the 30 that limit asks for"]

    def test_few_are_told(self, saved):
        (note,) = notes(load_unlabelled(saved(vectors(15)), VECTORS))
        assert note.startswith("few: 15 samples")

    def test_constant_inputs_are_told(self, saved):
        (note,) = notes(load_unlabelled(saved(a=vectors(20), ids=np.ones((20, 6), int)), PAIR))
        assert note.startswith("ids is the same in all 20 samples")

    @pytest.mark.parametrize("setting", ["limit=0", "limit=x", "seed=-1", "seed=4294967296", "scale=2"])
    def test_settings_that_cannot_be(self, saved, setting):
        assert "cannot be" in told(f"{saved(vectors(20))}?{setting}", VECTORS)

    @pytest.mark.parametrize("setting", ["crop=3", "val=3", "limit=3&limit=3"])
    def test_settings_that_are_not_known(self, saved, setting):
        assert "the settings of arrays are limit, seed, scale" in told(f"{saved(vectors(20))}?{setting}", VECTORS)

    def test_feeds_are_a_sequence(self, saved):
        feeds = load_unlabelled(saved(vectors(20)), VECTORS).feeds
        assert np.array_equal(feeds[-1]["pixels"], vectors(20)[-1:])
        assert [feed["pixels"][0, 0] for feed in feeds[1:3]] == [4, 8]
        with pytest.raises(IndexError):
            feeds[20]


class TestFolder:
    def test_images_anywhere_are_cut_to_the_network_and_normalised(self, tmp_path):
        path = folder(tmp_path / "in", *[(20 + k, 30 - k) for k in range(20)])
        found = load_unlabelled(path, IMAGES)
        assert [feed["pixels"].shape for feed in found.feeds] == [(1, 3, 8, 8)] * 20
        assert notes(found) == ["images are cut to 8x8, rgb, in 0..1, normalize=none"]

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ("", [1, 0.2, 0]),
            ("preset=imagenet", [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225]),
            ("preset=half", [1, -0.6, -1]),
            ("preset=caffe", [-103.94, 51 - 116.78, 255 - 123.68]),
            ("preset=caffe&scale=1&colours=rgb&normalize=none", [1, 0.2, 0]),
            ("preset=none", [1, 0.2, 0]),
            ("preset=yolo", [1, 0.2, 0]),
            ("preset=mobilenet", [1, -0.6, -1]),
            ("preset=mobilenet&normalize=none", [1, 0.2, 0]),
            ("preset=clip", [(1 - 0.48145466) / 0.26862954, (0.2 - 0.4578275) / 0.26130258, -0.40821073 / 0.27577711]),
            ("scale=1", [1, 0.2, 0]),
            ("scale=255", [255, 51, 0]),
            ("colours=bgr&scale=255", [0, 51, 255]),
            ("colours=bgr&normalize=imagenet", [(0 - 0.406) / 0.225, (0.2 - 0.456) / 0.224, (1 - 0.485) / 0.229]),
            ("colours=bgr&scale=255&mean=1,2,3", [-1, 49, 252]),
            ("scale=255&normalize=imagenet", [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225]),
            ("mean=1,0,0&std=2", None),
        ],
    )
    def test_what_becomes_of_colours(self, tmp_path, settings, expected):
        option = f"{plain(tmp_path / 'in', 255, 51, 0)}?{settings}"
        if expected is None:
            assert "does not fit 3 channels" in told(option, IMAGES)
            return
        for network, axes in ((IMAGES, (0, 2, 3)), (takes("float[N,8,8,3]"), (0, 1, 2))):
            values = stacked(load_unlabelled(option, network))
            np.testing.assert_allclose(values.mean(axes), expected, atol=1e-4)
            np.testing.assert_allclose(values.std(axes), 0, atol=1e-4)

    def test_grey_and_bytes(self, tmp_path):
        path = plain(tmp_path / "in", 51, 51, 51)
        grey = load_unlabelled(path, takes("float[N,1,8,8]"))
        np.testing.assert_allclose(stacked(grey), np.full((1, 1, 8, 8), 0.2), rtol=1e-6)
        assert notes(grey)[0] == "images are cut to 8x8, grey, in 0..1, normalize=none"
        raw = load_unlabelled(path, takes("uint8[N,3,8,8]"))
        assert stacked(raw).dtype == np.uint8
        assert set(stacked(raw).flat) == {51}
        assert "is for one input of floats" in told(f"{path}?preset=clip", takes("uint8[N,3,8,8]"))

    def test_size_and_crop_take_the_middle(self, tmp_path):
        (tmp_path / "in").mkdir()
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[4:12, 12:20] = 255
        Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
        path = tmp_path / "in"
        whole = stacked(load_unlabelled(f"{path}?preset=none", IMAGES))
        middle = stacked(load_unlabelled(f"{path}?preset=none&size=16", IMAGES))
        assert whole.mean() == pytest.approx(0.25, abs=0.02)
        assert middle.min() == 1
        opened = takes("float[N,3,H,W]")
        opened.inputs["pixels"] = (1, 3, 8, 8)
        assert stacked(load_unlabelled(f"{path}?size=16&crop=12", opened)).shape == (1, 3, 12, 12)
        assert "size=4 is less than the 8x8 pixels" in told(f"{path}?size=4", IMAGES)
        assert "have shape 3x4x4" in told(f"{path}?crop=4", IMAGES)

    def test_images_that_are_not_square(self, tmp_path):
        path = folder(tmp_path / "in", (31, 17), (5, 90), (1, 1))
        assert stacked(load_unlabelled(path, takes("float[N,3,8,12]"))).shape == (3, 3, 8, 12)
        assert stacked(load_unlabelled(f"{path}?preset=imagenet", takes("float[N,3,7,9]"))).shape == (3, 3, 7, 9)

    @pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".PNG", ".jpeg"])
    def test_kinds_of_images(self, tmp_path, suffix):
        assert len(load_unlabelled(folder(tmp_path / "in", (9, 9), suffix=suffix), IMAGES).feeds) == 1

    def test_limit(self, tmp_path):
        path = folder(tmp_path / "in", *[(8, 8)] * 10)
        assert len(load_unlabelled(f"{path}?limit=3", IMAGES).feeds) == 3
        assert len(load_unlabelled(f"{path}?limit=3&seed=5", IMAGES).feeds) == 3

    def test_no_images(self, tmp_path):
        (tmp_path / "notes.txt").write_text("none")
        (tmp_path / ".hidden").mkdir()
        (tmp_path / ".hidden" / "a.png").write_text("none")
        assert "holds no images (.bmp, " in told(str(tmp_path), IMAGES)

    def test_an_image_that_cannot_be_read_is_named(self, tmp_path):
        path = folder(tmp_path / "in", (8, 8))
        broken = tmp_path / "in" / "broken.jpg"
        broken.write_text("none")
        assert f"{broken} cannot be read as an image" in told(path, IMAGES)

    def test_splits_are_not_mixed(self, tmp_path):
        for name in ("train", "test"):
            folder(tmp_path / name, (8, 8))
        assert f"give {tmp_path / 'train'}" in told(str(tmp_path), IMAGES)

    @pytest.mark.parametrize(
        ("kind", "settings", "words"),
        [
            ("float[N,4]", "", "is a folder of images, and net takes pixels (4, float32)"),
            ("bool[N,3,8,8]", "", "is a folder of images"),
            ("float[N,6,8,8]", "", "give layout=nchw or nhwc"),
            ("float[N,6,8,8]", "?layout=nchw", "images of 6 channels, which rgb does not fill"),
            ("float[N,3,8,8]", "?colours=grey", "images of 3 channels, which grey does not fill"),
            ("float[N,3,8,8]", "?preset=vgg", "preset cannot be 'vgg'"),
        ],
    )
    def test_networks_that_take_no_such_images(self, tmp_path, kind, settings, words):
        assert words in told(folder(tmp_path / "in", (8, 8)) + settings, takes(kind))


class TestPython:
    @pytest.mark.parametrize(
        "body",
        [
            "return np.arange(80, dtype='f4').reshape(20, 4)",
            "return {'pixels': np.arange(80, dtype='f4').reshape(20, 4)}",
            "return list(np.arange(80, dtype='f4').reshape(20, 4))",
            "return [{'pixels': row} for row in np.arange(80, dtype='f4').reshape(20, 4)]",
            "return iter(np.arange(80, dtype='f4').reshape(20, 1, 4))",
            "return ({'pixels': row} for row in np.arange(80, dtype='f4').reshape(5, 4, 4))",
            "return {'train': (np.arange(80, dtype='f4').reshape(20, 4), np.zeros(20)), 'test': None}",
            "return {'train': Own()}",
            "import torch; return torch.arange(80, dtype=torch.float32).reshape(20, 4)",
            "import torch; return torch.utils.data.DataLoader(np.arange(80, dtype='f4').reshape(20, 4), batch_size=8)",
        ],
    )
    def test_what_a_function_may_give(self, code, body):
        option = code(f"""
            class Own:
                def __len__(self): return 20
                def __getitem__(self, k): return np.arange(80, dtype='f4').reshape(20, 4)[k], 0
            def make():
                {body}
        """)
        assert np.array_equal(stacked(load_unlabelled(option, VECTORS)), vectors(20))

    def test_an_endless_generator_that_fills_one_array_is_used_until_the_limit(self, code):
        option = code("""
            def make():
                row = np.zeros(4, np.float32)
                while True:
                    yield row
                    row += 1
        """)
        found = load_unlabelled(f"{option}?limit=20", VECTORS)
        assert stacked(found)[:, 0].tolist() == list(range(20))
        assert len(load_unlabelled(option, VECTORS).feeds) == 512

    def test_what_can_be_had_by_number_is_chosen_from(self, code):
        option = code("make = lambda: [np.full(4, k, np.float32) for k in range(100)]")
        assert stacked(load_unlabelled(f"{option}?limit=20", VECTORS))[:, 0].tolist() == list(range(0, 100, 5))
        assert len(np.unique(stacked(load_unlabelled(f"{option}?limit=20&seed=1", VECTORS))[:, 0])) == 20

    def test_seed_cannot_draw_from_a_generator(self, code):
        option = code("make = lambda: (np.zeros(4, np.float32) for k in range(100))")
        assert "leave seed out" in told(f"{option}?seed=1", VECTORS)

    def test_sizes_may_differ_where_the_graph_leaves_them_open(self, code):
        option = code("make = lambda: (np.arange(k) for k in range(1, 21))")
        assert [feed["ids"].shape for feed in load_unlabelled(option, IDS).feeds] == [(1, k) for k in range(1, 21)]

    def test_sizes_within_a_batch_may_not(self, code):
        option = code("make = lambda: (np.arange(k) for k in range(1, 21))")
        assert "go into one batch of 2 differ in shape" in told(option, takes("int64[2,T]"))

    def test_whole_feeds(self, code):
        network = net("(float[2,4] a, float[3,4] b) => (float[5,4] y) { y = Concat<axis=0>(a, b) }")
        option = code("make = lambda: [{'a': np.ones((2, 4)), 'b': np.full((3, 4), k)} for k in np.arange(20.0)]")
        assert [feed["b"][0, 0] for feed in load_unlabelled(option, network).feeds] == list(range(20))

    def test_batches_of_several_inputs_are_taken_apart(self, code):
        option = code("""
            def make():
                for k in range(5):
                    yield {"a": np.full((4, 4), k, np.float32), "ids": np.arange(24).reshape(4, 6)}
        """)
        found = load_unlabelled(option, PAIR)
        assert [(feed["a"].shape, feed["ids"].shape) for feed in found.feeds] == [((1, 4), (1, 6))] * 20

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("raise KeyError('nothing')", "make() fails (KeyError: 'nothing')"),
            ("yield np.zeros(4, np.float32); 1 / 0", "make() fails (ZeroDivisionError: division by zero)"),
            ("yield from ()", "make() gives no samples"),
            ("return None", "make() returns NoneType"),
            ("return 3", "make() returns int"),
            ("yield np.zeros(5, np.float32)", "samples for pixels have shape 5, and net takes 4"),
            ("yield np.zeros(4, int)", "pixels takes floats (float32), and values of type int64"),
            ("yield {'pix': np.zeros(4)}", "lacks pixels; net takes pixels"),
            ("yield {'pixels': np.zeros(4), 'y': 1}", "also gives y; net takes pixels"),
            ("yield np.zeros(4), 1", "gives tuples; give each sample as an array"),
            ("return {'test': (np.zeros((20, 4)), np.zeros(20))}", "returns no train, and test is kept"),
            ("yield [[1.0], [1.0, 2.0]]", "make() fails (ValueError"),
            ("return {}", "lacks pixels; net takes pixels"),
        ],
    )
    def test_what_it_may_not_give(self, code, body, words):
        assert words in told(code(f"def make():\n    {body}"), VECTORS)

    def test_numbers_of_samples_that_differ(self, code):
        option = code("make = lambda: [{'a': np.ones((2, 4)), 'ids': np.ones((3, 6), int)}]")
        assert "gives 2 of a, 3 of ids at one time" in told(option, PAIR)

    def test_files_that_fail(self, code, tmp_path):
        assert "has no function make" in told(code("make = 3"), VECTORS)
        with pytest.raises(BadInput, match=r"own\.py: cannot be imported"):
            load_unlabelled(code("1 / 0"), VECTORS)
        with pytest.raises(BadInput, match="no such file"):
            load_unlabelled(f"{tmp_path / 'absent.py'}:make", VECTORS)

    def test_more_than_memory_holds(self, code, monkeypatch):
        monkeypatch.setattr("slimnet.data.calib.python.memory", lambda: 100)
        option = code("make = lambda: iter(np.zeros((100, 4), np.float32))")
        assert "4 samples of make() fill half of the memory" in told(option, VECTORS)


class TestLabelled:
    def test_train_of_what_data_knows(self):
        found = load_unlabelled("digits", takes("float[N,1,8,8]"))
        assert len(found.feeds) == 512
        assert found.feeds[0]["pixels"].shape == (1, 1, 8, 8)

    def test_never_test(self):
        data = load_data("digits")
        taken = stacked(load_unlabelled("digits?limit=5000", takes("float[N,1,8,8]")))
        assert np.array_equal(taken, data.train.__getitems__(range(len(data.train)))[0])

    def test_limit_seed_and_settings_of_data(self):
        network = takes("float[N,1,8,8]")
        plain = stacked(load_unlabelled("digits?limit=20", network))
        shifted = stacked(load_unlabelled("digits?limit=20&normalize=1/2", network))
        drawn = stacked(load_unlabelled("digits?normalize=none&seed=3&limit=20", network))
        np.testing.assert_allclose(shifted, (plain - 1) / 2, rtol=1e-5)
        assert drawn.shape == plain.shape
        assert not np.array_equal(drawn, plain)

    def test_only_a_test_split(self, monkeypatch):
        held = load_data("digits").test
        monkeypatch.setattr("slimnet.data.calib.labelled.load_data", lambda _: Data("digits", None, None, held))
        assert "has only a test split" in told("digits", takes("float[N,1,8,8]"))

    def test_images_in_folders_of_classes(self, tmp_path):
        for name in ("train", "test"):
            folder(tmp_path / name, *[(9, 9)] * 4)
        assert len(load_unlabelled(f"imagefolder:{tmp_path}?size=8&val=0", IMAGES).feeds) == 4

    def test_errors_name_the_option(self):
        assert "have shape 1x8x8, and net takes 3x8x8" in told("digits", IMAGES)
        assert "'fit' is not known here; the settings of digits are val" in told("digits?fit=3", IMAGES)
        assert "is one array, and net takes a" in told("digits", PAIR)
        assert "pixels takes integers" in told("digits", takes("int64[N,1,8,8]"))


@pytest.mark.parametrize("option", ["absent", "absent/folder", "x.csv", "own.py", ""])
def test_options_that_name_nothing(option):
    assert "use a folder of images, FILE.npy, digits, " in told(option, IMAGES)


def test_a_function_that_ends_the_process_is_told_like_any_other(tmp_path):
    file = tmp_path / "ends.py"
    file.write_text("def samples():\n    raise SystemExit(0)\n")
    with pytest.raises(BadInput, match=r"samples\(\) fails \(SystemExit"):
        load_unlabelled(f"{file}:samples", net("(float[N,4] x) => (y) <float[4,2] w> { y = MatMul(x, w) }"))
