"""Checking what became of invoices: their entries against what was moved, numbered and kept of them.

Operations on invoices are folded (`billing.fold`) as those on credits are; what they come to is what the tables say,
each was of an invoice that is stored, no number is missing, and who is billed is who was said to be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from tallystick.app.verify_credits import check_lots, check_redeemed
from tallystick.app.verify_report import Findings
from tallystick.billing.fold import InvoiceFold
from tallystick.billing.model import InvoiceEvent
from tallystick.billing.party import profile_sha256
from tallystick.dispute.model import InvoiceLeft
from tallystick.journal.account_rows import CreditTransfer
from tallystick.journal.billing import list_issued, list_profiles
from tallystick.journal.billing_checks import (
    all_invoice_events,
    billed_to,
    money_balances,
    money_transfers,
    numbers_given,
    orgs_with_invoices,
    orgs_with_profiles,
    stored_invoices,
)
from tallystick.journal.database import Connection
from tallystick.journal.disputes_group import invoice_left
from tallystick.ledger.credit_operations import CREDIT_KINDS, Redeemed, RedeemPromo
from tallystick.ledger.fold import DoesNotFollow, FoldEntry
from tallystick.ledger.invoice_operations import INVOICE_KINDS, IssueInvoice
from tallystick.ledger.operation_transfers import transfers_in_money


class InvoiceChecks:
    """The check of one org's invoices, operation by operation."""

    def __init__(self, connection: Connection, org_id: str, findings: Findings) -> None:
        self._connection = connection
        self._org = org_id
        self._findings = findings
        self._fold = InvoiceFold()
        self._follows = True
        self._due: dict[int, tuple[set[tuple[str, str, int]], Any]] = {}
        self._issues: list[tuple[int, IssueInvoice]] = []
        self._redeemed: list[tuple[int, datetime, RedeemPromo, Redeemed]] = []

    def take(self, entry: FoldEntry) -> None:
        """The org's next operation."""
        if entry.kind not in (*INVOICE_KINDS, *CREDIT_KINDS) or not self._follows:
            return
        try:
            self._fold.add(entry)
        except DoesNotFollow as error:
            self._add("account", f"it does not follow from the entries before it: {error.why}", entry.seq)
            self._follows = False
            return
        self._due[entry.seq] = (set(transfers_in_money(entry.request, entry.result)), entry.recorded_at)
        if isinstance(entry.request, IssueInvoice):
            self._issues.append((entry.seq, entry.request))
        if isinstance(entry.request, RedeemPromo) and isinstance(entry.result, Redeemed):
            self._redeemed.append((entry.seq, entry.recorded_at, entry.request, entry.result))

    def left_of(self, invoice_id: str) -> InvoiceLeft | None:
        """What can be taken back of an invoice, as of the operations so far; None where it is not issued."""
        found = self._fold.book.accounts.get(invoice_id)
        return None if found is None else invoice_left(found)

    def finish(self) -> None:
        """There are no more operations: what is kept is what they come to."""
        if not self._follows:
            return
        self._check_transfers()
        self._check_stored()
        check_lots(self._connection, self._org, self._fold.book.lots, self._findings)
        check_redeemed(self._connection, self._org, self._redeemed, self._findings)
        issued = {one.account.invoice_id: one.account for one in list_issued(self._connection, self._org)}
        for invoice_id in sorted(issued.keys() | self._fold.book.accounts.keys()):
            due, found = self._fold.book.accounts.get(invoice_id), issued.get(invoice_id)
            if due != found:
                what = "is missing" if found is None else "is there, and its entries know of none"
                if due is not None and found is not None:
                    what = f"says {found.balance}, number {found.number}, and its entries come to {due.balance}, "
                    what += f"number {due.number}" if found.balance != due.balance else "and other terms"
                self._add("state", f"invoice_accounts: the invoice {invoice_id} {what}", due.seq if due else None)
        kept, due_events = by_invoice(all_invoice_events(self._connection, self._org)), by_invoice(self._fold.events)
        for invoice_id in sorted(kept.keys() | due_events.keys()):
            if kept.get(invoice_id) != due_events.get(invoice_id):
                self._add("state", f"invoice_events: what has happened to {invoice_id} is not what its entries say")
        self._check_billed()
        balances = money_balances(self._connection, self._org)
        for account in sorted(balances.keys() | self._fold.debits.keys() | self._fold.credits.keys()):
            moved = (self._fold.debits.get(account, 0), self._fold.credits.get(account, 0))
            says = balances.get(account, (0, 0))
            if moved != says:
                what = f"account {account} says {says[0]} debited and {says[1]} credited in money"
                self._add("balance", f"{what}, its entries come to {moved[0]} and {moved[1]}")

    def _check_transfers(self) -> None:
        found: dict[int, list[CreditTransfer]] = {}
        for one in money_transfers(self._connection, self._org):
            found.setdefault(one.seq, []).append(one)
        for seq in sorted(found.keys() | self._due.keys()):
            moves, recorded_at = self._due.get(seq, (set(), None))
            stored = found.get(seq, [])
            if {(one.debit_account, one.credit_account, one.amount_pico) for one in stored} != moves:
                self._add("transfer", "its transfers of money are not what it moves", seq)
            elif any(one.first_seq != seq or one.recorded_at.astimezone(UTC) != recorded_at for one in stored):
                self._add("transfer", "a transfer of money is not of its entry alone, or not of when it was", seq)

    def _check_stored(self) -> None:
        stored = stored_invoices(self._connection, self._org)
        for seq, request in self._issues:
            due = (request.digest, request.total_cents, request.period)
            if stored.get(request.invoice_id) != due:
                what = "is not stored" if request.invoice_id not in stored else "has another digest, total or month"
                self._add("invoice", f"the invoice {request.invoice_id} that it issues {what}", seq)

    def _check_billed(self) -> None:
        """Who is billed is who the entry says, with the hash that it pins."""
        named = billed_to(self._connection, self._org)
        said = {row.version: row.sha256.hex() for row in list_profiles(self._connection, self._org)}
        for seq, request in self._issues:
            invoice_id, version = request.invoice_id, request.bill_to
            if invoice_id in named and named[invoice_id] != version:
                what = f"names version {named[invoice_id]} of the billing profile, and its entry version {version}"
                self._add("state", f"invoice_accounts: the invoice {invoice_id} {what}", seq)
            if version is not None and said.get(version) != request.bill_to_sha256:
                what = "is not there" if version not in said else "is not the one"
                self._add("profile", f"version {version} of the billing profile {what} that its invoice pins", seq)

    def _add(self, check: str, detail: str, seq: int | None = None) -> None:
        self._findings.add(check, detail, self._org, seq)


def by_invoice(events: Iterable[InvoiceEvent]) -> dict[str, list[InvoiceEvent]]:
    """What has happened to each invoice, in order."""
    found: dict[str, list[InvoiceEvent]] = {}
    for one in events:
        found.setdefault(one.invoice_id, []).append(one)
    return found


def check_numbers(connection: Connection, findings: Findings) -> None:
    """Every place that was given in a series of numbers is borne by one document."""
    for series, last, documents, last_borne in numbers_given(connection):
        if not last == documents == last_borne:
            what = f"of the series {series}, {last} numbers were given, and {documents} documents bear one"
            findings.add("invoice", f"{what}, up to {last_borne}")


def check_unknown(connection: Connection, org_id: str | None, checked: Collection[str], findings: Findings) -> None:
    """No issued invoice is kept of an org that has no entries on any."""
    for org in orgs_with_invoices(connection, org_id):
        if org not in checked:
            findings.add("state", f"issued invoices are kept of {org}, and no entry knows of any", org)


def check_profiles(connection: Connection, org_id: str | None, findings: Findings) -> None:
    """What billing profiles say is what was said, or was erased with a record of it."""
    for org in orgs_with_profiles(connection, org_id):
        for version in sorted(org.unsaid):
            findings.add("profile", f"nobody has said version {version} of the billing profile", org.org_id)
        for row in list_profiles(connection, org.org_id):
            named = f"version {row.version} of the billing profile"
            if row.salt is None or row.profile is None:
                if row.version not in org.erased:
                    findings.add("profile", f"{named} is gone, and no erasure is recorded", org.org_id)
                elif row.version in org.named:
                    findings.add("profile", f"{named} is erased, and an issued invoice names it", org.org_id)
            elif row.version in org.erased:
                findings.add("profile", f"{named} was erased, and what it says is there", org.org_id)
            elif profile_sha256(row.salt, row.profile.encode()) != row.sha256:
                findings.add("profile", f"{named} says something else than what was said", org.org_id)
