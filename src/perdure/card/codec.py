"""Frozen records ↔ JSON, by their annotations. What is read may come from anybody, so nothing is taken on trust."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from perdure.card.numbers import LIMIT, plain
from perdure.errors import InvalidInput

T = TypeVar("T")

MAX_TEXT = 20_000  # characters; a citation is the longest
MAX_ITEMS = 10_000
_NOT_IN_JSON = ("nan", "inf", "-inf")


def to_document(value: Any) -> Any:
    """A record as JSON knows it; fields that hold their defaults are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: to_document(item) for field, item in fields if item != _default(field)}
    if isinstance(value, Mapping):
        return {name: to_document(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_document(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    number = plain(value)
    return str(number) if isinstance(number, float) and not math.isfinite(number) else number


def from_document(record: type[T], document: object) -> T:
    """The record of which this is the document. Keys that it does not have are passed over.

    Raises:
        InvalidInput: It is no document of such a record.
    """
    found: T = _read(record, document, record.__name__)
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value, where)
    if origin in (Union, UnionType):
        return _read_union(inner, value, where)
    if origin is Literal:
        _check(isinstance(value, str) and value in inner, where)
        return value
    if origin is tuple:
        _check(isinstance(value, list) and len(value) <= MAX_ITEMS, where)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        _check(len(kinds) == len(value), where)
        return tuple(_read(one, item, f"{where}[{n}]") for n, (one, item) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None:  # a mapping, whose names are text
        _check(isinstance(value, dict) and len(value) <= MAX_ITEMS, where)
        _check(all(len(name) <= MAX_TEXT for name in value), where)
        return {name: _read(inner[1], item, f"{where}.{name[:80]}") for name, item in value.items()}
    return _read_scalar(kind, value, where)


def _read_record(record: Any, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), where)
    hints = _hints(record)
    known = {name: _read(hints[name], item, f"{where}.{name}") for name, item in value.items() if name in hints}
    try:
        return record(**known)
    except TypeError as error:  # a field that has no default is missing
        raise _refusal(where) from error


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Of what is optional, the one kind that it otherwise is; of scalars, the one that the value is of."""
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        return _read(others[0], value, where)
    _check(type(value) in others, where)
    return _read(type(value), value, where)


def _read_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is str and value in _NOT_IN_JSON:
        return float(value)
    _check(type(value) is kind or (kind is float and type(value) is int), where)
    _check(not isinstance(value, str) or len(value) <= MAX_TEXT, where)
    _check(not isinstance(value, (int, float)) or abs(value) < LIMIT or not isinstance(value, int), where)
    return value


def _check(holds: bool, where: str) -> None:
    if not holds:
        raise _refusal(where)


def _refusal(where: str) -> InvalidInput:
    return InvalidInput(f"These are no facts for a card: {where[:200]!r} is missing something, or of another type.")
