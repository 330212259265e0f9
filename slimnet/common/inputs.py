"""What `--input` says: names, shapes and element types of a network's inputs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slimnet.common.errors import BadInput

DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "bool"),
    *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"),
)

#: The shape of a tensor without axes, as users write it.
SCALAR = "scalar"

Shape = Sequence[int]


@dataclass(frozen=True)
class Input:
    """One input: `name` is None for a positional one, `dtype` None where the network decides."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str | None = None

    def __str__(self) -> str:
        name = f"{self.name}=" if self.name else ""
        return f"{name}{sizes(self.shape)}" + (f":{self.dtype}" if self.dtype else "")


Inputs = str | Mapping[str, "Shape | str"] | Shape | Iterable["str | Input"] | None


def parse_inputs(given: Inputs) -> list[Input]:
    """Inputs in any form a user may give them in.

    Args:
        given: One spec such as "1x3x224x224", "ids=1x16", "ids=1x16:int64" or "flag=scalar", several of them, one shape
            such as (1, 3, 224, 224), or shapes by name, {"ids": (1, 16)} or {"ids": "1x16:int64"}. None means that
            nothing is known.

    Returns:
        One `Input` for each. Raises BadInput, naming the spec, where it cannot be understood.
    """
    if given is None:
        return []
    if isinstance(given, str):
        return [parse_input(given)]
    if isinstance(given, Mapping):
        inputs = [
            parse_input(f"{name}={shape}") if isinstance(shape, str) else Input(name, _shape(name, shape))
            for name, shape in given.items()
        ]
    else:
        items = list(given)
        if items and all(isinstance(item, int) for item in items):
            return [Input(None, _shape("the input", items))]  # type: ignore[arg-type]
        inputs = [item if isinstance(item, Input) else parse_input(item) for item in items]  # type: ignore[arg-type]
    _check_names(inputs)
    return inputs


def parse_input(spec: str) -> Input:
    """One spec, `[NAME=]1x3x224x224[:DTYPE]` or `[NAME=]scalar[:DTYPE]`; a name may itself contain '=', ':' and '/'."""
    name, _, rest = spec.rpartition("=")
    size, _, dtype = rest.partition(":")
    if not re.fullmatch(rf"{SCALAR}|\d{{1,18}}([x,]\d{{1,18}})*", size):
        advice = "write 1x3x224x224, name=1x16, name=1x16:int64 or name=scalar"
        raise BadInput(f"`inputs` {spec}: is not a shape; {advice}")
    if dtype and dtype not in DTYPES:
        raise BadInput(f"`inputs` {spec}: {dtype} is not a type; use one of {', '.join(DTYPES)}")
    shape = () if size == SCALAR else _shape(spec, [int(n) for n in re.split("[x,]", size)])
    return Input(name or None, shape, dtype or None)


def sizes(shape: Iterable[object]) -> str:
    """A shape as users write it: 1x3x224x224, or scalar."""
    return "x".join(str(n) for n in shape) or SCALAR


def specs(inputs: Mapping[str, Iterable[object]]) -> list[str]:
    """Inputs as `--input` has them: ["x=1x3x224x224"]."""
    return [f"{name}={sizes(shape)}" for name, shape in inputs.items()]


def _shape(what: str, shape: Shape) -> tuple[int, ...]:
    if any(n < 1 for n in shape):
        raise BadInput(f"`inputs` {what}: the shape {sizes(shape)} is empty; every size must be at least 1")
    return tuple(shape)


def _check_names(inputs: list[Input]) -> None:
    names = [i.name for i in inputs]
    if None in names and any(names):
        raise BadInput(f"`inputs` {inputs[names.index(None)]}: has no name while others have; name all of them or none")
    for name in names:
        if name and names.count(name) > 1:
            raise BadInput(f"`inputs` {name}: is given twice; give each input once")
