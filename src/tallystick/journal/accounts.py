"""Reading an org's account: its lots of credits, balances, open holds, and the operations that made them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.journal.counters import Progress
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.accounts import CREDIT_ASSET
from tallystick.ledger.entry import Entry
from tallystick.ledger.operations import GrantSource

_SQL = load_queries("accounts")


class GrantRow(NamedTuple):
    """A grant of which something is available; amounts are pico-credits."""

    seq: int
    source: GrantSource
    priority: int
    granted_at: datetime
    expires_at: datetime | None
    amount_pico: int
    available_pico: int


class Balance(NamedTuple):
    """What was debited and credited to an account, in pico-credits."""

    account: str
    debit_pico: int
    credit_pico: int


def one_moment(connection: Connection) -> None:
    """Have all that this transaction reads be of one moment; the first thing that it does."""
    connection.execute("set transaction isolation level repeatable read")


def available_lots(connection: Connection, org_id: str) -> list[GrantRow]:
    """The grants of which something is available, in the order in which they burn."""
    rows = connection.execute(_SQL["lots"], {"org": org_id})
    return [
        GrantRow(seq, source, priority, granted_at, expires_at, int(amount), int(available))
        for seq, source, priority, granted_at, expires_at, amount, available in rows
    ]


def credit_balances(connection: Connection, org_id: str) -> list[Balance]:
    """The org's accounts in credits."""
    rows = connection.execute(_SQL["balances"], {"org": org_id, "asset": CREDIT_ASSET})
    return [Balance(account, int(debit), int(credit)) for account, debit, credit in rows]


def open_holds(connection: Connection, org_id: str, *, after_seq: int = 0, limit: int) -> list[Entry]:
    """The entries of holds that nothing has resolved, oldest first."""
    return _entries(connection, "open_holds", {"org": org_id, "after": after_seq, "limit": limit})


def operations_after(connection: Connection, org_id: str, after_seq: int, limit: int) -> list[Entry]:
    """Operations with seq > `after_seq` that are in the database, oldest first."""
    return _entries(connection, "operations_after", {"org": org_id, "after": after_seq, "limit": limit})


def operations_before(connection: Connection, org_id: str, before_seq: int, limit: int) -> list[Entry]:
    """Operations with seq < `before_seq` that are in the database, newest first."""
    return _entries(connection, "operations_before", {"org": org_id, "before": before_seq, "limit": limit})


def claimed_by(connection: Connection, org_id: str, kind: str, request_id: str) -> int | None:
    """The entry that has claimed this request id, wherever it is now; None when none has. Denials claim none.

    Of entries that have left the database, the ids of grants and overrides stay claimed.
    """
    parameters = {"org": org_id, "kind": kind, "request_id": request_id}
    row = connection.execute(_SQL["operation"], parameters).fetchone()
    return None if row is None else int(row[0])


def entries_of(connection: Connection, org_id: str, seqs: list[int]) -> list[Entry]:
    """The entries at these places, as far as they are in the database."""
    return _entries(connection, "entries", {"org": org_id, "seqs": seqs})


def entries_referring(connection: Connection, org_id: str, seqs: list[int]) -> list[Entry]:
    """The entries in the database that refer to these."""
    return _entries(connection, "referring", {"org": org_id, "seqs": seqs})


def first_kept_seq(connection: Connection, org_id: str) -> int:
    """From which entry on the org's are in the database: those before have left it for blocks."""
    row = connection.execute(_SQL["first_kept"], {"org": org_id}).fetchone()
    return int(row[0]) if row else 1


def org_state_text(connection: Connection, org_id: str) -> str | None:
    """The text of `org_states.state`; None when the org was never asked about."""
    row = connection.execute(_SQL["state"], {"org": org_id}).fetchone()
    return None if row is None else str(row[0])


def counted_windows(connection: Connection, org_id: str) -> dict[str, datetime]:
    """By the length of windows, the start of the one that the counters are of."""
    row = connection.execute(_SQL["progress"], {"org": org_id}).fetchone()
    return {} if row is None else msgspec.json.decode(row[0], type=Progress).starts


def counters_of(
    connection: Connection, org_id: str, names: Iterable[tuple[str, datetime | None]]
) -> dict[tuple[str, datetime | None], int]:
    """What these counters have, by name and start of the window (None: what open holds reserve); nothing of nothing."""
    counters, starts = zip(*names, strict=True)
    parameters = {"org": org_id, "counters": list(counters), "starts": list(starts)}
    return {(name, start): int(used) for name, start, used in connection.execute(_SQL["counters"], parameters)}


def largest_spenders(
    connection: Connection, org_id: str, prefix: str, start: datetime | None, limit: int
) -> list[tuple[str, int]]:
    """Of counters that begin with `prefix` (it ends in `:`) the rest of the name and what each has, largest first."""
    parameters = {"org": org_id, "prefix": prefix, "end": f"{prefix[:-1]};", "start": start, "limit": limit}
    return [(subject, int(used)) for subject, used in connection.execute(_SQL["spenders"], parameters)]


def _entries(connection: Connection, query: str, parameters: dict[str, Any]) -> list[Entry]:
    return [Entry._make(row) for row in connection.execute(_SQL[query], parameters, binary=True)]
