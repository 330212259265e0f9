"""Dataclasses from JSON and back, checked against their annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")

#: No count of anything comes near: a larger number is a broken file, and too large to compute with.
_LARGEST = 1 << 63
_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


class Mismatch(ValueError):
    """A value is not what its schema says; the text names its key and what is wrong with it."""


def to_json(value: Any) -> Any:
    """Dataclasses, mappings, sequences and numpy scalars as what a JSON document holds; numbers stay exact.

    Raises:
        TypeError: JSON has no such value.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    if getattr(value, "shape", None) == ():  # a numpy scalar: this package reads reports without numpy
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong in a report")


def from_json(schema: type[T], content: Any) -> T:
    """The dataclass that a JSON object describes; keys that it does not know are left out.

    Raises:
        Mismatch: A key is missing or has a value of another type.
    """
    found: T = _read(schema, content, "")
    return found


def _read(kind: Any, value: Any, key: str) -> Any:
    """A value as the type of an annotation; `key` is the way to it from the top, such as "groups[2].after"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:
        (other,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _read(other, value, key)
    if origin is list:
        return [_read(arguments[0], item, f"{key}[{k}]") for k, item in enumerate(_typed(list, value, key))]
    if origin is dict:
        return {name: _read(arguments[1], item, _join(key, name)) for name, item in _object(value, key).items()}
    if is_typeddict(kind):
        hints = _hints(kind)
        return {name: _read(hints.get(name, Any), item, _join(key, name)) for name, item in _object(value, key).items()}
    if dataclasses.is_dataclass(kind):
        return _read_object(kind, _object(value, key), key)
    return _typed(kind, value, key)


def _read_object(kind: Any, value: Mapping[str, Any], key: str) -> Any:
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in value:
            raise Mismatch(f"{_join(key, field.name)} is missing")
    known = [field.name for field in dataclasses.fields(kind) if field.name in value]
    return kind(**{name: _read(hints[name], value[name], _join(key, name)) for name in known})


def _object(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Mismatch(f"{key or 'it'} is not an object")
    return value


def _typed(kind: type, value: Any, key: str) -> Any:
    fits = isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits or (isinstance(value, int) and abs(value) >= _LARGEST):
        raise Mismatch(f"{key} is not {_NAMES[kind]}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The annotations of a class."""
    return get_type_hints(kind)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
