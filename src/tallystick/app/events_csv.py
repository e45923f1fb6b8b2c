"""Rows of a CSV file as usage events: columns are mapped to fields, and what the file lacks is set.

A request id is made of the file's content and the row's number, so that the same file gives the same events:
taking them in again counts nothing twice.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from tallystick.core.errors import BadInput, Problems
from tallystick.usage.checks import check_event
from tallystick.usage.event import UsageEvent
from tallystick.usage.event_problems import FIELDS, MANDATORY
from tallystick.usage.meters import METER_NAME, METERS

CELL_CHARS_MAX = 1 << 16
_TABLES = ("attributes", "price_context")
_PLACE = re.compile(r"\{([^{}]+)\}")
_NUMBERED = re.compile(r"row(?:%([1-9][0-9]*))?")
_INTEGER = re.compile(r"-?[0-9]{1,100}")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, opened with errors="surrogateescape"
_INTEGER_FIELDS = ("latency_ms", "provider_cost_pico")
_ZONE = re.compile(r"(?:[zZ]|[+-][0-9]{2}:?[0-9]{2})$")


@dataclass(frozen=True, slots=True)
class CsvEvent:
    """One row: its line in the file, and the event it gives or what is wrong with it."""

    line: int
    event: UsageEvent | BadInput


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a row becomes an event.

    Attributes:
        columns: target → column. A target is a field of an event, a meter, or `attributes.NAME`,
            `price_context.NAME`.
        constants: target → text, in which `{row}` is the row's number from 1, `{row%50}` that number modulo
            50, and `{COLUMN}` the row's value in a column.
    """

    columns: Mapping[str, str]
    constants: Mapping[str, str]


def check_recipe(recipe: Recipe, header: list[str]) -> None:
    """Check the recipe against the file's first line.

    Raises:
        Problems: `invalid_recipe`: unknown targets or columns, mandatory fields that nothing gives.
    """
    problems = []
    for target in (*recipe.columns, *recipe.constants):
        if not _is_target(target):
            problems.append(_bad("unknown_target", target, "it is neither a field nor the name of a meter"))
        if target in recipe.columns and target in recipe.constants:
            problems.append(_bad("target_given_twice", target, "it is both mapped and set"))
    templated = [name for text in recipe.constants.values() for name in _PLACE.findall(text)]
    for column in (*recipe.columns.values(), *(name for name in templated if not _NUMBERED.fullmatch(name))):
        if column not in header:
            problems.append(_bad("unknown_column", column, f"the file's columns are {', '.join(header)}"))
        elif header.count(column) > 1:
            problems.append(_bad("ambiguous_column", column, "the file has several columns of this name"))
    given = {*recipe.columns, *recipe.constants, "request_id"}
    missing = [name for name in MANDATORY if name not in given and name != "meters"]
    problems += [_bad("missing_field", name, "it is mandatory, and nothing gives it") for name in missing]
    if not any(target not in FIELDS and "." not in target for target in given):
        problems.append(_bad("missing_field", "meters", "no meter is mapped or set"))
    if problems:
        raise Problems(
            "invalid_recipe",
            problems,
            next_step="use --map TARGET=COLUMN for what the file has, --set TARGET=TEXT else",
        )


def _is_target(target: str) -> bool:
    table, _, name = target.partition(".")
    if name:
        return table in _TABLES
    return (target in FIELDS and target not in ("meters", *_TABLES)) or METER_NAME.fullmatch(target) is not None


def events_of_csv(text: TextIO, recipe: Recipe, *, file_sha256: str, now: datetime) -> Iterator[CsvEvent]:
    """The events of a CSV file whose first line names its columns, row by row; memory does not grow with it.

    Times without a zone are UTC. Meters besides the built-in ones are taken as declared by a contract.

    Args:
        text: the file, opened with `newline=""` and `errors="surrogateescape"`: a byte that is not UTF-8 costs
            its own row only.
        recipe: how a row becomes an event.
        file_sha256: the hash of the file's content, in hex; the request ids begin with it.
        now: the present instant; an event may not lie ahead of it.

    Raises:
        Problems: `invalid_recipe`.
        BadInput: `empty_file`; `invalid_utf8` in the header; `invalid_csv` where the file cannot be read further.
    """
    csv.field_size_limit(CELL_CHARS_MAX)
    rows = csv.reader(text, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if not header:
            raise BadInput("empty_file", "the file has no first line", next_step="give a CSV file with a header")
        if not all(map(_is_utf8, header)):
            raise _unreadable("invalid_utf8", 1, "the header is not UTF-8")
        check_recipe(recipe, header)
        meters = frozenset(METERS) | recipe.columns.keys() | recipe.constants.keys()
        for number, row in enumerate((row for row in rows if row), 1):
            yield CsvEvent(rows.line_num, _event(recipe, header, row, number, file_sha256, now, meters))
    except csv.Error as error:
        raise _unreadable("invalid_csv", rows.line_num, str(error)) from None


def sha256_of(chunks: Iterator[bytes]) -> str:
    """SHA-256, in hex, of a file read in chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _event(
    recipe: Recipe,
    header: list[str],
    row: list[str],
    number: int,
    file_sha256: str,
    now: datetime,
    meters: frozenset[str],
) -> UsageEvent | BadInput:
    if len(row) != len(header):
        return _bad("wrong_column_count", "", f"the row has {len(row)} values, the header {len(header)}")
    for column, cell in zip(header, row, strict=True):
        if not _is_utf8(cell):
            return _bad("invalid_utf8", column, "the cell is not UTF-8")
    cells = dict(zip(header, row, strict=True))
    raw: dict[str, object] = {"request_id": f"csv-{file_sha256[:16]}-{number}"}
    counted: dict[str, object] = {}
    tables: dict[str, dict[str, str]] = {}
    for target, column in recipe.columns.items():
        _put(target, cells[column].strip(), raw, counted, tables)
    for target, template in recipe.constants.items():
        _put(target, _PLACE.sub(lambda match: _filled(match[1], number, cells), template), raw, counted, tables)
    try:
        return check_event({**raw, **tables, "meters": counted}, now=now, known_meters=meters)
    except BadInput as error:
        return error


def _put(
    target: str, text: str, raw: dict[str, object], counted: dict[str, object], tables: dict[str, dict[str, str]]
) -> None:
    table, _, name = target.partition(".")
    if name:
        tables.setdefault(table, {})[name] = text
    elif target == "time":
        raw["time"] = _with_zone(text)
    elif target in FIELDS:
        if text:  # an empty cell is an absent value
            raw[target] = int(text) if target in _INTEGER_FIELDS and _INTEGER.fullmatch(text) else text
    else:
        counted[target] = int(text) if _INTEGER.fullmatch(text) else text


def _is_utf8(cell: str) -> bool:
    return cell.isascii() or _NOT_UTF8.search(cell) is None


def _with_zone(text: str) -> str:
    """The time with `T` and a zone; without one it is in UTC."""
    time = text.replace(" ", "T", 1)
    return time if _ZONE.search(time) else time + "Z"


def _filled(name: str, number: int, cells: Mapping[str, str]) -> str:
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return cells[name].strip()
    return str(number % int(match[1]) if match[1] else number)


def _bad(code: str, where: str, detail: str) -> BadInput:
    return BadInput(code, detail, next_step="mend the row, or the recipe", where=where or None)


def _unreadable(code: str, line: int, detail: str) -> BadInput:
    return BadInput(code, detail, next_step="mend the file there; rows before it were read", where=f"line {line}")
