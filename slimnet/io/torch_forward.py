"""Run a module on inputs given by name or position, and say which submodule an error came from."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.common.inputs import Input
from slimnet.common.memory import check_size
from slimnet.common.torch_private import tensors_in
from slimnet.io.torch_outputs import plain

Arguments = tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]


class ForwardFailed(Exception):
    """`forward` raised; the message names the innermost submodule and the reason."""


def example_arguments(module: nn.Module, inputs: Sequence[Input], batch: int | None = None) -> Arguments:
    """Positional and keyword arguments of the given shapes; floats are random, integers are ones.

    `batch` replaces the first size of all of them. Raises BadInput where `forward` does not take such arguments.
    """
    parameter = next(module.parameters(), torch.empty(0))
    tensors = [_example(i, parameter, batch) for i in inputs]
    args = tuple(t for i, t in zip(inputs, tensors, strict=True) if i.name is None)
    kwargs = {i.name: t for i, t in zip(inputs, tensors, strict=True) if i.name is not None}
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        takes = f"forward{signature.replace(return_annotation=inspect.Signature.empty)}"
        raise BadInput(f"`inputs`: {essence(error)} of {type(module).__name__}.{takes}") from error
    return args, kwargs


def forward(module: nn.Module, args: Sequence[torch.Tensor], kwargs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The output tensors of a module in the order of the outputs of its graph. Raises ForwardFailed."""
    return tensors_in(plain(run(module, args, kwargs)))


def run(module: nn.Module, args: Sequence[torch.Tensor], kwargs: Mapping[str, torch.Tensor]) -> Any:
    """What a module returns. Raises ForwardFailed."""
    running: list[str] = []

    def enter(name: str) -> Any:
        return lambda *_: running.append(name)

    def leave(*_: Any) -> None:
        running.pop()

    handles = []
    for name, child in module.named_modules():
        handles += [child.register_forward_pre_hook(enter(name)), child.register_forward_hook(leave)]
    try:
        with torch.no_grad():
            return module(*args, **kwargs)
    except Exception as error:
        name = running[-1] if running else ""
        raise ForwardFailed(f"{described(module, name)} raises {type(error).__name__}: {essence(error)}") from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in eval mode, and leave every part of it in the mode it was in."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in one thread, for what is run once: its threads would wait for each other where others work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def described(module: nn.Module, name: str) -> str:
    """How a message names a submodule: `features.3 (Linear)`, or the network's own class."""
    child = type(module.get_submodule(name)).__name__
    return f"{name} ({child})" if name else f"{child}.forward itself"


def _example(spec: Input, parameter: torch.Tensor, batch: int | None) -> torch.Tensor:
    dtype = getattr(torch, spec.dtype) if spec.dtype else _float_dtype(parameter)
    shape = spec.shape if batch is None else (batch, *spec.shape[1:])
    check_size(shape, f"`inputs` {spec}")
    if dtype.is_floating_point:
        return torch.rand(shape, dtype=torch.float32, device=parameter.device).to(dtype)
    return torch.ones(shape, dtype=dtype, device=parameter.device)


def _float_dtype(parameter: torch.Tensor) -> torch.dtype:
    return parameter.dtype if parameter.is_floating_point() else torch.float32
