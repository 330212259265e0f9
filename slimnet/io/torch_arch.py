"""`--arch`: from a spec such as `torchvision:resnet50?num_classes=10` to a module with random weights.

Everything here imports torch, and runs the code the spec names; specs that a file brings along are vetted first.
"""

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, existing_file
from slimnet.common.python_file import executed, importable

BUILT_IN = ("torchvision", "timm", "models")
FORMS = "torchvision:NAME, timm:NAME, models:NAME, FILE.py:CALLABLE or package.module:CALLABLE"
#: Keywords with which a built-in zoo fetches weights from elsewhere.
_FETCHING = ("pretrained", "pretrained_backbone", "weights", "weights_backbone")


def build(arch: str) -> nn.Module:
    """Build the network that a spec names, in eval mode; its random weights are the same every time.

    Args:
        arch: `torchvision:NAME`, `timm:NAME`, `models:NAME` (slimnet's own), `FILE.py:CALLABLE` or
            `package.module:CALLABLE`, each optionally followed by keyword arguments, `?num_classes=10&dropout=0.1`.
            Torchvision and timm networks are built without fetching weights unless a keyword asks for them.

    Returns:
        The module. Raises BadInput for a spec that cannot be understood, found, imported or called.
    """
    spec, _, query = arch.partition("?")
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise BadInput(f"`arch` {arch}: is not understood; use {FORMS}")
    keywords = _keywords(arch, query)
    is_file = where.endswith(".py")
    with torch.random.fork_rng(devices=[]), importable(Path(where).absolute().parent if is_file else Path.cwd()):
        torch.manual_seed(0)
        zoo, _, zoo_name = spec.partition(":")
        if zoo in BUILT_IN:
            make = {"torchvision": _torchvision, "timm": _timm, "models": _models}[zoo](arch, zoo_name)
        else:
            make = _named(executed(existing_file(where)) if is_file else _package(arch, where), name, arch)
        return _called(make, keywords, arch).eval()


def vet(arch: str, file: Path) -> str:
    """Accept a spec found inside a file if it can run nothing but the built-in zoos; raise BadInput if not."""
    spec, _, query = arch.partition("?")
    advice = "pass `arch` on the command line if you trust it"
    if spec.partition(":")[0] not in BUILT_IN or ":" not in spec:
        raise BadInput(f"{file}: names its architecture as {arch!r}, and only {', '.join(BUILT_IN)} count; {advice}")
    for key, value in _keywords(arch, query).items():
        if key in _FETCHING or not isinstance(value, bool | int | float | tuple | None):
            raise BadInput(f"{file}: its architecture {arch!r} sets {key}, which a file may not; {advice}")
    return arch


def zoo_inputs(arch: str) -> tuple[int, ...] | None:
    """The input shape that slimnet's own networks are made for; None for all others."""
    zoo, _, name = arch.partition("?")[0].partition(":")
    shape: tuple[int, ...] | None = _zoo().INPUTS.get(name) if zoo == "models" else None
    return shape


def _keywords(arch: str, query: str) -> dict[str, Any]:
    keywords = {}
    for item in filter(None, query.split("&")):
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise BadInput(f"`arch` {arch}: {item!r} is not KEYWORD=VALUE")
        try:
            keywords[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            keywords[key] = value  # a bare word is a string
    return keywords


def _called(make: Any, keywords: dict[str, Any], arch: str) -> nn.Module:
    if isinstance(make, nn.Module) and not keywords:
        return make
    try:
        module = make(**keywords)
    except Exception as error:
        raise BadInput(f"`arch` {arch}: building it fails with {type(error).__name__}: {essence(error)}") from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"`arch` {arch}: gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _torchvision(arch: str, name: str) -> Callable[..., Any]:
    models = _torchvision_package(arch).models
    if name not in models.list_models():
        raise BadInput(_unknown(arch, "torchvision", name, models.list_models()))
    builder = models.get_model_builder(name)
    defaults = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    # These two otherwise warn that the default of init_weights will change.
    special = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return lambda **keywords: builder(**{**defaults, **special, **keywords})


def _torchvision_package(arch: str) -> Any:
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name == "torchvision":
            raise BadInput(f"`arch` {arch}: torchvision is not installed; pip install torchvision") from error
        raise
    except (ImportError, RuntimeError, OSError) as error:
        version = importlib.metadata.version("torchvision")
        pair = "install both from one place, e.g. pip install --force-reinstall torch torchvision"
        cpu = "--index-url https://download.pytorch.org/whl/cpu"
        raise BadInput(
            f"`arch` {arch}: torchvision {version} does not work with torch {torch.__version__}, "
            f"they come from different builds ({essence(error)}); {pair} (without a GPU: add {cpu})"
        ) from error


def _timm(arch: str, name: str) -> Callable[..., Any]:
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name == "timm":
            raise BadInput(f"`arch` {arch}: timm is not installed; pip install timm") from error
        raise
    if not timm.is_model(name.partition(".")[0]):
        raise BadInput(_unknown(arch, "timm", name, timm.list_models()))
    return lambda **keywords: timm.create_model(name, **{"pretrained": False, **keywords})


def _models(arch: str, name: str) -> Any:
    zoo = _zoo()
    if name not in zoo.ZOO:
        raise BadInput(_unknown(arch, "models", name, zoo.ZOO))
    file, _, factory = zoo.ZOO[name].partition(":")
    return _named(executed(_zoo_folder() / file), factory, arch)


def _zoo() -> ModuleType:
    return executed(_zoo_folder() / "__init__.py")


def _zoo_folder() -> Path:
    """The reference networks: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def _unknown(arch: str, zoo: str, name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=3)
    return f"`arch` {arch}: {zoo} has no {name}" + (f"; did you mean {' or '.join(close)}?" if close else "")


def _package(arch: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise BadInput(f"`arch` {arch}: cannot import {name}: {essence(error)}; use {FORMS}") from error


def _named(module: ModuleType, name: str, arch: str) -> Any:
    if not callable(found := getattr(module, name, None)):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise BadInput(_unknown(arch, str(module.__file__), name, names))
    return found
