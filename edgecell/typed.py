"""JSON from a file as dataclasses: checked types, finite numbers, nothing unknown.

A file can be damaged, or changed by hand. Values read here have the types that the
dataclasses declare, so that no other code meets a NaN, a string for a number or a
control character that a terminal would obey.
"""

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_LARGEST = 2**63  # what SQLite and numpy take


def loads(text: str | bytes) -> Any:
    """Parses JSON strictly.

    Args:
        text: JSON, if bytes in UTF-8.

    Returns:
        The value. Its numbers are finite, its strings printable.

    Raises:
        ValueError: no JSON, or a value that Python's own parser lets pass: NaN,
            infinity, a number that no 64-bit type holds, a control character, or
            nesting without an end.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        _check(value)
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e
    return value


def build(kind: type[_T], value: object) -> _T:
    """Makes a dataclass from parsed JSON.

    Args:
        kind: a dataclass whose fields are str, int, float, bool, dicts with string
            keys, tuples, dataclasses, or one of these or None.
        value: what `loads` gave.

    Returns:
        An instance; fields that ``value`` lacks have their defaults.

    Raises:
        ValueError: a value of another type, a field without a default is missing, or
            a key is not a field.
    """
    return cast(_T, _build(kind, value, ""))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _check(value: object) -> None:
    if isinstance(value, str) and not value.isprintable():
        raise ValueError(f"{value[:20]!r} has a control character")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError("a number is too large")
    if isinstance(value, list):
        for item in value:
            _check(item)
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key)
            _check(item)


def _build(kind: Any, value: object, where: str) -> object:
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:  # X | None is the only union in use
        if value is None and NoneType in args:
            return None
        return _build(args[0], value, where)
    if is_dataclass(kind):
        return _dataclass(cast(type, kind), value, where)
    if origin is tuple:
        return _tuple(args, value, where)
    if kind is float and type(value) is int:
        return float(value)
    wanted = origin or kind
    if type(value) is not wanted:  # a bool is an int for isinstance
        raise ValueError(f"{where or 'it'} must be of type {wanted.__name__}")
    return value


def _tuple(args: tuple[Any, ...], value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list")
    kinds = (args[0],) * len(value) if args[-1] is Ellipsis else args
    if len(kinds) != len(value):
        raise ValueError(f"{where} must have {len(kinds)} values, not {len(value)}")
    return tuple(
        _build(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _dataclass(kind: type, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} must be an object")
    unknown = value.keys() - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    hints = get_type_hints(kind)
    made = {}
    for f in fields(kind):
        name = f"{where}.{f.name}" if where else f.name
        if f.name in value:
            made[f.name] = _build(hints[f.name], value[f.name], name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{name} is missing")
    return kind(**made)
