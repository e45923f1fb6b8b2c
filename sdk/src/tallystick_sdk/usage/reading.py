"""Reading an answer, whether it is decoded JSON or an object of a client library, and the quantities in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from tallystick_sdk.errors import BadRequest

QUANTITY_MAX: Final = 10**12
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FILTER: Final = re.compile(r"(\w+)\[(\w+)=(\w+)\]")


class UsageUnreadable(BadRequest):
    """An answer's usage is missing, or cannot be."""


def part(value: Any, name: str) -> Any:
    """A member of an object, by its name in JSON; client libraries may have it in snake case. None without one."""
    if isinstance(value, Mapping):
        found = value.get(name)
        return found if found is not None or (snake := _snake(name)) == name else value.get(snake)
    if value is None or isinstance(value, (str, bytes, int, float, list, tuple)):
        return None
    found = getattr(value, name, None)
    return found if found is not None or (snake := _snake(name)) == name else getattr(value, snake, None)


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path; `list[name=WORD]` is the first item of a list whose member is that word."""
    for step in path.split("."):
        match = _FILTER.fullmatch(step)
        if match is None:
            value = part(value, step)
        else:
            items = items_of(part(value, match[1]))
            value = next((item for item in items if word(part(item, match[2])) == match[3].lower()), None)
        if value is None:
            return None
    return value


def items_of(value: Any) -> Sequence[Any]:
    """The items of a list; none of anything else."""
    return value if isinstance(value, (list, tuple)) else ()


def text(value: Any) -> str | None:
    """Text that is not empty; also an enumeration's."""
    value = getattr(value, "value", value)
    return value if isinstance(value, str) and value else None


def word(value: Any) -> str:
    """A word in small letters; "" where there is none."""
    return (text(value) or "").strip().lower()[:64]


def quantity(value: Any, path: str) -> int:
    """A whole number.

    Raises:
        UsageUnreadable: `invalid_quantity`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= QUANTITY_MAX:
        raise UsageUnreadable("invalid_quantity", f"{value!r:.80} is no quantity", where=path)
    return value


@lru_cache(256)
def _snake(name: str) -> str:
    return _HUMP.sub("_", name).lower()
