from pathlib import Path

import pytest

from slimnet.common.errors import BadInput
from slimnet.common.files import check_writable, essence, existing_file, replacing


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.onnx: no such file") as caught:
        existing_file(tmp_path / "gone.onnx")
    assert caught.value.exit_code == 2


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        existing_file(tmp_path)


def test_writable_folder_need_not_exist_and_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file/out: cannot be written to .* choose another output folder"):
        check_writable(tmp_path / "file" / "out")


def test_replacing_moves_everything_once_done(tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.bin"
    with replacing(target) as temporary:
        temporary.write_text("new")
        temporary.with_name("a.bin.data").write_text("more")
        assert not target.exists()
    assert target.read_text() == "new"
    assert sorted(f.name for f in target.parent.iterdir()) == ["a.bin", "a.bin.data"]


def test_replacing_leaves_the_old_file_when_the_work_fails(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text(f"half {1 // 0}")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_failing_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a\.bin: cannot be written \(.*No space left"), replacing(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")


def test_essence_is_one_short_line() -> None:
    assert essence(ValueError("\n  first line\nsecond")) == "first line"
    assert essence(ValueError()) == "ValueError"
    assert len(essence(ValueError("x" * 1000))) < 210
    assert essence(PermissionError(13, "Permission denied", "/tmp/.slim.onnx.x7f2")) == "Permission denied"
