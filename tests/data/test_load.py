"""From `--data` to samples."""

import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from slimnet.common.errors import BadInput
from slimnet.data.images import decode
from slimnet.data.load import Data, load_data
from slimnet.data.samples import Samples
from slimnet.data.sources import imagefolder
from slimnet.data.sources.digits import load_digits_split
from tests.networks.files import ROOT

SHARED = ROOT.parent / "shared" / "data"


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def everything(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    return samples.__getitems__(range(len(samples)))


def refused(spec: object) -> str:
    """The one line that says why."""
    with pytest.raises(BadInput) as error:
        load_data(str(spec))
    assert "\n" not in str(error.value)
    assert "`data`" in str(error.value)
    return str(error.value)


# -- digits ----------------------------------------------------------------------------------------------------------


def test_digits_split_is_the_same_for_everybody() -> None:
    digests = {name: digest(*arrays) for name, arrays in load_digits_split().items()}
    assert digests == {"train": "55c498180fd06bde", "val": "a55bdafa503f4890", "test": "6e681f3bb2d24b98"}


def test_digits_split_is_scaled_and_stratified() -> None:
    split = load_digits_split()
    assert [len(labels) for _, labels in split.values()] == [1079, 359, 359]
    for images, labels in split.values():
        assert images.shape == (len(labels), 1, 8, 8)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.min() == 0
        assert images.max() == 1
        assert np.ptp(np.bincount(labels, minlength=10)) <= 6


def test_digits_are_the_embedded_split() -> None:
    data = load_data("digits")
    assert (data.name, data.augment, data.test.shape) == ("digits", "shift", (1, 8, 8))
    for name, (images, labels) in load_digits_split().items():
        x, y = everything(getattr(data, name))
        assert np.array_equal(x, images)
        assert np.array_equal(y, labels)


def test_digits_without_their_validation_split() -> None:
    data = load_data("digits?val=0&limit=100&augment=none")
    assert data.val is None
    assert len(data.train) == 100
    assert data.augment == "none"


def test_digits_and_npz_never_import_torch(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=np.zeros(2, int))
    script = (
        "import sys; from slimnet.data.load import load_data\n"
        f"load_data('digits'); load_data({str(tmp_path / 'd.npz')!r})\n"
        "print([name for name in ('torch', 'torchvision', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# -- samples ---------------------------------------------------------------------------------------------------------


def test_bytes_are_scaled_and_normalised_per_channel() -> None:
    x = np.array([[0, 255, 51], [255, 0, 102]], np.uint8).reshape(2, 3, 1, 1)
    samples = Samples(x, np.array([4, 5]), np.float32([0.5, 0, 0.2]), np.float32([0.5, 1, 0.1]))
    values, classes = samples.__getitems__([1, 0])
    assert values.dtype == np.float32
    assert values[..., 0, 0] == pytest.approx(np.array([[1, 0, 2], [-1, 1, 0]]), abs=1e-6)
    assert classes.tolist() == [5, 4]


def test_batches_are_all_samples_in_order() -> None:
    samples = Samples(np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10))
    batches = list(samples.batches(4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate([x for x, _ in batches]), samples.x)
    assert np.concatenate([y for _, y in batches]).tolist() == list(range(10))


@pytest.mark.parametrize("x", [np.ones((4, 2), np.float32), np.full((4, 2), 255, np.uint8)], ids=lambda x: str(x.dtype))
def test_changing_a_batch_does_not_change_the_samples(x) -> None:
    samples = Samples(x, np.arange(4))
    for values, _ in samples.batches(4):
        values += 1
    assert (everything(samples)[0] == 1).all()


def test_samples_feed_a_torch_loader() -> None:
    from torch.utils.data import DataLoader

    loader = DataLoader(load_data("digits").val, 100, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    assert [x.shape for x, _ in loader] == [(100, 1, 8, 8)] * 3 + [(59, 1, 8, 8)]


# -- splits ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def npz(tmp_path) -> Path:
    """1,000 samples in three classes of 600, 300 and 100; every sample is its own number."""
    x = np.arange(1000, dtype=np.float32)[:, None, None, None]
    y = np.repeat([0, 1, 2], [600, 300, 100])
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:7] + 2000, y_test=y[:7])
    return tmp_path / "d.npz"


def numbers(samples: Samples) -> list[float]:
    return everything(samples)[0].ravel().tolist()


def test_a_tenth_is_carved_out_in_proportion(npz) -> None:
    data = load_data(str(npz))
    assert (len(data.train), len(data.val), len(data.test)) == (900, 100, 7)
    assert np.bincount(data.val.y).tolist() == [60, 30, 10]
    assert sorted(numbers(data.train) + numbers(data.val)) == list(range(1000))
    assert np.array_equal(data.val.y, np.digitize(numbers(data.val), [600, 900]))


@pytest.mark.parametrize("count", [1, 37, 333, 999])
def test_as_many_as_asked_for_are_carved_out(npz, count) -> None:
    data = load_data(f"{npz}?val={count}")
    assert (len(data.train), len(data.val)) == (1000 - count, count)
    share = np.bincount(data.val.y, minlength=3) - np.array([0.6, 0.3, 0.1]) * count
    assert (np.abs(share) < 1).all()
    assert set(numbers(data.train)).isdisjoint(numbers(data.val))


def test_splits_are_drawn_at_random_but_always_alike(npz) -> None:
    first, second = load_data(f"{npz}?val=100&limit=50"), load_data(f"{npz}?val=100&limit=50")
    assert numbers(first.train) == numbers(second.train)
    assert numbers(first.val) == numbers(second.val)
    assert len(np.unique(np.diff(sorted(numbers(first.val))))) > 3


def test_a_limit_leaves_validation_alone_and_nests(npz) -> None:
    small, large = load_data(f"{npz}?limit=50"), load_data(f"{npz}?limit=200")
    assert len(small.train) == 50
    assert numbers(large.train)[:50] == numbers(small.train)
    assert numbers(small.val) == numbers(large.val)
    assert len(np.unique(small.train.y)) == 3


def test_no_validation_if_none_is_wanted(npz) -> None:
    data = load_data(f"{npz}?val=0")
    assert data.val is None
    assert len(data.train) == 1000


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("val=1000", "leaves none of the 1000"),
        ("val=-1", "val cannot be '-1'"),
        ("val=ten", "val cannot be 'ten'"),
        ("limit=0", "limit cannot be '0'"),
        ("augment=flip", "none, shift, crop-flip"),
        ("download=1", "'download' is not known here; the settings of npz are val, limit"),
        ("shuffle=1", "'shuffle' is not known here"),
        ("val=1&val=2", "'val' is given twice"),
        ("normalize=imagenet", "does not fit 1 channels"),
        ("normalize=0.5", "does not fit"),
        ("normalize=0.5/0", "does not fit"),
        ("normalize=nan/1", "does not fit"),
        ("normalize=0.5,0.5/1,1", "does not fit"),
    ],
)
def test_wrong_setting(npz, query, says) -> None:
    assert says in refused(f"{npz}?{query}")


@pytest.mark.parametrize("spec", ["nothing", "mnist", "mnist:", "digits:here", "model.onnx", "net.py", "file.npy"])
def test_unknown_form_lists_the_forms(spec) -> None:
    line = refused(spec)
    assert spec in line
    assert "imagefolder:DIR, FILE.npz or FILE.py:CALLABLE" in line


# -- .npz ------------------------------------------------------------------------------------------------------------


def test_npz_of_one_split_is_for_testing(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((3, 2), 51, np.uint8), y=np.array([0, 1, 2], np.uint8))
    data = load_data(f"{tmp_path / 'd.npz'}?normalize=0.1/0.5")
    assert data.train is None
    assert data.val is None
    x, y = everything(data.test)
    assert x == pytest.approx(np.full((3, 2), 0.2))
    assert y.dtype == np.int64
    assert "has no training split" in refused(f"{tmp_path / 'd.npz'}?limit=5")


def test_npz_with_a_validation_split(tmp_path) -> None:
    arrays = {f"{v}_{s}": np.ones(n, int) for s, n in (("train", 30), ("val", 5), ("test", 4)) for v in "xy"}
    np.savez(tmp_path / "d.npz", **arrays)
    data = load_data(str(tmp_path / "d.npz"))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 5, 4)
    assert "validation split of its own" in refused(f"{tmp_path / 'd.npz'}?val=3")


ONES = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": ONES}, "holds x, but not y"),
        ({"x_train": ONES, "y_train": np.zeros(3, int)}, "but not x_test and y_test"),
        ({"x_test": ONES, "y_test": np.zeros(3, int), "x_val": ONES}, "but not y_val"),
        ({"x": ONES, "y": np.zeros(2, int)}, "x has shape [3, 2] and y [2]"),
        ({"x": ONES, "y": np.zeros((3, 1), int)}, "x has shape [3, 2] and y [3, 1]"),
        ({"x": ONES[:0], "y": np.zeros(0, int)}, "holds no samples"),
        ({"x": ONES, "y": np.zeros(3)}, "labels of type float64"),
        ({"x": ONES, "y": np.array([0, -1, 2])}, "labels as low as -1"),
        ({"x": ONES * np.inf, "y": np.zeros(3, int)}, "not finite"),
        ({"x": np.full(3, 1e300), "y": np.zeros(3, int)}, "not finite"),
        ({"x": np.array(["a", "b", "c"]), "y": np.zeros(3, int)}, "x is of type <U1"),
        (
            {"x_train": np.ones((3, 5)), "y_train": np.zeros(3, int), "x_test": ONES, "y_test": np.zeros(3, int)},
            "[5] (train) and [2] (test)",
        ),
        ({"x": np.array([{}], object), "y": np.zeros(1, int)}, "plain arrays"),
    ],
    ids=lambda given: "" if isinstance(given, dict) else given,
)
def test_wrong_npz(tmp_path, arrays, says) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    assert says in refused(tmp_path / "d.npz")


def test_augmentation_is_for_images(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x=ONES, y=np.zeros(3, int))
    assert "augment=shift is for images" in refused(f"{tmp_path / 'd.npz'}?augment=shift")


# -- images in folders ---------------------------------------------------------------------------------------------


def paint(file: Path, colour: tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


@pytest.fixture
def images(tmp_path) -> Path:
    """Red cats and blue dogs of 6x4 pixels; 20 of each for training and 2 for testing."""
    for split, count in (("train", 20), ("test", 2)):
        for k in range(count):
            paint(tmp_path / "p" / split / "cat" / f"{k:02}.png", (200 + k, 0, 0))
            paint(tmp_path / "p" / split / "dog" / f"{k:02}.png", (0, 0, 200 + k))
    (tmp_path / "p" / "train" / "dog" / "notes.txt").write_text("no image")
    return tmp_path / "p"


def checked(data: Data) -> None:
    assert data.test.shape == (3, 4, 6)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 4)
    assert np.bincount(data.val.y).tolist() == [2, 2]
    assert data.augment == "crop-flip"
    x, y = everything(data.test)
    red = (np.array([[200, 201], [0, 0]]).reshape(4) / 255 - 0.485) / 0.229
    blue = (np.array([[0, 0], [200, 201]]).reshape(4) / 255 - 0.406) / 0.225
    assert y.tolist() == [0, 0, 1, 1]
    assert x[:, 0] == pytest.approx(np.broadcast_to(red[:, None, None], (4, 4, 6)), abs=1e-5)
    assert x[:, 2] == pytest.approx(np.broadcast_to(blue[:, None, None], (4, 4, 6)), abs=1e-5)


def test_images_in_folders(images) -> None:
    data = load_data(f"imagefolder:{images}")
    checked(data)
    assert isinstance(data.train.x, np.ndarray)
    assert data.train.x.dtype == np.uint8


def test_images_that_do_not_fit_into_memory_are_read_when_asked_for(images, monkeypatch) -> None:
    in_memory = load_data(f"imagefolder:{images}?limit=9")
    monkeypatch.setattr(imagefolder, "IN_MEMORY", 100)
    on_disk = load_data(f"imagefolder:{images}?limit=9")
    checked(load_data(f"imagefolder:{images}"))
    assert not isinstance(on_disk.train.x, np.ndarray)
    for (x, y), (other_x, other_y) in zip(in_memory.train.batches(4), on_disk.train.batches(4), strict=True):
        assert np.array_equal(x, other_x)
        assert np.array_equal(y, other_y)


def test_validation_images_stand_in_for_a_test_split(images) -> None:
    (images / "test").rename(images / "val")
    data = load_data(f"imagefolder:{images}?val=10")
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 4)


def test_a_size_scales_the_shorter_side_and_cuts_the_centre(images) -> None:
    file = images / "train" / "cat" / "00.png"
    image = Image.effect_noise((40, 20), 80).convert("RGB")
    image.save(file)
    expected = image.resize((20, 10), Image.Resampling.BILINEAR).crop((5, 0, 15, 10))
    assert np.array_equal(decode(file, 10), np.asarray(expected).transpose(2, 0, 1))
    assert load_data(f"imagefolder:{images}?size=5&normalize=none").train.shape == (3, 5, 5)


def test_images_of_different_sizes_need_one(images) -> None:
    paint(images / "train" / "dog" / "07.png", (0, 0, 0), (9, 8))
    line = refused(f"imagefolder:{images}")
    assert "07.png has 9x8 pixels and the first image 6x4" in line
    assert "?size=" in line


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_broken_images_are_named(images, content) -> None:
    (images / "test" / "dog" / "01.png").write_bytes(content)
    assert "dog/01.png cannot be read as an image" in refused(f"imagefolder:{images}")


def test_truncated_images_are_named(images) -> None:
    file = images / "test" / "dog" / "01.png"
    Image.effect_noise((60, 60), 50).save(file)
    file.write_bytes(file.read_bytes()[:500])
    assert "dog/01.png cannot be read as an image" in refused(f"imagefolder:{images}?size=6")


def test_images_that_would_fill_the_memory_are_refused(images, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "cat/00.png cannot be read as an image" in refused(f"imagefolder:{images}")


def test_classes_must_agree(images) -> None:
    paint(images / "test" / "bird" / "0.png", (0, 0, 0))
    assert "train and test have different classes, such as 'bird'" in refused(f"imagefolder:{images}")


def test_folders_that_are_missing_or_empty(images, tmp_path) -> None:
    assert "needs folders train and test" in refused(f"imagefolder:{tmp_path / 'nowhere'}")
    (images / "train" / "empty").mkdir()
    assert "train/empty holds no images" in refused(f"imagefolder:{images}")
    (tmp_path / "bare" / "train").mkdir(parents=True)
    (tmp_path / "bare" / "test").mkdir()
    assert "train holds no folders" in refused(f"imagefolder:{tmp_path / 'bare'}")


# -- torchvision -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason="MNIST is not there")
def test_mnist() -> None:
    data = load_data(f"mnist:{SHARED}?val=5000&limit=10000&normalize=0.1307/0.3081")
    assert (len(data.train), len(data.val), len(data.test)) == (10_000, 5_000, 10_000)
    assert data.test.shape == (1, 28, 28)
    assert data.train.x.dtype == np.uint8
    assert data.augment == "none"
    shares = np.bincount(data.val.y) / 5000 - np.bincount(np.r_[data.train.y, data.val.y]) / 15_000
    assert np.abs(shares).max() < 0.01
    x = np.concatenate([x for x, _ in data.train.batches(1000)])
    assert x.mean() == pytest.approx(0, abs=0.01)
    assert x.std() == pytest.approx(1, abs=0.01)
    assert data.test.y[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize("kind", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_a_folder_without_the_data_is_named(tmp_path, kind) -> None:
    line = refused(f"{kind}:{tmp_path}")
    assert f"in {tmp_path}" in line
    assert "add ?download=1" in line
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch) -> None:
    import torchvision

    def offline(*_: object, **__: object) -> None:
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", offline)
    line = refused(f"cifar10:{tmp_path}?download=1")
    assert "name resolution" in line
    assert "copy its files there" in line


def test_pickles_in_place_of_cifar_are_not_opened(tmp_path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"cbuiltins\nexit\n(tR.")
    assert "no usable CIFAR10" in refused(f"cifar10:{tmp_path}")


def test_colour_images_of_torchvision_get_their_channels_first(tmp_path, monkeypatch) -> None:
    import torchvision

    pixels = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8)
    stub = SimpleNamespace(data=pixels, targets=list(range(10)) * 5)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", lambda *_, **__: stub)
    data = load_data(f"cifar10:{tmp_path}")
    expected = (pixels[:, :, :, 1].astype(np.float32) / 255 - 0.456) / 0.224
    assert everything(data.test)[0][:, 1] == pytest.approx(expected, abs=1e-5)
    assert data.augment == "crop-flip"
    assert len(data.val) == 5


# -- Python files ----------------------------------------------------------------------------------------------------


def python(tmp_path: Path, body: str) -> str:
    text = f"import numpy as np, torch\nfrom torch.utils.data import TensorDataset\ndef make():\n    {body}\n"
    (tmp_path / "mine.py").write_text(text)
    return f"{tmp_path / 'mine.py'}:make"


def test_arrays_tensors_and_data_sets_from_a_python_file(tmp_path) -> None:
    body = """return {
        "train": (np.ones((20, 3)), np.arange(20) % 2),
        "val": TensorDataset(torch.full((4, 3), 2.0), torch.arange(4)),
        "test": (torch.zeros(5, 3, dtype=torch.uint8), torch.arange(5)),
    }"""
    data = load_data(f"{python(tmp_path, body)}?limit=7")
    assert (len(data.train), len(data.val), len(data.test)) == (7, 4, 5)
    assert (everything(data.val)[0] == 2).all()
    assert data.val.y.tolist() == [0, 1, 2, 3]
    assert data.test.x.dtype == np.uint8


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("return [1, 2]", "it must return {"),
        ("return {'train': (np.ones(3), np.zeros(3, int))}", "returns train; it must return test"),
        ("return {'test': (np.ones(3), np.zeros(3, int)), 'extra': ([1], [1])}", "returns test, extra"),
        ("return {'test': (np.ones(3), np.zeros(4, int))}", "x has shape [3] and y [4]"),
        ("return {'test': 5}", "does not return pairs"),
    ],
)
def test_wrong_python_file(tmp_path, body, says) -> None:
    assert says in refused(python(tmp_path, body))


def test_missing_python_file_or_function(tmp_path) -> None:
    with pytest.raises(BadInput, match=r"mine\.py: no such file"):
        load_data(str(tmp_path / "mine.py:make"))
    assert "has no function other" in refused(python(tmp_path, "pass").replace(":make", ":other"))
