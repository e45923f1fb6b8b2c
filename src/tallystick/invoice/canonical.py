"""Canonical JSON: one value has exactly one byte form, so that a hash of it can be checked by anyone.

The form is RFC 8785 (JCS) restricted to what an invoice holds: objects, arrays, strings, integers, booleans
and null. Keys are ASCII and sorted, there is no white space, text is UTF-8 and escaped only where JSON
demands it. Numbers that are not whole never appear: amounts and quantities are decimal strings.
"""

from __future__ import annotations

import json
from typing import Any

INTEGER_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 7493); larger ones travel as strings."""


def canonical_json(value: Any) -> bytes:
    """The one byte form of `value`.

    Raises:
        TypeError: the value holds a float, an object whose keys are not ASCII text, or another type
            that JSON has no exact form for.
        ValueError: an integer is beyond ±(2**53 - 1).
    """
    _check(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _check(value: Any) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise ValueError(f"{value} is too large for a JSON integer; write it as a string")
        return
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise TypeError(f"{key!r} cannot be a key of canonical JSON")
            _check(member)
        return
    if isinstance(value, list | tuple):
        for member in value:
            _check(member)
        return
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")
