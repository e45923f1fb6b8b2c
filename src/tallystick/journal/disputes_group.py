"""Disputes in a group of operations: read, decided on and saved in the group's transaction, under the heads' locks.

A group without steps of disputes asks the database for nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from tallystick.billing.model import InvoiceAccount
from tallystick.core.webhook_events import NewEvent
from tallystick.dispute.machine import Change, open_dispute, step_dispute
from tallystick.dispute.model import DisputeAccount, DisputeEvent, InvoiceLeft
from tallystick.dispute.news import news_of
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.steps import reached
from tallystick.journal.webhooks import enqueue_events
from tallystick.ledger.dispute_operations import DisputedCharge, StepDispute
from tallystick.ledger.operations import Operation
from tallystick.ledger.org_account import Step

_SQL = load_queries("disputes")
InvoiceOf = Callable[[str, str], InvoiceLeft | None]
"""Of an org and an invoice, what is left of it; None where it is not issued."""


def invoice_left(account: InvoiceAccount) -> InvoiceLeft:
    """Of an issued invoice, what can be taken back of it: not what credits pay of it."""
    total_cents = account.total_cents - account.applied_cents
    return InvoiceLeft(total_cents, account.credited_cents, account.voided, account.line_credits)


def dispute_of(row: tuple[Any, ...]) -> DisputeAccount:
    """A dispute from its row, without the org."""
    (
        seq, request_id, what, state, invoice_id, line, entries, charged_seqs, charged_pico, disputed_cents, author,
        reason, opened_at, answer_due_at, evidence_seq, evidence_sha256, differences, proposed_cents, decided_at,
        explanation, upheld_cents, upheld_seqs, upheld_pico,
    ) = row  # fmt: skip
    return DisputeAccount(
        seq=seq,
        request_id=request_id,
        what=what,
        state=state,
        invoice_id=invoice_id,
        line=line,
        entries=tuple(entries),
        charges=_charges(charged_seqs, charged_pico),
        disputed_cents=disputed_cents,
        author=author,
        reason=reason,
        opened_at=opened_at,
        answer_due_at=answer_due_at,
        evidence_seq=evidence_seq,
        evidence_sha256=evidence_sha256,
        differences=differences,
        proposed_cents=proposed_cents,
        decided_at=decided_at,
        explanation=explanation,
        upheld_cents=upheld_cents,
        upheld=_charges(upheld_seqs, upheld_pico),
    )


def dispute_row(org_id: str, account: DisputeAccount) -> dict[str, Any]:
    """The same the other way round, as the parameters of a query."""
    values: dict[str, Any] = msgspec.structs.asdict(account)
    charges, upheld = values.pop("charges"), values.pop("upheld")
    return {
        **values,
        "org_id": org_id,
        "entries": list(account.entries),
        "charged_seqs": [one.settlement_seq for one in charges],
        "charged_pico": [one.amount_pico for one in charges],
        "upheld_seqs": [one.settlement_seq for one in upheld],
        "upheld_pico": [one.amount_pico for one in upheld],
    }


def _charges(seqs: Iterable[int], amounts_pico: Iterable[Any]) -> tuple[DisputedCharge, ...]:
    return tuple(DisputedCharge(seq, int(pico)) for seq, pico in zip(seqs, amounts_pico, strict=True))


class DisputeGroup:
    """What a group of operations does with disputes.

    Args:
        connection: in the group's transaction; the heads of the items' orgs are locked.
        items: the group; what is no step of a dispute is none of its business.
        now: the group's instant.
        invoice_of: how an invoice stands, with what the group has done to it so far.
    """

    def __init__(self, connection: Connection, items: Iterable[Any], now: datetime, invoice_of: InvoiceOf) -> None:
        self._now = now
        self._invoice_of = invoice_of
        self._disputes: dict[str, dict[int, DisputeAccount]] = {}
        self._changed: set[tuple[str, int]] = set()
        self._events: list[tuple[str, DisputeEvent]] = []
        self._news: list[NewEvent] = []
        asked = [
            (one.org_id, one.request.dispute_seq)
            for one in items
            if isinstance(one, Operation) and isinstance(one.request, StepDispute)
        ]
        if asked:
            self._load(connection, asked)

    def _load(self, connection: Connection, asked: list[tuple[str, int | None]]) -> None:
        named = {(org_id, seq) for org_id, seq in asked if seq is not None}
        values = {
            "orgs": [org_id for org_id, _ in named],
            "seqs": [seq for _, seq in named],
            "opening": sorted({org_id for org_id, seq in asked if seq is None}),
        }
        for row in connection.execute(_SQL["of_orgs"], values):
            account = dispute_of(row[1:])
            self._disputes.setdefault(row[0], {})[account.seq] = account
        reached("disputes.loaded")

    def decide(self, org_id: str, seq: int, request: StepDispute, request_id: str) -> Change:
        """What becomes of a step. It counts only once it is `taken`: what it gives back may still be refused.

        Raises:
            TallyError: what it is refused for.
        """
        disputes = self._disputes.get(org_id, {})
        if request.dispute_seq is not None:
            return step_dispute(disputes.get(request.dispute_seq), seq, self._now, request)
        invoice_id = None if request.scope is None else request.scope.invoice_id
        invoice = None if invoice_id is None else self._invoice_of(org_id, invoice_id)
        return open_dispute(disputes.values(), invoice, seq, self._now, request, request_id)

    def take(self, org_id: str, change: Change) -> Step:
        """The step counts for what comes after it in the group, and is saved with it."""
        account = change.account
        self._disputes.setdefault(org_id, {})[account.seq] = account
        self._changed.add((org_id, account.seq))
        self._events.append((org_id, change.event))
        told = news_of(org_id, account, change.event)
        self._news += [] if told is None else [told]
        return change.step

    def save(self, connection: Connection) -> None:
        """Save what was decided, in the transaction that stores the entries."""
        if not self._changed:
            return
        rows = [dispute_row(org_id, self._disputes[org_id][seq]) for org_id, seq in sorted(self._changed)]
        with connection.cursor() as cursor:
            cursor.executemany(_SQL["save"], rows)
            cursor.executemany(
                _SQL["add_event"], [{"org_id": org_id, **event._asdict()} for org_id, event in self._events]
            )
        enqueue_events(connection, self._news)
        reached("disputes.saved")
