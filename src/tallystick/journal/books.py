"""What the books are made of: transfers in their order and the balances of accounts, in one snapshot. An operator's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tallystick.billing.books import Balance, Moved
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("books")
_FETCH_ROWS = 5000


class Wanted(NamedTuple):
    """Which transfers: of an org or of all, with test orgs or without, recorded in [since, until)."""

    org: str | None
    tests: bool
    since: datetime | None
    until: datetime | None


class TransferRow(NamedTuple):
    """A transfer; `kind` is that of its entry, None where that has left the database."""

    org_id: str
    seq: int
    first_seq: int
    recorded_at: datetime
    kind: str | None
    moved: Moved


def stream_transfers(connection: Connection, wanted: Wanted) -> Iterator[TransferRow]:
    """Transfers in the order of orgs and entries; memory does not grow with their number."""
    for org_id, seq, first_seq, at, kind, debit, credit, asset, amount in _stream(
        connection, "books_transfers", wanted._asdict()
    ):
        moved = Moved(debit, credit, asset, int(amount))
        yield TransferRow(org_id, seq, first_seq, at.astimezone(UTC), kind, moved)


def stream_balances(connection: Connection, wanted: Wanted, before: datetime | None) -> Iterator[tuple[str, Balance]]:
    """What accounts had before an instant, by their transfers; without one what they have now, as it is kept.

    Yields:
        the org and the balance, in the order of orgs.
    """
    name = "books_balances" if before is None else "books_sums"
    parameters = {"org": wanted.org, "tests": wanted.tests, "before": before}
    for org_id, account, asset, pico in _stream(connection, name, parameters, f"of {before}"):
        yield org_id, Balance(account, asset, int(pico))


def test_orgs(connection: Connection, org_id: str | None) -> frozenset[str]:
    """Which orgs have clocks of their own."""
    return frozenset(org for (org,) in connection.execute(_SQL["books_tests"], {"org": org_id}))


def _stream(
    connection: Connection, query: str, parameters: dict[str, Any], name: str = ""
) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(f"{query} {name}") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL[query], parameters)
        yield from cursor
