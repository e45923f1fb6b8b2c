"""The prepared statements of operations, sent several at a time: what each takes, and what its rows are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

import msgspec

from tallystick.journal.copy_rows import instant_of
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.round_trips import ask, instants
from tallystick.ledger.entry import instant_json

_PREPARED = b";\n".join(
    query
    for name in ("operations", "counters")
    for query in load_queries(name).values()
    if b"\nprepare " in b"\n" + query
)
_prepared: WeakSet[Connection] = WeakSet()  # the sessions in which they are

_Read = Callable[[Any], Any]


def _text(value: bytes) -> str:
    return value.decode()


def _hex(value: bytes) -> bytes:
    return bytes.fromhex(value.decode())


def _instant(value: bytes) -> datetime:
    return instant_of(int(value))


_json = partial(msgspec.json.decode, type=dict[str, str])
_LOT: tuple[_Read, ...] = (_text, int, _text, int, _instant, _instant, int, int)
_HOLD: tuple[_Read, ...] = (_text, int, _text, _text, _hex, _text, b"t".__eq__)
_OPERATION: tuple[_Read, ...] = (
    int, int, _text, _text, _instant, _text, _text, _json, _hex, _hex, _hex, _text, int, _text,
)  # fmt: skip
_COLUMNS = MappingProxyType[str, tuple[_Read, ...]](
    {
        "lock_heads": (_text, int, int, int),
        "known": (_text,),
        "learned": (int,),
        "accounts": (_text, int, _text, _text, _text, _text, _text, _text, _text, int, _instant),
        "contract_text": (_text, _text),
        "contract_text_by_sha256": (_text, _text),
        "lots": _LOT,
        "lots_by_seq": _LOT,
        "holds": _HOLD,
        "ended_holds": _HOLD,
        "open_holds": _HOLD,
        "stored": _OPERATION,
        "resolutions": _OPERATION,
        "usage_of": (int, int, _instant, _hex, _hex, _hex, int, _text, _text, _text, int, int, int, int),
        "settlements": (_text, int, _text),
        "refunds": (_text, int, _text),
        "refunds_left": (_text, int, int),
        "claimed": (int,),
        "finished": (_text, _text, _text, _instant, int),
        "window_reached": (int,),
        "load_counters": (_text, _text, _instant, int),
    }
)
"""How the columns of each query are read; null is None."""


class Script:
    """Statements to be sent in one message; what they find is read by their names."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._parts: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self._names)

    def call(self, name: str, *parameters: bytes) -> None:
        """Add a prepared statement, with its parameters as literals."""
        self._names.append(name)
        given = b" (%b)" % b", ".join(parameters) if parameters else b""
        self._parts.append(b"execute tally_%b%b" % (name.encode(), given))

    def add(self, statement: bytes) -> None:
        """Add a statement that finds nothing."""
        self._names.append("")
        self._parts.append(statement)

    def text(self) -> bytes:
        """The statements as they are sent."""
        return b"; ".join(self._parts)

    def run(self, connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
        """Send them, and wait for what they find.

        Raises:
            psycopg.Error: the first one that failed.
        """
        prepare(connection)
        found: dict[str, list[tuple[Any, ...]]] = {}
        for name, result in zip(self._names, ask(connection, self.text()), strict=True):
            if (columns := _COLUMNS.get(name)) is not None:
                get = result.get_value
                found[name] = [
                    tuple(
                        [
                            None if (value := get(row, place)) is None else read(value)
                            for place, read in enumerate(columns)
                        ]
                    )
                    for row in range(result.ntuples)
                ]
        return found


def prepare(connection: Connection) -> None:
    """Have the session know the statements."""
    if connection not in _prepared:
        ask(connection, _PREPARED)
        _prepared.add(connection)


def text(value: str) -> bytes:
    """A literal of a text, which has no NUL."""
    return b"'%b'" % value.replace("'", "''").encode()


def instant(value: datetime) -> bytes:
    """A literal of an instant."""
    return b"'%b'" % instant_json(value).strip(b'"')


def instants_or_none(values: Iterable[datetime | None]) -> bytes:
    """A literal of an array of instants, some of which may be null."""
    return instants([b"null" if value is None else instant_json(value) for value in values])


def numbers_or_none(values: Sequence[int | None]) -> bytes:
    """A literal of an array of whole numbers, some of which may be null."""
    return f"'{{{','.join('null' if value is None else str(value) for value in values)}}}'".encode()
