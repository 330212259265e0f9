"""Fixtures that several folders of tests share, and the machine that all of them plan for."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, settings

from slimnet.runtime import machine
from tests.networks.graphs import from_text
from tests.networks.named import conv_net

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

#: Blocks of the fast layout that processors have.
BLOCKS = (8, 16)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--block", type=int, choices=BLOCKS, default=16, help="channels in a block of the machine planned for"
    )


@pytest.fixture(scope="session", autouse=True)
def planned_for(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same machine everywhere: what is planned never depends on the processor that the tests run on."""
    size = request.config.getoption("--block")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "native_block", lambda: size)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_cache() -> Iterator[None]:
    """Nothing that was exported before is used, and nothing is left in the folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMNET_CACHE", "")
        yield


@pytest.fixture(params=BLOCKS, ids="block{}".format)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Channels in a block of the machine planned for: a test that depends on it runs with each there is."""
    size: int = request.param
    monkeypatch.setattr(machine, "native_block", lambda: size)
    return size


@pytest.fixture
def imported() -> Callable[..., set[str]]:
    """Names of everything a run of the command line imports, in a process of its own."""
    script = (
        "import sys; from slimnet.cli import main; sys.argv = ['slimnet', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )

    def run(*words: object) -> set[str]:
        done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return set(done.stderr.split())

    return run


@pytest.fixture
def text() -> Callable[..., ir.Model]:
    return from_text


@pytest.fixture
def net() -> Callable[..., ir.Model]:
    return conv_net


@pytest.fixture
def image() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16), dtype=np.float32)}
