"""From decoded JSON to the dataclasses of `results`, by their annotations."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from typing import Any, TypeVar, cast

from tallystick_sdk.errors import UnexpectedAnswer

T = TypeVar("T")
_Read = Callable[[Any], Any]


def decode(kind: type[T], value: Any) -> T:
    """A value of that dataclass; a member named `raw` is the whole object.

    Raises:
        UnexpectedAnswer: `unexpected_answer`, when a member is missing or of another kind.
    """
    try:
        read: T = _reader(cast(Any, kind))(value)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise UnexpectedAnswer(
            "unexpected_answer",
            f"the answer is no {kind.__name__}: {type(error).__name__} {error}",
            next_step="see whether base_url is a Tallystick server, and whether this library is as new as it",
        ) from error
    return read


@cache
def _reader(kind: Any) -> _Read:
    if dataclasses.is_dataclass(kind):
        return _object_reader(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        (inner,) = (one for one in arguments if one is not type(None))
        read = _reader(inner)
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        read_item = _reader(arguments[0])
        return lambda value: tuple(read_item(item) for item in _checked(list, value))
    plain = {datetime: _instant, Decimal: _decimal}.get(kind)
    return plain or partial(_checked, kind if kind in (str, int, bool) else Mapping)


def _object_reader(kind: Any) -> _Read:
    hints = typing.get_type_hints(kind)
    fields = [(one.name, _reader(hints[one.name]), _is_optional(one)) for one in dataclasses.fields(kind)]

    def read(value: Any) -> Any:
        members = _checked(Mapping, value)
        found = {
            name: read_member(members[name]) for name, read_member, optional in fields
            if name != "raw" and not (optional and name not in members)
        }  # fmt: skip
        if "raw" in hints:
            found["raw"] = members
        return kind(**found)

    return read


def _is_optional(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _checked(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r:.80} is no {kind.__name__}")
    return value


def _instant(value: Any) -> datetime:
    found = datetime.fromisoformat(_checked(str, value))
    return found.astimezone(UTC)


def _decimal(value: Any) -> Decimal:
    return Decimal(_checked(str, value))
