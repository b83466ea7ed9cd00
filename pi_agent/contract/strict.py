"""Turn untrusted mappings into frozen dataclasses: unknown keys, missing keys and wrong types are one-line errors."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Mismatch(ValueError):
    """A mapping does not fit its dataclass; the text names the key."""


def build(cls: type[T], data: object, where: str = "") -> T:
    """Build dataclass `cls` from a mapping, checking every key and type. Raises `Mismatch`."""
    if not isinstance(data, Mapping):
        raise Mismatch(f"{where or cls.__name__}: a table of keys is expected")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            suggestion = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(fields)}"
            raise Mismatch(f"unknown key {_join(where, str(key))!r}{suggestion}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Mismatch(f"missing key {_join(where, name)!r}")
    try:
        return cls(**values)
    except ValueError as exc:
        raise Mismatch(f"{where or cls.__name__}: {exc}") from exc


def as_mapping(value: object) -> Any:
    """The reverse of `build`: plain dicts and lists, ready for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [as_mapping(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): as_mapping(v) for k, v in value.items()}
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: object, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [o for o in get_args(hint) if o is not type(None)]
        if value is None and len(options) < len(get_args(hint)):
            return None
        return _convert(options[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise Mismatch(f"{where!r}: a list is expected")
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return tuple(_convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(inner):
            raise Mismatch(f"{where!r}: {len(inner)} entries are expected")
        return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(inner, value, strict=True)))
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise Mismatch(f"{where!r}: a table of keys is expected")
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    return _SCALARS[hint](value, where) if hint in _SCALARS else value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"{where!r}: a text is expected, not {value!r}")
    return value


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Mismatch(f"{where!r}: a whole number is expected, not {value!r}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise Mismatch(f"{where!r}: a finite number is expected, not {value!r}")
    return float(value)


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise Mismatch(f"{where!r}: true or false is expected, not {value!r}")
    return value


_SCALARS: dict[Any, Callable[[object, str], Any]] = {str: _string, int: _integer, float: _number, bool: _boolean}
