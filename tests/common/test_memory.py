"""What memory holds is asked before anything large is made."""

import pytest

from slimnet.common import memory
from slimnet.common.errors import BadInput
from slimnet.common.memory import check_size


def test_what_fits_passes(monkeypatch):
    monkeypatch.setattr(memory, "memory", lambda: 1600)
    check_size((10, 10), "x")
    check_size((), "x")
    check_size((0, 10**30), "x")
    with pytest.raises(BadInput, match=r"x has 10x11 elements: working on them takes 0 GiB"):
        check_size((10, 11), "x")


def test_a_container_has_what_it_is_allowed(tmp_path):
    machine = memory.memory(str(tmp_path / "missing"))
    for content, expected in (("max\n", machine), ("4096\n", 4096), (str(1 << 60), machine)):
        limit = tmp_path / f"limit{content.strip()}"
        limit.write_text(content)
        assert memory.memory(str(limit)) == expected
