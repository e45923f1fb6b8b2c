"""Reading what a group of operations is decided from: one round trip or two, whatever the group's size.

The first locks the heads and asks for what the operations name; the second for what that refers to: lots that holds
came from, what has resolved a hold, the counters of limits and budgets. Contracts are kept: a version never changes.
So are orgs, as the last group has left them (`operations_kept`): most of what a group needs is in memory already, and
when it turns out under the lock that somebody else has written to an org since, it is read after all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.journal.counters import Counting, Progress, catch_up, load_counters
from tallystick.journal.database import Connection
from tallystick.journal.heads import add_heads, heads_of, prepare_heads
from tallystick.journal.operations_asked import Asked, included_id, included_month
from tallystick.journal.operations_counted import add_counters, by_org, what_to_count
from tallystick.journal.operations_first import First, ask_about, ask_for, looked_for
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_kept import KeptOrgs
from tallystick.journal.operations_load import (
    HoldCache,
    OrgRow,
    Place,
    StoredOperation,
    columns,
    finished_of,
    lots_of,
    places,
    resolution_of,
)
from tallystick.journal.operations_script import Script, text
from tallystick.journal.round_trips import texts
from tallystick.journal.usage_found import FoundUsage, NamedUsage, found_usage
from tallystick.journal.writer import stored_core
from tallystick.ledger.operations import Operation
from tallystick.ledger.org_account import OpenHold, OrgAccount
from tallystick.ledger.wallet import GrantedLot, Wallet

_CONTRACTS_KEPT = 2000
_HINTS_KEPT = 100_000
_read_progress = msgspec.json.Decoder(Progress).decode


class Found(NamedTuple):
    """What was read.

    Attributes:
        orgs: those whose heads are locked.
        stored: operations that are stored already, by org, kind and request id.
        claimed: those that were, and have left the database.
        resolutions: what has resolved holds that are named and not open, by the hold.
        usage: usage that is stored already, by org and request id, as far as it was looked for.
        cores: of usage whose personal data was erased, the rest of the fact, to be compared.
        contracts: by the hash of their content, those in force and those that loaded holds were decided under.
        is_probed: whether all usage that is named was looked for.
        learned: where the register stands.
        now: the instant of the group.
    """

    orgs: dict[str, OrgWork]
    stored: dict[tuple[str, str, str], StoredOperation]
    claimed: set[tuple[str, str, str]]
    resolutions: dict[Place, StoredOperation]
    usage: dict[tuple[str, str], FoundUsage]
    cores: dict[tuple[str, str], bytes]
    contracts: Mapping[str, Contract]
    is_probed: bool
    learned: int
    now: datetime


class ManyEnded(Exception):
    """So many of an org's holds have come to their end that they are to be ended first, some at a time."""

    def __init__(self, org_id: str) -> None:
        super().__init__(org_id)
        self.org_id = org_id


class Reader:
    """Reads for one writer; holds, contracts and orgs that were read before are kept."""

    def __init__(self, cache: HoldCache) -> None:
        self._cache = cache
        self._contracts: dict[str, Contract] = {}
        self._hints: dict[str, Counting] = {}
        self._kept = KeptOrgs()

    def read(self, connection: Connection, items: Sequence[Any], now: datetime, *, probe: bool) -> Found:
        """Lock the heads of these items' orgs, in a transaction that begins here, and read what they are decided from.

        Args:
            connection: outside of a transaction.
            items: operations, and what else has an `org_id`; all of orgs that there are.
            probe: look for usage events that are stored already.

        Raises:
            FarBehind, ManyEnded: the transaction is to be given up, and this done again once that is seen to. The
                latter never of a single item without an operation.
        """
        if len(self._contracts) > _CONTRACTS_KEPT:
            self._contracts.clear()
            self._kept.clear()  # whose holds are settled under them
        asked = Asked(items)
        first = self._first_round(connection, asked, now)
        holds = {(row.org_id, row.seq): self._cache.read(row) for row in first.holds if row.is_open}
        look_at, crowded = looked_for(first, holds, now)
        if crowded is not None and (len(items) > 1 or isinstance(items[0], Operation)):
            raise ManyEnded(crowded)
        self.add_contracts(connection, first.rows)
        self._add_contracts_of(connection, holds.values())
        orgs = _orgs(first, holds, look_at, self._contracts)
        found = _second_round(connection, asked, first, orgs, self._contracts, now, probe=probe)
        self._remember(asked, orgs)
        return found

    def keep(self, found: Found) -> None:
        """What was made of it is committed: the next group may go on from there."""
        self._kept.put(found.orgs.values(), found.learned, found.now)

    def _first_round(self, connection: Connection, asked: Asked, now: datetime) -> First:
        kept = self._kept.take(asked.orgs)
        for org_id in asked.budgets:  # all of their open holds are needed
            kept.pop(org_id, None)
        known = {org_id: one.org for org_id, one in kept.items()}
        fresh = [org_id for org_id in asked.orgs if org_id not in known]
        hints = self._hints_for(asked, fresh)
        script = Script()
        script.add(b"begin")
        script.call("lock_heads", texts(asked.orgs))
        script.call("learned")
        looked = fresh + [org_id for org_id, org in known.items() if org.look_at <= now]
        ask_about(script, fresh, looked, hints, now)
        ask_for(script, asked, known)
        prepare_heads(connection)
        found = script.run(connection)
        if len(found["lock_heads"]) < len(asked.orgs):
            # What is locked is given up, so that missing heads can be made without closing a circle with another group.
            connection.rollback()
            there = {org for org, *_ in found["lock_heads"]}
            add_heads(connection, [org for org in asked.orgs if org not in there])
            found = script.run(connection)
        heads = heads_of(found["lock_heads"])
        learned = found["learned"][0][0] if found["learned"] else 0
        others = [
            org_id for org_id, one in kept.items() if not self._kept.is_as_it_was(one, heads[org_id].seq, learned, now)
        ]
        if others:
            looked += others
            hints |= self._read_after_all(connection, asked, others, known, found, now)
        return First(heads, learned, known, looked, hints, found, asked)

    def _read_after_all(
        self,
        connection: Connection,
        asked: Asked,
        others: list[str],
        known: dict[str, OrgWork],
        found: dict[str, list[Any]],
        now: datetime,
    ) -> dict[str, Counting]:
        """Have orgs that have changed since they were kept read with the rest; what was counted for them."""
        hints = self._hints_for(asked, others)
        script = Script()
        ask_about(script, others, others, hints, now)
        holds = [
            (org_id, seq) for org_id, seq in asked.holds if org_id in others and seq in known[org_id].account.holds
        ]
        if holds:
            script.call("holds", *places(holds))
        for org_id in others:
            del known[org_id]
        for name, rows in script.run(connection).items():
            found[name] = [*found.get(name, ()), *rows]
        return hints

    def _hints_for(self, asked: Asked, orgs: Iterable[str]) -> dict[str, Counting]:
        return {org_id: self._hints[org_id] for org_id in orgs if org_id in asked.decided and org_id in self._hints}

    def _remember(self, asked: Asked, orgs: Mapping[str, OrgWork]) -> None:
        """What is counted for these orgs is most likely counted when they are asked about next, too."""
        if len(self._hints) > _HINTS_KEPT:
            self._hints.clear()
        for org_id in asked.decided:
            counters = orgs[org_id].counters
            if counters is not None:
                self._hints[org_id] = counters.counting

    def add_contracts(self, connection: Connection, rows: Iterable[OrgRow]) -> Mapping[str, Contract]:
        """Have the contracts that are in force for these orgs; all that are known, by the hash of their content."""
        for row in rows:
            if row.sha256 is not None and row.sha256 not in self._contracts:
                self._keep(row.sha256, _one(connection, "contract_text", row.contract or "", row.version or ""))
        return self._contracts

    def _add_contracts_of(self, connection: Connection, holds: Iterable[OpenHold]) -> None:
        for sha256 in {hold.held.decision.contract_sha256 for hold in holds} - self._contracts.keys():
            self._keep(sha256, _one(connection, "contract_text_by_sha256", sha256))

    def _keep(self, sha256: str, found: tuple[str, str]) -> None:
        self._contracts[sha256] = load_contract(*found)


def _orgs(
    first: First,
    holds: Mapping[Place, OpenHold],
    look_at: Mapping[str, datetime],
    contracts: Mapping[str, Contract],
) -> dict[str, OrgWork]:
    lots = defaultdict[str, list[GrantedLot]](list)
    for org_id, lot in first.lots:
        lots[org_id].append(lot)
    orgs = dict(first.kept)
    for row in first.rows:
        progress = _read_progress(row.progress or "{}")
        account = OrgAccount(Wallet(lots[row.org_id], row.held_pico, progress.at), terms=row.terms())
        org = orgs[row.org_id] = OrgWork(row, first.heads[row.org_id], account, progress)
        org.contract = None if row.sha256 is None else contracts[row.sha256]
    for org_id, org in first.kept.items():
        org.head = first.heads[org_id]
    for org_id, at in look_at.items():
        orgs[org_id].look_at = at
    for (org_id, seq), hold in holds.items():
        orgs[org_id].account.holds[seq] = hold
    for hold_row in first.holds:
        orgs[hold_row.org_id].holds[hold_row.seq] = hold_row
    for org_id, charged in first.charged:
        orgs[org_id].account.charged[charged.seq] = charged
    for org_id, work, done in first.finished:
        orgs[org_id].account.finished[work] = done
    return orgs


def _second_round(
    connection: Connection,
    asked: Asked,
    first: First,
    orgs: dict[str, OrgWork],
    contracts: Mapping[str, Contract],
    now: datetime,
    *,
    probe: bool,
) -> Found:
    lots = _missing_lots(orgs)
    resolved = [(row.org_id, row.seq) for row in first.holds if not row.is_open]
    works = _works_of(asked, orgs)
    again = set(resolved)
    named = [
        NamedUsage(one.org_id, event.event.request_id, one.request.hold_seq)  # type: ignore[union-attr]
        for one in asked.settles
        if probe or (one.org_id, one.request.hold_seq) in again  # type: ignore[union-attr]
        for event in one.events
    ]
    backlogs, names = what_to_count(asked, first.hints, first.counters, orgs, now)
    included = _included_ids(asked, orgs, now)
    script = Script()
    if lots:
        script.call("lots_by_seq", *places(lots))
    if resolved:
        script.call("resolutions", *places(resolved))
    if works:
        script.call("finished", *columns(works))
    if named:
        script.call("usage_of", *columns([one[:2] for one in named]))
    if included:
        script.call("stored", *columns(included))
    catch_up(script, backlogs)
    if names:
        load_counters(script, names)
    found = defaultdict[str, list[Any]](list, script.run(connection) if script else {})
    for place, *row in found["stored"]:
        first.stored[included[place - 1]] = StoredOperation(*row)
    resolutions = {resolved[place - 1]: StoredOperation(*row) for place, *row in found["resolutions"]}
    _add(orgs, found, resolutions)
    known = found_usage(connection, named, found["usage_of"])
    cores = {
        one: stored_core(connection, one[0], usage.stored.seq)
        for one, usage in known.items()
        if usage.stored.salt is None
    }
    return Found(orgs, first.stored, first.claimed, resolutions, known, cores, contracts, probe, first.learned, now)


def _add(
    orgs: Mapping[str, OrgWork], rows: Mapping[str, list[Any]], resolutions: Mapping[Place, StoredOperation]
) -> None:
    """What the second round trip found belongs to the orgs' accounts."""
    for org_id, lot in lots_of(rows["lots_by_seq"]):
        orgs[org_id].account.wallet.lots[lot.seq] = lot
    for org_id, work, done in finished_of(rows["finished"]):
        orgs[org_id].account.finished[work] = done
    for org_id, found in by_org(rows["load_counters"]).items():
        add_counters(orgs[org_id], found)
    for (org_id, seq), stored in resolutions.items():
        orgs[org_id].account.resolved[seq] = resolution_of(stored)


def _missing_lots(orgs: Mapping[str, OrgWork]) -> set[Place]:
    """Lots that something may go back to, of which nothing is available now."""
    missing = set()
    for org_id, org in orgs.items():
        known = org.account.wallet.lots
        named = [lot for hold in org.account.holds.values() for lot in hold.held.lots]
        for charged in org.account.charged.values():
            named += (*charged.settled.charged, *charged.settled.overage)
        missing |= {(org_id, lot.grant_seq) for lot in named if lot.grant_seq not in known}
    return missing


def _works_of(asked: Asked, orgs: Mapping[str, OrgWork]) -> set[tuple[str, str, str]]:
    """Of holds to be settled, the work that nothing was asked about yet."""
    works = set()
    for one in asked.settles:
        hold = orgs[one.org_id].account.holds.get(one.request.hold_seq)  # type: ignore[union-attr]
        if hold is not None and hold.request.action is not None and hold.request.work_key is not None:
            works.add((one.org_id, hold.request.action, hold.request.work_key))
    return works - asked.works


def _included_ids(asked: Asked, orgs: Mapping[str, OrgWork], now: datetime) -> list[tuple[str, str, str]]:
    """The grants of this month's included credits, of orgs that are not known to have them."""
    ids = []
    for org_id in asked.decided:
        month = included_month(orgs[org_id], now)
        if month is not None:
            ids.append((org_id, "grant", included_id(month[0])))
    return ids


def _one(connection: Connection, query: str, *values: str) -> tuple[str, str]:
    """What a query for one contract finds: its text, and the name of its file."""
    script = Script()
    script.call(query, *map(text, values))
    source, name = script.run(connection)[query][0]
    return source, name
