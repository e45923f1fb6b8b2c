"""What a group of operations has changed, saved and committed: one message, and the entries' rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tallystick.journal.copy_rows import END, SIGNATURE
from tallystick.journal.database import Connection
from tallystick.journal.heads import COPY_ENTRIES
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_script import Script, instant, instants_or_none, prepare
from tallystick.journal.round_trips import ask, give_rows, instants, numbers, texts
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
    _add_lots(script, changed)
    script.call(
        "save",
        instant(now),
        *_heads(changed),
        *_moves(changed),
        *_states(changed),
        *_lots(changed),
        *_holds(changed),
        *_counters(changed),
    )
    _save_finished(script, changed)
    _save_settled(script, changed)
    script.add(b"commit")
    prepare(connection)
    ask(connection, script.text())
    if rows:
        reached("operations.copied")
        give_rows(connection, (b"".join((SIGNATURE, *rows, END)),))


def _heads(changed: list[OrgWork]) -> tuple[bytes, ...]:
    moved = [org for org in changed if org.has_entries]
    heads = [org.head for org in moved]
    return (
        texts([org.org_id for org in moved]),
        numbers([head.first_seq for head in heads]),
        numbers([head.seq for head in heads]),
        instants([head.time_max_json for head in heads]),
        numbers([head.amount_pico for head in heads]),
    )


def _moves(changed: list[OrgWork]) -> tuple[bytes, ...]:
    """Transfers of credits, and the balances that they move."""
    orgs: list[str] = []
    seqs: list[int] = []
    debits: list[str] = []
    credits: list[str] = []
    amounts: list[int] = []
    moved: list[tuple[str, str, int, int]] = []
    for org in changed:
        if not org.transfers:
            continue
        org_id = org.org_id
        debited: dict[str, int] = {}
        credited: dict[str, int] = {}
        for seq, debit, credit, amount_pico in org.transfers:
            orgs.append(org_id)
            seqs.append(seq)
            debits.append(debit)
            credits.append(credit)
            amounts.append(amount_pico)
            debited[debit] = debited.get(debit, 0) + amount_pico
            credited[credit] = credited.get(credit, 0) + amount_pico
        for account in debited.keys() | credited.keys():
            moved.append((org_id, account, debited.get(account, 0), credited.get(account, 0)))
    transfers = (texts(orgs), numbers(seqs), texts(debits), texts(credits), numbers(amounts))
    accounts, names, debits_pico, credits_pico = zip(*moved, strict=True) if moved else ((),) * 4
    return *transfers, texts(accounts), texts(names), numbers(debits_pico), numbers(credits_pico)


def _states(changed: list[OrgWork]) -> tuple[bytes, ...]:
    rows = [org.update_row() for org in changed]
    return (
        texts([row.org_id for row in rows]),
        numbers([row.counted_through_seq or 0 for row in rows]),
        texts([(org.row.state or "{}") if org.account.terms_changed else "" for org in changed]),
        texts([row.progress or "{}" for row in rows]),
    )


def _add_lots(script: Script, changed: list[OrgWork]) -> None:
    new: list[tuple[Any, ...]] = []
    for org in changed:
        lots, first_seq = org.account.wallet.lots, org.head.first_seq
        for seq in sorted(org.account.wallet.changed):
            if seq >= first_seq:
                lot = lots[seq]
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


def _lots(changed: list[OrgWork]) -> tuple[bytes, ...]:
    orgs: list[str] = []
    seqs: list[int] = []
    available: list[int] = []
    for org in changed:
        wallet, first_seq = org.account.wallet, org.head.first_seq
        for seq in wallet.changed:
            if seq < first_seq:
                orgs.append(org.org_id)
                seqs.append(seq)
                available.append(wallet.lots[seq].available_pico)
    return texts(orgs), numbers(seqs), numbers(available)


def _holds(changed: list[OrgWork]) -> tuple[bytes, ...]:
    orgs: list[str] = []
    seqs: list[int] = []
    expiries: list[datetime] = []
    closed_orgs: list[str] = []
    closed_seqs: list[int] = []
    for org in changed:
        account = org.account
        for seq in account.opened:
            orgs.append(org.org_id)
            seqs.append(seq)
            expiries.append(account.holds[seq].held.expires_at)
        for seq in account.closed:
            closed_orgs.append(org.org_id)
            closed_seqs.append(seq)
    return texts(orgs), numbers(seqs), instants_or_none(expiries), texts(closed_orgs), numbers(closed_seqs)


def _counters(changed: list[OrgWork]) -> tuple[bytes, ...]:
    orgs: list[str] = []
    counters: list[str] = []
    starts: list[datetime | None] = []
    amounts: list[int] = []
    for org in changed:
        for counter, amount in org.account.reserved_changes.items():
            if amount:
                orgs.append(org.org_id)
                counters.append(counter)
                starts.append(None)
                amounts.append(amount)
        if org.counters is not None:
            for (counter, start), amount in org.counters.added.items():
                if amount:
                    orgs.append(org.org_id)
                    counters.append(counter)
                    starts.append(start)
                    amounts.append(amount)
    return texts(orgs), texts(counters), instants_or_none(starts), numbers(amounts)


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
