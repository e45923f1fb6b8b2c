"""A provider's export as text: pages of JSON, one after another in whatever way they were put together, or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any, NoReturn

from tallystick.core.errors import BadInput
from tallystick.core.json_text import without_bom
from tallystick.reconcile.values import Row

_CELL_CHARS_MAX = 1 << 17


@dataclass(frozen=True, slots=True)
class Bucket:
    """A time of an export: its own members, and what is said of it, each with its place."""

    place: str
    members: Row
    results: tuple[tuple[str, Row], ...]


@dataclass(slots=True)
class Table:
    """A file: buckets of JSON, or lines of CSV (None where it is JSON).

    Attributes:
        more: whether the last page says that there are more, which are not here.
    """

    buckets: list[Bucket] = field(default_factory=list)
    lines: list[tuple[str, Row]] | None = None
    more: bool = False


def read_table(data: bytes, name: str) -> Table:
    """Read a file; `name` is what messages call it.

    Raises:
        BadInput: `invalid_utf8`, `malformed_json`, `duplicate_key`, `invalid_export`.
    """
    try:
        text = without_bom(data).decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            "invalid_utf8",
            f"byte {error.start + 1} is not UTF-8",
            next_step="give the file as the provider made it; CSV that a spreadsheet has saved must be UTF-8",
            where=name,
        ) from None
    if not text.strip():
        _refuse(name, "it is empty")
    table = Table()
    if text.lstrip()[0] not in "[{":
        table.lines = list(_csv_rows(text, name))
        return table
    pages = chain.from_iterable(one if isinstance(one, list) else [one] for one in _values(text, name))
    for number, page in enumerate(pages, 1):
        _take_page(table, page, f"{name}, page {number}")
    return table


def _values(text: str, name: str) -> Iterator[Any]:
    """Every JSON value of the text: one, one a line, or one after another."""
    decoder = json.JSONDecoder(
        parse_float=Decimal,
        parse_constant=lambda word: _refuse(name, f"{word} is no number"),
        object_pairs_hook=_unique,
    )
    place = 0
    while True:
        while place < len(text) and text[place] in " \t\r\n,\x1e":
            place += 1
        if place == len(text):
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except _Twice as error:
            raise BadInput("duplicate_key", str(error), next_step="say it once", where=name) from None
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, place) + 1
            raise BadInput(
                "malformed_json",
                f"what begins in line {line} is not JSON: {str(error)[:200]}",
                next_step="give the file as the provider made it",
                where=name,
            ) from None
        yield value


class _Twice(ValueError):
    """An object names a member twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice("an object has a member more than once")
    return found


def _take_page(table: Table, page: Any, place: str) -> None:
    if not isinstance(page, dict):
        _refuse(place, "it is no object")
    if "data" not in page:
        table.buckets.append(_bucket(page, place))
        return
    if not isinstance(page["data"], list):
        _refuse(place, "its data are no list")
    table.more = page.get("has_more") is True
    for number, bucket in enumerate(page["data"], 1):
        table.buckets.append(_bucket(bucket, f"{place}, bucket {number}"))


def _bucket(bucket: Any, place: str) -> Bucket:
    """A bucket with its results; an object that has none is a result by itself."""
    if not isinstance(bucket, dict):
        _refuse(place, "it is no object")
    results = bucket.get("results", bucket.get("result"))
    if results is None:
        return Bucket(place, bucket, ((place, bucket),))
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        _refuse(place, "its results are no list of objects")
    placed = tuple((f"{place}, result {number}", one) for number, one in enumerate(results, 1))
    return Bucket(place, bucket, placed)


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, Row]]:
    if len(max(text.split("\n"), key=len)) > _CELL_CHARS_MAX:
        _refuse(name, "a line of it is longer than any that an export has")
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip().lower() for cell in cells]
                if len(set(header)) < len(header):
                    _refuse(name, "two columns have one name")
                continue
            place = f"{name}, line {reader.line_num}"
            if len(cells) != len(header):
                _refuse(place, f"it has {len(cells)} cells, and there are {len(header)} columns")
            yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        _refuse(f"{name}, line {reader.line_num}", f"it is not CSV: {error}")
    if header is None:
        _refuse(name, "it is empty")


def _refuse(where: str, what: str) -> NoReturn:
    raise BadInput(
        "invalid_export", what, next_step="give the file as the provider made it: docs/reconcile.md", where=where
    )
