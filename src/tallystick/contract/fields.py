"""Reading typed values out of the tree, and collecting every problem instead of stopping at the first.

A reader is a function of a `Place`; it returns a value or raises `BadInput`. `Fields` runs readers over
the entries of one mapping: what a reader raises is written down with its line, and a stand-in takes the
value's place, so that reading goes on. No stand-in leaves the loader: it raises when anything was noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from fractions import Fraction
from typing import TypeVar

from tallystick.contract.document import NEXT_STEP, Node, Scalar, Sequence, Table
from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant
from tallystick.core.money import parse_decimal

T = TypeVar("T")
D = TypeVar("D")

TEXT_MAX = 500
LIST_MAX = 1000
NAMED_MAX = 20
OPTIONS_MAX = 200
DURATION_SECONDS_MAX = 36_525 * 86_400
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*(_[0-9]+)*)")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,18})?")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NULL = ("", "~", "null", "Null", "NULL")


def one_of(options: Collection[str]) -> str:
    """The options as a list for a person; of many, the first ones."""
    more = f" and {len(options) - NAMED_MAX} more" if len(options) > NAMED_MAX else ""
    return (", ".join(sorted(options)[:NAMED_MAX]) or "none") + more


def did_you_mean(word: str, options: Collection[str]) -> str:
    """A suffix that names the closest option, empty when none is close."""
    if len(options) > OPTIONS_MAX:  # each comparison costs, and thousands of slips would meet thousands of names
        return ""
    close = get_close_matches(word, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True, slots=True)
class Place:
    """One value of the file: where it stands, its path of keys, and where problems are written down."""

    file: str
    path: str
    line: int
    node: Node
    problems: list[BadInput]

    def refusal(self, code: str, detail: str, line: int | None = None) -> BadInput:
        """An error that names this place."""
        where = f"{self.file}:{line or self.line}"
        return BadInput(code, detail, next_step=NEXT_STEP, where=f"{where}: {self.path}" if self.path else where)

    def note(self, code: str, detail: str) -> None:
        """Write a problem of this place down, and go on."""
        self.problems.append(self.refusal(code, detail))

    @property
    def is_null(self) -> bool:
        """Whether nothing stands here."""
        return isinstance(self.node, Scalar) and not self.node.quoted and self.node.text in _NULL

    def scalar(self, wanted: str) -> Scalar:
        """The single value here; `wanted` says in an error what should stand here."""
        if not isinstance(self.node, Scalar) or self.is_null:
            found = "nothing" if self.is_null else "a list" if isinstance(self.node, Sequence) else "a mapping"
            raise self.refusal("wrong_type", f"{wanted} is due here, not {found}")
        return self.node

    def text(self) -> str:
        """Text for a person: not empty, not too long."""
        value = self.scalar("a text").text.strip()
        if not 0 < len(value) <= TEXT_MAX:
            raise self.refusal("invalid_text", f"a text of 1 to {TEXT_MAX} characters is due here")
        return value

    def name(self) -> str:
        """A name that commands and the ledger can spell."""
        return self.check_name(self.scalar("a name").text)

    def check_name(self, value: str) -> str:
        """The value, which must be a name."""
        if not _NAME.fullmatch(value):
            rule = "a name has 1 to 63 letters, digits and . _ + - and begins with a letter or a digit"
            raise self.refusal("invalid_name", f"{value[:80]!r} is not a name: {rule}")
        return value

    def choice(self, options: Collection[str]) -> str:
        """One of the options."""
        value = self.scalar(f"one of {one_of(options)}").text
        if value not in options:
            raise self.refusal(
                "unknown_value", f"{value[:80]!r} is not one of {one_of(options)}{did_you_mean(value, options)}"
            )
        return value

    def flag(self) -> bool:
        """`true` or `false`, and no other spelling of them."""
        value = self.scalar("true or false")
        if value.quoted or value.text not in ("true", "false"):
            raise self.refusal("wrong_type", f"{value.text[:80]!r} is neither true nor false")
        return value.text == "true"

    def integer(self, least: int = 0) -> int:
        """A whole number of at least `least`; underscores may group its digits."""
        value = self.scalar("a whole number")
        if value.quoted or not _INTEGER.fullmatch(value.text) or len(value.text) > 30:
            raise self.refusal("invalid_integer", f"{value.text[:80]!r} is not a whole number such as 1_000_000")
        number = int(value.text)
        if number < least:
            raise self.refusal("too_small", f"{value.text} is less than {least}")
        return number

    def decimal(self, *, positive: bool = False) -> Fraction:
        """An exact decimal that is not negative: quoted ("0.10"), or a whole number.

        A bare 0.10 is refused: other readers of the file would make a float of it.
        """
        value = self.scalar('a decimal string such as "0.10"')
        text = value.text
        if not value.quoted and not _INTEGER.fullmatch(text):
            hint = f'; write it in quotes: "{text}"' if _DECIMAL.fullmatch(text) else ""
            raise self.refusal("invalid_decimal", f"{text[:80]} is not a decimal string{hint}")
        digits = text if value.quoted else text.replace("_", "")
        if not _DECIMAL.fullmatch(digits):
            rule = "digits, with at most 15 before the point and 18 after it"
            raise self.refusal("invalid_decimal", f"{text[:80]!r} is not a decimal number: {rule}")
        number = parse_decimal(digits)
        if number < 0:
            raise self.refusal("negative_amount", f"{value.text} is negative; amounts and quantities here never are")
        if positive and number == 0:
            raise self.refusal("too_small", "zero is not possible here; it must be more")
        return number

    def share(self) -> Fraction:
        """A share between 0 and 1, quoted or bare."""
        value = self.scalar("a share between 0 and 1")
        if not _DECIMAL.fullmatch(value.text) or not 0 <= parse_decimal(value.text) <= 1:
            raise self.refusal("invalid_share", f"{value.text[:80]} is not a share between 0 and 1")
        return parse_decimal(value.text)

    def instant(self) -> datetime:
        """An instant, RFC 3339 with a zone; a bare date is midnight UTC."""
        value = self.scalar("an instant such as 2026-10-01T00:00:00Z").text
        try:
            return parse_instant(value)
        except BadInput as error:
            raise self.refusal(error.code, f"{error.detail}; {error.next_step}") from None

    def duration(self) -> timedelta:
        """A length of time of at most a century: a whole number and s, m, h, d or w."""
        value = self.scalar("a duration such as 30d").text
        match = _DURATION.fullmatch(value)
        if match is None:
            rule = "write a whole number and s, m, h, d or w, such as 30d or 12h"
            raise self.refusal("invalid_duration", f"{value[:80]!r} is not a duration; {rule}")
        value_seconds = int(match[1]) * _SECONDS[match[2]]
        if value_seconds > DURATION_SECONDS_MAX:  # dates end somewhere, and nothing here is meant for centuries
            raise self.refusal("invalid_duration", f"{value} is longer than 100 years")
        return timedelta(seconds=value_seconds)

    def sequence(self, read: Callable[[Place], T], least: int = 0) -> tuple[T, ...]:
        """A list of `least` items or more, each read by `read`; those that cannot be read are noted and left out."""
        if not isinstance(self.node, Sequence):
            raise self.refusal("wrong_type", "a list is due here")
        if len(self.node.items) < least:
            raise self.refusal("missing_value", f"at least {least} is due in this list")
        if len(self.node.items) > LIST_MAX:
            raise self.refusal("too_long", f"the list has more than {LIST_MAX} items")
        values: list[T] = []
        for index, item in enumerate(self.node.items):
            place = Place(self.file, f"{self.path}[{index}]", item.line, item, self.problems)
            try:
                values.append(read(place))
            except BadInput as error:
                self.problems.append(error)
        return tuple(values)

    def table(self, read: Callable[[str, Place], T]) -> dict[str, T]:
        """A mapping whose names the contract chooses; each entry is read by `read(name, place)`."""
        values: dict[str, T] = {}
        for name in self._table().entries:
            place = self.child(name)
            try:
                values[name] = read(name, place)
            except BadInput as error:
                self.problems.append(error)
        return values

    def fields(self, *known: str) -> Fields:
        """A mapping whose names are known; every other name is noted as a problem."""
        table = self._table()
        for name, node in table.entries.items():
            if name not in known:
                place = Place(self.file, f"{self.path}.{name}".lstrip("."), table.key_lines[name], node, self.problems)
                hint = did_you_mean(name, known) or f"; known here: {one_of(known)}"
                place.note("unknown_key", f"there is no such key{hint}")
        return Fields(self, frozenset(table.entries))

    def child(self, name: str) -> Place:
        """The place of that entry of the mapping here."""
        table = self._table()
        path = f"{self.path}.{name}".lstrip(".")
        return Place(self.file, path, table.key_lines[name], table.entries[name], self.problems)

    def has(self, name: str) -> bool:
        """Whether a mapping with that entry stands here."""
        return isinstance(self.node, Table) and name in self.node.entries

    def _table(self) -> Table:
        if not isinstance(self.node, Table):
            raise self.refusal("wrong_type", "a mapping of names to values is due here")
        return self.node


@dataclass(frozen=True, slots=True)
class Fields:
    """The entries of one mapping, read one by one."""

    place: Place
    given: frozenset[str]

    def get(self, name: str, read: Callable[[Place], T], default: D) -> T | D:
        """What `read` makes of the entry; `default` when it is absent, or noted as a problem."""
        if name not in self.given:
            return default
        try:
            return read(self.place.child(name))
        except BadInput as error:
            self.place.problems.append(error)
            return default

    def need(self, name: str, read: Callable[[Place], T], stand_in: D) -> T | D:
        """As `get`, but an absent entry is a problem."""
        if name not in self.given:
            self.place.note("missing_key", f"{name!r} is missing")
            return stand_in
        return self.get(name, read, stand_in)

    def at(self, name: str) -> Place:
        """The place of that entry, or of the mapping when it is absent."""
        return self.place.child(name) if name in self.given else self.place
