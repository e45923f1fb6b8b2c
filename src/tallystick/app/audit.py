"""The audit trail: every administrative act, listed, shown and exported.

An act is written in its own transaction, by whoever does it, as `record_act`. What is done to accounts and invoices is
an entry of the org's ledger; its act is written with the entry, and says of it what the entry's request says.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant
from tallystick.invoice.tables import text_cell
from tallystick.journal.audit import (
    ActRow,
    acts_after,
    find_act,
    record_act,
    record_acts,
    record_entries,
    said_before,
)
from tallystick.ledger.acts import Act

__all__ = [
    "ACT_COLUMNS",
    "PAGE_ACTS_MAX",
    "Act",
    "ActPage",
    "Wanted",
    "acts_csv",
    "iterate_acts",
    "list_acts",
    "newest_acts",
    "record_act",
    "record_acts",
    "record_entries",
    "show_act",
]

PAGE_ACTS_MAX = 1000
_AT_ONCE = 5000
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, tzinfo=UTC)
ACT_COLUMNS = (
    "act_id", "at", "org_id", "act", "subject", "entry_seq", "actor_kind", "actor", "via", "request_id", "author",
    "reason", "before", "after",
)  # fmt: skip


class Wanted(NamedTuple):
    """Which acts.

    Attributes:
        begin, until: recorded in this half-open time; None for from the beginning, and up to now.
        org_id: of this org; None for all, and for those that are about none.
        act: of this name, or whose name begins with it and a dot: `key` for `key.create`.
        actor: of this key's id or login name, or which name this author.
        subject: on this.
    """

    begin: datetime | None = None
    until: datetime | None = None
    org_id: str | None = None
    act: str | None = None
    actor: str | None = None
    subject: str | None = None


class ActPage(NamedTuple):
    """Acts, the oldest first, as members named by `ACT_COLUMNS`; and the cursor of those after them, if there are."""

    acts: list[dict[str, Any]]
    next_cursor: str | None


def list_acts(runtime: Runtime, wanted: Wanted, *, cursor: str | None = None, limit: int = 100) -> ActPage:
    """A page of the trail.

    Args:
        cursor: `next_cursor` of the page before; None for the first page.

    Raises:
        BadInput: `invalid_cursor`, `invalid_period`.
        Unavailable: `database_unreachable`.
    """
    _check_time(wanted)
    with runtime.database.operator() as connection:
        place = _BEGINNING, 0
        if cursor is not None:
            named = _find(connection, cursor)
            if named is None:
                raise BadInput(
                    "invalid_cursor",
                    f"{cursor[:60]!r} is no cursor of this list",
                    next_step="use the next_cursor of the page before, or none for the first page",
                    where="cursor",
                )
            place = named.at, named.n
        rows = _page(connection, wanted, place, limit + 1)
    shown = [_members(row) for row in rows[:limit]]
    return ActPage(shown, shown[-1]["act_id"] if len(rows) > limit else None)


def iterate_acts(runtime: Runtime, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """All of them, the oldest first; some thousands are in memory at a time.

    Raises:
        BadInput: `invalid_period`.
        Unavailable: `database_unreachable`.
    """
    _check_time(wanted)
    place = _BEGINNING, 0
    while True:
        with runtime.database.operator() as connection:
            rows = _page(connection, wanted, place, _AT_ONCE)
        yield from map(_members, rows)
        if len(rows) < _AT_ONCE:
            return
        place = rows[-1].at, rows[-1].n


def newest_acts(runtime: Runtime, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """The last ones, the oldest of them first.

    Raises:
        BadInput: `invalid_period`.
        Unavailable: `database_unreachable`.
    """
    _check_time(wanted)
    with runtime.database.operator() as connection:
        return [_members(row) for row in reversed(_page(connection, wanted, None, limit))]


def show_act(runtime: Runtime, act_id: str) -> dict[str, Any]:
    """One act, with what was said of the same thing before it where the act itself does not tell.

    Raises:
        NotFound: `unknown_act`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() as connection:
        row = _find(connection, act_id)
        if row is None:
            raise NotFound(
                "unknown_act",
                f"there is no act {act_id[:60]!r}",
                next_step="`tally audit list` has the ids of acts; they are numbers",
                where="ACT_ID",
            )
        if row.before is None and row.act in ("budget", "standing"):
            before = said_before(connection, row, by_subject=row.act == "budget")
            row = row._replace(before=before)
    return _members(row)


def acts_csv(acts: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The lines of a CSV file, the first with the names of the columns; `before` and `after` are JSON."""
    yield _line(ACT_COLUMNS)
    for act in acts:
        yield _line([_cell(act[name]) for name in ACT_COLUMNS])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return text_cell(value) if isinstance(value, str) else str(value)


def _line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _check_time(wanted: Wanted) -> None:
    if wanted.begin is not None and wanted.until is not None and wanted.begin >= wanted.until:
        raise BadInput(
            "invalid_period",
            f"the time ends at {format_instant(wanted.until)}, before it begins",
            next_step="let --to come after --from",
            where="to",
        )


def _page(connection: Any, wanted: Wanted, place: tuple[datetime, int] | None, limit: int) -> list[ActRow]:
    return acts_after(
        connection,
        place=place,
        begin=wanted.begin or _BEGINNING,
        until=wanted.until or _END,
        limit=limit,
        org_id=wanted.org_id,
        act=wanted.act,
        actor=wanted.actor,
        subject=wanted.subject,
    )


def _find(connection: Any, act_id: str) -> ActRow | None:
    if not (act_id.isascii() and act_id.isdigit() and 0 < int(act_id[:20]) < 2**63):
        return None
    return find_act(connection, int(act_id[:20]))


def _members(row: ActRow) -> dict[str, Any]:
    return {
        "act_id": str(row.n),
        "at": format_instant(row.at),
        "org_id": row.org_id,
        "act": row.act,
        "subject": row.subject,
        "entry_seq": row.seq,
        "actor_kind": row.actor_kind,
        "actor": row.actor,
        "via": row.via,
        "request_id": row.request_id,
        "author": row.author,
        "reason": row.reason,
        "before": None if row.before is None else msgspec.json.decode(row.before),
        "after": None if row.after is None else msgspec.json.decode(row.after),
    }
