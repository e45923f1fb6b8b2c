"""What a group of operations has changed, saved in its transaction: few statements, sent together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tallystick.journal.copy_rows import END, SIGNATURE, TextArray
from tallystick.journal.counters import save_query
from tallystick.journal.database import Connection
from tallystick.journal.heads import COPY_ENTRIES, post
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_load import SQL
from tallystick.ledger.accounts import CREDIT_ACCOUNTS

_encode = msgspec.json.encode


def copy_entries(connection: Connection, rows: Sequence[bytes]) -> None:
    """Send the entries' rows."""
    with connection.cursor() as cursor, cursor.copy(COPY_ENTRIES) as stream:
        stream.write(b"".join((SIGNATURE, *rows, END)))


def save(connection: Connection, orgs: Iterable[OrgWork], now: datetime) -> None:
    """Save what has changed of these orgs.

    Everything is sent before anything is waited for. The caller commits.
    """
    changed = list(orgs)
    added = [org.org_id for org in changed if org.row.counted_through_seq is None]
    if added:
        connection.execute(SQL["add_states"], {"orgs": TextArray(added), "accounts": TextArray(CREDIT_ACCOUNTS)})
    post(connection, {org.org_id: org.head for org in changed if org.has_entries})
    _save_states(connection, changed)
    _move(connection, changed, now)
    _save_lots(connection, changed)
    _save_holds(connection, changed)
    _save_finished(connection, changed)
    _save_counters(connection, changed)


def _save_states(connection: Connection, changed: list[OrgWork]) -> None:
    states = []
    for org in changed:
        account, row = org.account, org.row
        terms = _encode(account.terms).decode() if account.terms_changed else row.state or "{}"
        counted = org.counted_through_seq if org.counters is None else org.head.seq
        states.append((org.org_id, counted, terms, _encode(org.progress).decode()))
    _execute(connection, "save_states", ("orgs", "counted", "states", "progresses"), states)


def _move(connection: Connection, changed: list[OrgWork], now: datetime) -> None:
    transfers, moved = [], []
    for org in changed:
        sums: dict[str, list[int]] = {}
        for seq, debit, credit, amount_pico in org.transfers:
            transfers.append((org.org_id, seq, debit, credit, amount_pico))
            sums.setdefault(debit, [0, 0])[0] += amount_pico
            sums.setdefault(credit, [0, 0])[1] += amount_pico
        moved += [(org.org_id, account, *amounts) for account, amounts in sorted(sums.items())]
    if transfers:
        parameters = _columns(("orgs", "seqs", "debits", "credits", "amounts"), transfers)
        parameters |= _columns(("moved_orgs", "accounts", "debited", "credited"), moved)
        connection.execute(SQL["move"], {**parameters, "recorded_at": now})


def _save_lots(connection: Connection, changed: list[OrgWork]) -> None:
    new: list[tuple[Any, ...]] = []
    saved: list[tuple[Any, ...]] = []
    for org in changed:
        wallet, first_seq = org.account.wallet, org.head.first_seq
        for seq in sorted(wallet.changed):
            lot = wallet.lots[seq]
            if seq < first_seq:
                saved.append((org.org_id, seq, lot.available_pico))
            else:
                terms = (lot.source, lot.priority, lot.granted_at, lot.expires_at)
                new.append((org.org_id, seq, *terms, lot.amount_pico, lot.available_pico))
    names = ("orgs", "seqs", "sources", "priorities", "granted", "expiries", "amounts", "available")
    _execute(connection, "add_lots", names, new)
    _execute(connection, "save_lots", ("orgs", "seqs", "available"), saved)


def _save_holds(connection: Connection, changed: list[OrgWork]) -> None:
    opened = [
        (org.org_id, seq, org.account.holds[seq].held.expires_at)
        for org in changed
        for seq in sorted(org.account.opened)
    ]
    closed = [(org.org_id, seq) for org in changed for seq in sorted(org.account.closed)]
    _execute(connection, "open", ("orgs", "seqs", "expiries"), opened)
    _execute(connection, "close", ("orgs", "seqs"), closed)


def _save_finished(connection: Connection, changed: list[OrgWork]) -> None:
    done = [
        (org.org_id, action, key, work.charged_at, work.seq)
        for org in changed
        for (action, key), work in org.account.newly_finished.items()
    ]
    _execute(connection, "finish", ("orgs", "actions", "work_keys", "charged", "seqs"), done)


def _save_counters(connection: Connection, changed: list[OrgWork]) -> None:
    added: list[tuple[str, str, datetime | None, int]] = []
    for org in changed:
        reserved = org.account.reserved_changes
        added += [(org.org_id, counter, None, amount) for counter, amount in reserved.items() if amount]
        if org.counters is not None:
            used = org.counters.added
            added += [(org.org_id, counter, start, amount) for (counter, start), amount in used.items() if amount]
    if added:
        connection.execute(*save_query(added))


def _execute(connection: Connection, query: str, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """One statement for all rows; none for no rows."""
    if rows:
        connection.execute(SQL[query], _columns(names, rows))


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Rows as a query's parameters: each column an array."""
    return {name: _array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _array(values: Sequence[Any]) -> Any:
    return TextArray(values) if isinstance(values[0], str) else list(values)
