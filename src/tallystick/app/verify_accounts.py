"""Checking orgs' accounts: each org's operations, from its first entry on, against what they have moved and left.

The operations are read once more, in their order, and folded (`ledger.fold`): each must follow from those before it,
each settlement charges what its contract says, each operation has the transfers that it is due, and what they come to
is what the tables of state say. Entries that have left the database are read from their blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tallystick.app.verify_credits import check_promos, check_unknown_lots
from tallystick.app.verify_disputes import DisputeChecks, check_unknown_disputes
from tallystick.app.verify_invoices import InvoiceChecks, check_numbers, check_unknown
from tallystick.app.verify_report import Findings
from tallystick.app.verify_settlements import SettledCosts
from tallystick.contract.decision import Decision
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import BadInput
from tallystick.journal.account_rows import (
    CreditTransfer,
    StoredOperation,
    odd_accounts,
    orgs_with_accounts,
    read_account_state,
    stream_credit_transfers,
    stream_operations,
)
from tallystick.journal.contracts import list_contract_versions
from tallystick.journal.counters import Progress
from tallystick.journal.database import Connection, Database
from tallystick.journal.recount import recount
from tallystick.journal.sealing import blocks_of_org
from tallystick.journal.verify_rows import HeadRow
from tallystick.ledger.fold import DoesNotFollow, FoldEntry, OrgFold
from tallystick.ledger.operation_body import decode_body
from tallystick.ledger.operation_transfers import transfers_of
from tallystick.ledger.operations import Denied, Expire, Held, ReleaseHold, Settle, Settled
from tallystick.ledger.org_account import OrgTerms
from tallystick.ledger.settlement_charge import free_environments

_TEXTS = ("feature", "environment", "provider", "model", "api_key_id", "action")


def check_org_accounts(
    connection: Connection,
    blocks: Path,
    org_id: str | None,
    heads: list[HeadRow],
    with_operations: AbstractSet[str],
    findings: Findings,
) -> int:
    """Check the accounts of all orgs, or of one: how many operations there were.

    Args:
        connection: the snapshot in which the heads were read.
        blocks: the folder of blocks.
        heads: of the orgs that are asked about.
        with_operations: the orgs of which entries with a body were come across.
        findings: where to note what is wrong.
    """
    contracts = _Contracts(connection)
    with_accounts = orgs_with_accounts(connection, org_id) | with_operations
    count = 0
    for head in heads:
        if head.org_id in with_accounts:
            count += _Account(connection, blocks, head, contracts, findings).check()
    check_unknown(connection, org_id, with_accounts & {head.org_id for head in heads}, findings)
    check_unknown_lots(connection, org_id, with_accounts & {head.org_id for head in heads}, findings)
    check_unknown_disputes(connection, org_id, with_accounts & {head.org_id for head in heads}, findings)
    if org_id is None:
        check_numbers(connection, findings)
        check_promos(connection, findings)
    for org, accounts in odd_accounts(connection, org_id):
        what = "not those that every org has of which operations are recorded, and no other"
        findings.add("balance", f"it has the accounts of credits {', '.join(accounts) or 'none'}: {what}", org)
    return count


def check_counters(database: Database, org_id: str | None, findings: Findings) -> None:
    """What limits and budgets count in windows of time is what the entries come to, as far as it is counted."""
    for org, counter, window_start, kept, due in recount(database, org_id):
        what = f"counters: {counter} from {window_start.isoformat()} on is {kept}, and its entries come to {due}"
        findings.add("state", what, org)


class _Contracts:
    """The contracts' versions by the hashes of their content, each read once."""

    def __init__(self, connection: Connection) -> None:
        self._stored = {version.sha256: version for version in list_contract_versions(connection)}
        self._read: dict[str, Contract | None] = {}

    def has(self, decision: Decision) -> bool:
        """Whether the version that the decision names is stored, under that name."""
        stored = self._stored.get(decision.contract_sha256)
        named = (decision.contract, decision.contract_version)
        return stored is not None and (stored.contract, stored.version) == named

    def of(self, sha256: str) -> Contract | None:
        """The contract; None when it is not stored, or cannot be read."""
        if sha256 not in self._read:
            self._read[sha256] = self._load(sha256)
        return self._read[sha256]

    def _load(self, sha256: str) -> Contract | None:
        version = self._stored.get(sha256)
        if version is None:
            return None
        try:
            contract = load_contract(version.source_text, version.source_name)
        except BadInput:  # that a stored contract is not what its hash says is found where contracts are checked
            return None
        return contract if contract.sha256 == sha256 else None


class _Due(NamedTuple):
    """What an operation moves: (debit, credit, amount) each, and when it was recorded."""

    seq: int
    moves: tuple[tuple[str, str, int], ...]
    recorded_at: datetime


class _Account:
    """The check of one org's account."""

    def __init__(
        self,
        connection: Connection,
        blocks: Path,
        head: HeadRow,
        contracts: _Contracts,
        findings: Findings,
    ) -> None:
        self._connection = connection
        self._blocks = blocks
        self._head = head
        self._org = head.org_id
        self._findings = findings
        self._contracts = contracts
        self._fold = OrgFold(contracts.of)
        self._follows = True
        self._previous_seq = 0
        self._archived_seq = head.last_seq if head.first_kept is None else head.first_kept - 1
        self._invoices = InvoiceChecks(connection, head.org_id, findings)
        self._disputes = DisputeChecks(connection, head.org_id, self._invoices.left_of, findings)
        self._costs = SettledCosts(connection, blocks, head.org_id, self._archived_seq, findings)

    def check(self) -> int:
        """Check it: how many operations there were."""
        transfers = _Transfers(stream_credit_transfers(self._connection, self._org), self._org, self._findings)
        count = 0
        try:
            for stored in self._operations():
                count += 1
                due = self._take(stored)
                self._previous_seq = stored.seq
                if due is not None:
                    transfers.expect(due)
                else:
                    transfers.pass_over(stored.seq)
        except BadInput:  # a file that cannot be read is named where the block is checked
            self._follows = False
        else:
            transfers.finish()
            self._costs.finish()
        if self._follows:
            self._check_state()
            self._invoices.finish()
            self._disputes.finish()
        return count

    def _operations(self) -> Iterator[StoredOperation]:
        kept = stream_operations(self._connection, self._org)
        return chain(self._archived(self._archived_seq), kept) if self._archived_seq else kept

    def _archived(self, last_seq: int) -> Iterator[StoredOperation]:
        from tallystick.archive.operation_rows import iterate_operations
        from tallystick.archive.paths import people_path

        for block in blocks_of_org(self._connection, self._org, 1, last_seq):
            main = self._blocks / block.path
            last = min(block.last_seq, last_seq)
            for row in iterate_operations(main, people_path(main), self._org, block.first_seq, last):
                yield StoredOperation(*row)

    def _take(self, stored: StoredOperation) -> _Due | None:
        """One operation: what it moves; None when its body says nothing that can be told."""
        try:
            request, result = decode_body(stored.kind, stored.body)
            moves = tuple((one[0], one[1], one[2]) for one in transfers_of(stored.kind, request, result))
        except (ValueError, TypeError, OverflowError) as error:  # msgspec's own are ValueErrors
            self._add("body", f"its body is none of a {stored.kind}: {str(error)[:200]}", stored.seq)
            self._follows = False
            return None
        if isinstance(request, Settle) and isinstance(result, Settled):
            self._costs.add(stored.seq, self._previous_seq, self._free_environments(request), request, result)
        if isinstance(result, Held | Denied) and not self._contracts.has(result.decision):
            self._add("account", "the version of the contract that it names is not stored", stored.seq)
        if self._follows:
            if self._texts_of(request) != stored.texts:
                self._add("body", "its columns are not what its body, or its hold's, says was asked for", stored.seq)
            entry = FoldEntry(
                stored.seq,
                stored.kind,
                stored.recorded_at,
                request,
                result,
                stored.refers_to_seq,
                stored.user_id,
                stored.request_id,
            )
            self._disputes.take(entry)  # before what it gives back is
            self._invoices.take(entry)
            try:
                self._fold.add(entry)
            except DoesNotFollow as error:
                self._add("account", f"it does not follow from the entries before it: {error.why}", stored.seq)
                self._follows = False
        return _Due(stored.seq, moves, stored.recorded_at)

    def _free_environments(self, request: Settle) -> frozenset[str]:
        """Those whose usage does not count in a settlement; none where its hold or the contract is not known."""
        hold = self._fold.holds.get(request.hold_seq)
        contract = None if hold is None else self._contracts.of(hold.held.decision.contract_sha256)
        return frozenset() if hold is None or contract is None else free_environments(hold, contract)

    def _texts_of(self, request: object) -> tuple[str | None, ...]:
        """The columns that an operation shares with usage: those of the request that is held, denied or resolved."""
        asked: object = request
        if isinstance(request, Settle | ReleaseHold | Expire):
            hold_seq = request.seq if isinstance(request, Expire) else request.hold_seq
            hold = None if isinstance(request, Expire) and request.what == "grant" else self._fold.holds.get(hold_seq)
            asked = None if hold is None else hold.request
        return tuple(getattr(asked, name, None) for name in _TEXTS)

    # ── the tables of state ─────────────────────────────────────────────────────────────────────────────────────────

    def _check_state(self) -> None:
        state, fold = read_account_state(self._connection, self._org), self._fold
        for lot in fold.due_again:
            self._add("account", f"what came back to the grant {lot.grant_seq} last is not granted again")
        lots = {
            lot.seq: (lot.source, lot.priority, lot.granted_at, lot.expires_at, lot.amount_pico, lot.available_pico)
            for lot in fold.wallet.lots.values()
        }
        self._compare("grants", "grant", lots, state.grants)
        holds: dict[Any, Any] = {seq: hold.held.expires_at for seq, hold in fold.holds.items()}
        self._compare("open_holds", "hold", holds, state.holds)
        finished: dict[Any, Any] = {key: (done.charged_at, done.seq) for key, done in fold.finished.items()}
        self._compare("finished_work", "work", finished, state.finished)
        reserved: dict[Any, Any] = fold.reserved()
        self._compare("counters", "reservation of open holds for", reserved, state.reserved)
        try:
            terms = msgspec.json.decode(state.state, type=OrgTerms)
        except (ValueError, UnicodeError) as error:
            self._add("state", f"org_states cannot be read: {error}")
        else:
            if terms != fold.terms:
                self._add("state", "org_states has another standing, other budgets or overrides than its entries")
        try:
            included = msgspec.json.decode(state.progress, type=Progress).included
        except (ValueError, UnicodeError) as error:
            self._add("state", f"the progress of org_states cannot be read: {error}")
        else:
            if included is not None and included not in fold.included:
                self._add("state", f"org_states has included credits given for {included}, and its entries do not")
        if state.counted_through_seq > self._head.last_seq:
            what = f"its usage is counted through entry {state.counted_through_seq}, and its head is at "
            self._add("state", f"{what}{self._head.last_seq}")
        for account, debit, credit in state.balances:
            due = (fold.debits.get(account, 0), fold.credits.get(account, 0))
            if due != (debit, credit):
                what = f"account {account} says {debit} debited and {credit} credited, its entries come to {due[0]} and"
                self._add("balance", f"{what} {due[1]}")

    def _compare(self, table: str, thing: str, due: dict[Any, Any], found: dict[Any, Any]) -> None:
        if due == found:
            return
        for key in sorted(due.keys() | found.keys()):
            if due.get(key) != found.get(key):
                if key not in found:
                    what = "is missing"
                elif key not in due:
                    what = "is there, and its entries know of none"
                else:
                    what = f"says {_plain(found[key])}, and its entries come to {_plain(due[key])}"
                self._add("state", f"{table}: the {thing} {_plain(key)} {what}", key if isinstance(key, int) else None)

    def _add(self, check: str, detail: str, seq: int | None = None) -> None:
        self._findings.add(check, detail, self._org, seq)


class _Transfers:
    """Holds the transfers of credits of an org, as they are stored, against those that its operations are due."""

    def __init__(self, stored: Iterator[CreditTransfer], org_id: str, findings: Findings) -> None:
        self._stored = stored
        self._next = next(stored, None)
        self._org = org_id
        self._findings = findings

    def expect(self, due: _Due) -> None:
        """The next operation moves this; everything before it moves nothing."""
        self._stray_before(due.seq)
        found, sound = set(), True
        for one in self._of(due.seq):
            found.add((one.debit_account, one.credit_account, one.amount_pico))
            sound = sound and one.first_seq == due.seq and one.recorded_at.astimezone(UTC) == due.recorded_at
        if found != set(due.moves):
            moved = "; ".join(sorted(f"{amount} from {debit} to {credit}" for debit, credit, amount in due.moves))
            what = f"its transfers of credits are not what it moves, which is {moved or 'nothing'} (debited, credited)"
            self._findings.add("transfer", what, self._org, due.seq)
        elif not sound:
            what = "a transfer of credits is not of its entry alone, or was not recorded when it was"
            self._findings.add("transfer", what, self._org, due.seq)

    def pass_over(self, seq: int) -> None:
        """What this operation moves cannot be told."""
        self._stray_before(seq)
        for _ in self._of(seq):
            pass

    def finish(self) -> None:
        """There are no more operations."""
        self._stray_before(None)

    def _of(self, seq: int) -> Iterator[CreditTransfer]:
        while self._next is not None and self._next.seq == seq:
            yield self._next
            self._next = next(self._stored, None)

    def _stray_before(self, seq: int | None) -> None:
        while self._next is not None and (seq is None or self._next.seq < seq):
            what = "it has a transfer of credits, and is no operation that moves any"
            self._findings.add("transfer", what, self._org, self._next.seq)
            self._next = next(self._stored, None)


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value))
    return value.isoformat() if isinstance(value, datetime) else str(value)
