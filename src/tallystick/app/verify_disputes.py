"""Checking disputes: their entries against what is kept of them, and their evidence against its hash."""

from __future__ import annotations

from collections.abc import Collection

from tallystick.app.verify_report import Findings
from tallystick.dispute.fold import DisputeFold, InvoiceOf
from tallystick.dispute.model import DisputeEvent
from tallystick.journal.database import Connection
from tallystick.journal.disputes import (
    all_dispute_events,
    evidence_of_org,
    list_dispute_rows,
    orgs_with_disputes,
)
from tallystick.ledger.dispute_operations import DISPUTE
from tallystick.ledger.fold import DoesNotFollow, FoldEntry
from tallystick.ledger.operation_ids import operation_id


class DisputeChecks:
    """The check of one org's disputes, operation by operation.

    Args:
        invoice_of: how the org's invoices stand, with the operations so far.
    """

    def __init__(self, connection: Connection, org_id: str, invoice_of: InvoiceOf, findings: Findings) -> None:
        self._connection = connection
        self._org = org_id
        self._findings = findings
        self._fold = DisputeFold(invoice_of)
        self._follows = True

    def take(self, entry: FoldEntry) -> None:
        """The org's next operation."""
        if not self._follows:
            return
        try:
            self._fold.add(entry)
        except DoesNotFollow as error:
            self._fail(error)

    def finish(self) -> None:
        """There are no more operations: what is kept is what they come to."""
        if self._follows:
            try:
                self._fold.finish()
            except DoesNotFollow as error:
                self._fail(error)
        if not self._follows:
            return
        kept = {one.account.seq: one.account for one in list_dispute_rows(self._connection, self._org)}
        due = self._fold.disputes
        for seq in sorted(kept.keys() | due.keys()):
            if kept.get(seq) != due.get(seq):
                what = "is not what its entries say"
                if seq not in kept or seq not in due:
                    what = "is missing" if seq not in kept else "is there, and its entries know of none"
                self._add("state", f"disputes: the dispute {operation_id(DISPUTE, seq)} {what}", seq)
        found = by_dispute(all_dispute_events(self._connection, self._org))
        events = by_dispute(self._fold.events)
        for seq in sorted(found.keys() | events.keys()):
            if found.get(seq) != events.get(seq):
                what = "what has happened to it is not what its entries say"
                self._add("state", f"dispute_events: {operation_id(DISPUTE, seq)}: {what}", seq)
        self._check_evidence()

    def _check_evidence(self) -> None:
        kept = evidence_of_org(self._connection, self._org)
        for one in kept:
            if one.sha256 != one.found_sha256:
                what = f"the evidence of {operation_id(DISPUTE, one.dispute_seq)} does not have its hash {one.sha256}"
                self._add("state", f"dispute_evidence: {what}", one.dispute_seq)
        there = {(one.dispute_seq, one.sha256) for one in kept}
        for seq, account in sorted(self._fold.disputes.items()):
            if account.evidence_sha256 is not None and (seq, account.evidence_sha256) not in there:
                what = f"the evidence {account.evidence_sha256} of {operation_id(DISPUTE, seq)} is missing"
                self._add("state", f"dispute_evidence: {what}", account.evidence_seq)

    def _fail(self, error: DoesNotFollow) -> None:
        self._add("account", f"it does not follow from the entries before it: {error.why}", error.seq)
        self._follows = False

    def _add(self, check: str, detail: str, seq: int | None = None) -> None:
        self._findings.add(check, detail, self._org, seq)


def by_dispute(events: Collection[DisputeEvent]) -> dict[int, list[DisputeEvent]]:
    """What has happened to each dispute, in order."""
    found: dict[int, list[DisputeEvent]] = {}
    for one in events:
        found.setdefault(one.dispute_seq, []).append(one)
    return found


def check_unknown_disputes(
    connection: Connection, org_id: str | None, checked: Collection[str], findings: Findings
) -> None:
    """No dispute is kept of an org that has no entries on any."""
    for org in orgs_with_disputes(connection, org_id):
        if org not in checked:
            findings.add("state", f"disputes are kept of {org}, and no entry knows of any", org)
