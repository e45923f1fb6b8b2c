"""What a group of operations has changed, saved and committed: one message, and the entries' rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tallystick.journal.copy_rows import END, SIGNATURE
from tallystick.journal.counters import save_counters
from tallystick.journal.database import Connection
from tallystick.journal.heads import COPY_ENTRIES, post_script
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_load import places
from tallystick.journal.operations_script import Script, instant, instants_or_none, prepare
from tallystick.journal.round_trips import ask, give_rows, numbers, texts
from tallystick.journal.steps import reached
from tallystick.ledger.accounts import CREDIT_ACCOUNTS


def save(connection: Connection, orgs: Iterable[OrgWork], rows: Sequence[bytes], now: datetime) -> None:
    """Append the entries, save what has changed of these orgs, and commit.

    Raises:
        psycopg.Error: it is not known whether it is committed.
    """
    changed = list(orgs)
    script = Script()
    if rows:
        script.add(COPY_ENTRIES)
    added = [org.org_id for org in changed if org.row.counted_through_seq is None]
    if added:
        script.call("add_states", texts(added), texts(CREDIT_ACCOUNTS))
    heads = {org.org_id: org.head for org in changed if org.has_entries}
    if heads:
        script.add(post_script(heads))
    _save_states(script, changed)
    _move(script, changed, now)
    _save_lots(script, changed)
    _save_holds(script, changed)
    _save_finished(script, changed)
    _save_settled(script, changed)
    _save_counters(script, changed)
    script.add(b"commit")
    prepare(connection)
    ask(connection, script.text())
    if rows:
        reached("operations.copied")
        give_rows(connection, (b"".join((SIGNATURE, *rows, END)),))


def _save_states(script: Script, changed: list[OrgWork]) -> None:
    states = []
    for org in changed:
        row = org.update_row()
        state = (row.state or "{}") if org.account.terms_changed else ""
        states.append((row.org_id, row.counted_through_seq or 0, state, row.progress or "{}"))
    orgs, cursors, said, progresses = zip(*states, strict=True)
    script.call("save_states", texts(orgs), numbers(cursors), texts(said), texts(progresses))


def _move(script: Script, changed: list[OrgWork], now: datetime) -> None:
    transfers, moved = [], []
    for org in changed:
        sums: dict[str, list[int]] = {}
        for seq, debit, credit, amount_pico in org.transfers:
            transfers.append((org.org_id, seq, debit, credit, amount_pico))
            sums.setdefault(debit, [0, 0])[0] += amount_pico
            sums.setdefault(credit, [0, 0])[1] += amount_pico
        moved += [(org.org_id, account, *amounts) for account, amounts in sorted(sums.items())]
    if transfers:
        orgs, seqs, debits, credits, amounts = zip(*transfers, strict=True)
        moved_orgs, accounts, debited, credited = zip(*moved, strict=True)
        script.call(
            "move",
            instant(now),
            texts(orgs),
            numbers(seqs),
            texts(debits),
            texts(credits),
            numbers(amounts),
            texts(moved_orgs),
            texts(accounts),
            numbers(debited),
            numbers(credited),
        )


def _save_lots(script: Script, changed: list[OrgWork]) -> None:
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
    if new:
        orgs, seqs, sources, priorities, granted, expiries, amounts, available = zip(*new, strict=True)
        script.call(
            "add_lots",
            texts(orgs),
            numbers(seqs),
            texts(sources),
            numbers(priorities),
            instants_or_none(granted),
            instants_or_none(expiries),
            numbers(amounts),
            numbers(available),
        )
    if saved:
        orgs, seqs, available = zip(*saved, strict=True)
        script.call("save_lots", texts(orgs), numbers(seqs), numbers(available))


def _save_holds(script: Script, changed: list[OrgWork]) -> None:
    opened = [
        (org.org_id, seq, org.account.holds[seq].held.expires_at)
        for org in changed
        for seq in sorted(org.account.opened)
    ]
    closed = [(org.org_id, seq) for org in changed for seq in sorted(org.account.closed)]
    if opened:
        orgs, seqs, expiries = zip(*opened, strict=True)
        script.call("open", texts(orgs), numbers(seqs), instants_or_none(expiries))
    if closed:
        script.call("close", *places(closed))


def _save_finished(script: Script, changed: list[OrgWork]) -> None:
    done = [
        (org.org_id, action, key, work.charged_at, work.seq)
        for org in changed
        for (action, key), work in org.account.newly_finished.items()
    ]
    if done:
        orgs, actions, keys, charged, seqs = zip(*done, strict=True)
        script.call("finish", texts(orgs), texts(actions), texts(keys), instants_or_none(charged), numbers(seqs))


def _save_settled(script: Script, changed: list[OrgWork]) -> None:
    settled = [(org.org_id, *claim) for org in changed for claim in org.settled]
    if settled:
        orgs, seqs, settlements = zip(*settled, strict=True)
        script.call("settle", texts(orgs), numbers(seqs), numbers(settlements))


def _save_counters(script: Script, changed: list[OrgWork]) -> None:
    added: list[tuple[str, str, datetime | None, int]] = []
    for org in changed:
        reserved = org.account.reserved_changes
        added += [(org.org_id, counter, None, amount) for counter, amount in reserved.items() if amount]
        if org.counters is not None:
            used = org.counters.added
            added += [(org.org_id, counter, start, amount) for (counter, start), amount in used.items() if amount]
    if added:
        save_counters(script, added)
