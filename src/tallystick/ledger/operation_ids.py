"""The ids by which operations are called outside: a letter and the place in the org's sequence, as in `h1042`."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Literal

from tallystick.core.errors import BadInput

IdKind = Literal[
    "hold",
    "settlement",
    "grant",
    "override",
    "refund",
    "release",
    "expiry",
    "denial",
    "budget",
    "standing",
    "adjustment",
    "invoice",
    "payment",
    "credit_note",
    "void",
    "dispute",
    "invoice_credit",
    "promo",
]

LETTERS = MappingProxyType[str, str](
    {
        "hold": "h",
        "settlement": "s",
        "grant": "g",
        "override": "o",
        "refund": "f",
        "release": "r",
        "expiry": "x",
        "denial": "d",
        "budget": "b",
        "standing": "t",
        "adjustment": "a",
        "invoice": "i",
        "payment": "p",
        "credit_note": "c",
        "void": "v",
        "dispute": "q",
        "invoice_credit": "k",
        "promo": "m",
    }
)
"""The first character of an id, by the kind of the entry."""

_PLACE = re.compile("[1-9][0-9]{0,18}")
_SEQ_MAX = 2**63 - 1


def operation_id(kind: str, seq: int) -> str:
    """The id of an entry: `operation_id("hold", 1042) == "h1042"`."""
    return f"{LETTERS[kind]}{seq}"


def parse_operation_id(kind: IdKind, text: object, *, where: str) -> int:
    """The sequence number that an id holds.

    Raises:
        BadInput: `invalid_id`.
    """
    letter = LETTERS[kind]
    if isinstance(text, str) and text[:1] == letter and _PLACE.fullmatch(text[1:]) and int(text[1:]) <= _SEQ_MAX:
        return int(text[1:])
    raise BadInput(
        "invalid_id",
        f"{text!r:.60} is not the id of a {kind}",
        next_step=f"send the id as it was answered, such as {letter}1042",
        where=where,
    )
