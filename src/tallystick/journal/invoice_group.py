"""Invoices in a group of operations: their accounts, credits and the series of numbers, read, decided on and saved.

It all happens in the group's transaction, under the locks of the orgs' heads. The rows of the series are locked after
those, in one order, so that whoever numbers documents waits for the one before to commit or to fail: a place is then
never lost nor given twice, however a process ends. A group without operations on invoices asks the database for
nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from tallystick.billing.machine import Change, decide
from tallystick.billing.model import Book, InvoiceAccount, InvoiceEvent
from tallystick.billing.news import news_of
from tallystick.billing.numbers import number_at, series_of
from tallystick.core.errors import Conflict
from tallystick.core.webhook_events import NewEvent
from tallystick.dispute.awards import awards_of
from tallystick.dispute.model import InvoiceLeft
from tallystick.journal.credit_group import NO_TERMS, CreditGroup, Terms
from tallystick.journal.database import Connection
from tallystick.journal.disputes_group import invoice_left
from tallystick.journal.named_sql import load_queries
from tallystick.journal.steps import reached
from tallystick.journal.webhooks import enqueue_events
from tallystick.ledger.accounts import USD
from tallystick.ledger.credit_operations import CreditRequest
from tallystick.ledger.dispute_operations import StepDispute
from tallystick.ledger.invoice_operations import (
    Applied,
    CreditInvoice,
    InvoiceRequest,
    IssueInvoice,
    Pay,
    VoidInvoice,
)
from tallystick.ledger.operation_transfers import transfers_in_money
from tallystick.ledger.operations import Operation
from tallystick.ledger.org_account import Step

_SQL = load_queries("billing")
_read_cents = msgspec.json.Decoder(dict[int, int]).decode
_read_applied = msgspec.json.Decoder(tuple[Applied, ...]).decode


def account_of(row: tuple[Any, ...]) -> InvoiceAccount:
    """An issued invoice from its row, without the org."""
    invoice_id, seq, number, period, digest, issued_at, due_at, total, paid, credited, voided, is_test, *rest = row
    lines, applied, applied_cents, carried, carried_cents = rest
    return InvoiceAccount(
        invoice_id=invoice_id,
        seq=seq,
        number=number,
        period=period,
        digest=digest,
        issued_at=issued_at,
        due_at=due_at,
        total_cents=total,
        paid_cents=paid,
        credited_cents=credited,
        voided=voided,
        is_test=is_test,
        line_credits=_read_cents(lines),
        applied=_read_applied(applied),
        applied_cents=applied_cents,
        carried=_read_cents(carried),
        carried_cents=carried_cents,
    )


class InvoiceGroup:
    """What a group of operations does with invoices, and with what is given for them in money.

    Args:
        connection: in the group's transaction; the heads of the items' orgs are locked.
        items: the group; what is no operation on invoices or credits in money is none of its business.
        now: the group's instant.
    """

    def __init__(self, connection: Connection, items: Iterable[Any], now: datetime) -> None:
        self._now = now
        self._bill_to: dict[tuple[str, str], int | None] = {}
        self._series: dict[str, int] = {}
        self._profiles: set[tuple[str, int]] = set()
        self._changed: set[tuple[str, str]] = set()
        self._numbered: set[str] = set()
        self._events: list[tuple[str, InvoiceEvent]] = []
        self._payments: dict[str, tuple[str, int]] = {}
        self._moves: list[tuple[str, int, str, str, int]] = []
        self._news: list[NewEvent] = []
        asked = [(one.org_id, request) for one in items if isinstance(one, Operation) for request in _requests_of(one)]
        on_invoices = [(org_id, request) for org_id, request in asked if isinstance(request, InvoiceRequest)]
        disputed = [(one.org_id, named) for one in items if (named := _disputed(one)) is not None]
        on_money = [(org_id, one) for org_id, one in asked if isinstance(one, InvoiceRequest | CreditRequest)]
        self._books = {org_id: Book() for org_id in {org_id for org_id, _ in (*on_money, *disputed)}}
        self._credits = CreditGroup(connection, on_money, self._books, now)
        if on_invoices or disputed:
            self._load(connection, on_invoices, disputed)
        payments = sorted({one.request_id for one in items if isinstance(one, Operation) and one.kind == "payment"})
        if payments:
            connection.execute(_SQL["lock_payments"], {"payments": payments})
            rows = connection.execute(_SQL["payments_counted"], {"payments": payments})
            self._payments = {row[0]: (row[1], row[2]) for row in rows}

    def _load(
        self, connection: Connection, asked: list[tuple[str, InvoiceRequest]], disputed: list[tuple[str, str]]
    ) -> None:
        orgs, invoices = zip(*{*((org_id, one.invoice_id) for org_id, one in asked), *disputed}, strict=True)
        self._put(connection, "accounts", {"orgs": list(orgs), "invoices": list(invoices)})
        for kind, query in ((IssueInvoice, "accounts_beyond"), (VoidInvoice, "accounts_of_orgs")):
            whole = sorted({org_id for org_id, request in asked if isinstance(request, kind)})
            if whole:
                self._put(connection, query, {"orgs": whole})
        named = {
            (org_id, request.bill_to)
            for org_id, request in asked
            if isinstance(request, IssueInvoice) and request.bill_to is not None
        }
        if named:
            of, versions = zip(*named, strict=True)
            there = connection.execute(_SQL["profiles_there"], {"orgs": list(of), "versions": list(versions)})
            self._profiles = set(there.fetchall())
        series = {
            series_of(request.prefix, self._now)
            for _, request in asked
            if isinstance(request, IssueInvoice | CreditInvoice)
        }
        if series:
            values = {"series": sorted(series)}
            connection.execute(_SQL["add_series"], values)
            self._series = dict(connection.execute(_SQL["lock_series"], values).fetchall())
            reached("invoices.series_locked")

    def _put(self, connection: Connection, query: str, values: dict[str, Any]) -> None:
        for row in connection.execute(_SQL[query], values):
            account = account_of(row[1:])
            self._books[row[0]].accounts[account.invoice_id] = account

    def decide(
        self,
        org_id: str,
        seq: int,
        request: InvoiceRequest | CreditRequest,
        request_id: str,
        terms: Terms = NO_TERMS,
    ) -> Step:
        """What becomes of an operation: its entry. It counts for what comes after it in the group.

        Args:
            terms: the contract and the plan that the org is on, which a promo code may ask for.

        Raises:
            TallyError: what the operation is refused for; no number, and no place of a code, is taken then.
        """
        if isinstance(request, CreditRequest):
            return self._take(org_id, self._credits.decide(org_id, seq, request, terms))
        key = (org_id, request.invoice_id)
        if isinstance(request, Pay) and request_id in self._payments:
            raise _counted(request_id, *self._payments[request_id])
        if isinstance(request, IssueInvoice) and request.bill_to is not None:
            self._check_profile(org_id, request.bill_to)
        series = None
        if isinstance(request, IssueInvoice | CreditInvoice):
            series = series_of(request.prefix, self._now)
        number = None if series is None else number_at(series, self._series[series] + 1)
        change = decide(self._books[org_id], seq, self._now, request, number)
        if series is not None:
            self._series[series] += 1
            self._numbered.add(series)
        if isinstance(request, IssueInvoice):
            self._bill_to[key] = request.bill_to
        if isinstance(request, Pay):
            self._payments[request_id] = (org_id, seq)
        return self._take(org_id, change, request_id if isinstance(request, Pay) else None)

    def _take(self, org_id: str, change: Change, payment_id: str | None = None) -> Step:
        """What was decided holds for what comes after it."""
        step = change.step
        self._news += news_of(org_id, self._books[org_id].accounts, change, payment_id)
        self._books[org_id].put(change.accounts, change.lots)
        self._credits.put(org_id, change)
        self._changed |= {(org_id, account.invoice_id) for account in change.accounts}
        if change.event is not None:
            self._events.append((org_id, change.event._replace(payment_id=payment_id)))
        self._moves += [(org_id, step.seq, *move) for move in transfers_in_money(step.request, step.result)]
        return step

    def left_of(self, org_id: str, invoice_id: str) -> InvoiceLeft | None:
        """What can be taken back of an invoice that is disputed; None where it is not issued."""
        found = self._books[org_id].accounts.get(invoice_id)
        return None if found is None else invoice_left(found)

    def _check_profile(self, org_id: str, version: int) -> None:
        """What an invoice names is there, and is not erased from then on: both happen under the head's lock."""
        if (org_id, version) not in self._profiles:
            raise Conflict(
                "billing_profile_erased",
                f"version {version} of the billing profile of {org_id} was erased meanwhile",
                next_step="issue the invoice again: it names who is billed now",
                where="bill_to",
            )

    def save(self, connection: Connection) -> None:
        """Save what was decided, in the transaction that stores the entries."""
        self._credits.save(connection)
        if not self._changed:
            return
        accounts = []
        for org_id, invoice_id in sorted(self._changed):
            account = self._books[org_id].accounts[invoice_id]
            values: dict[str, Any] = msgspec.structs.asdict(account)
            for name in ("line_credits", "applied", "carried"):
                values[name] = msgspec.json.encode(values[name]).decode()
            accounts.append({**values, "org_id": org_id, "bill_to": self._bill_to.get((org_id, invoice_id))})
        with connection.cursor() as cursor:  # of many rows, the database is not waited for after each
            cursor.executemany(_SQL["save_account"], accounts)
            cursor.executemany(
                _SQL["add_event"], [{"org_id": org_id, **event._asdict()} for org_id, event in self._events]
            )
        if self._numbered:
            series = sorted(self._numbered)
            lasts = [self._series[name] for name in series]
            connection.execute(_SQL["save_series"], {"series": series, "lasts": lasts})
        self._move(connection)
        enqueue_events(connection, self._news)
        reached("invoices.saved")

    def _move(self, connection: Connection) -> None:
        sums: dict[tuple[str, str], list[int]] = {}
        rows = []
        for org_id, seq, debit, credit, amount_pico in self._moves:
            values = {"org_id": org_id, "seq": seq, "debit": debit, "credit": credit, "asset": USD}
            rows.append({**values, "amount_pico": amount_pico, "at": self._now})
            sums.setdefault((org_id, debit), [0, 0])[0] += amount_pico
            sums.setdefault((org_id, credit), [0, 0])[1] += amount_pico
        if not sums:
            return
        with connection.cursor() as cursor:
            cursor.executemany(_SQL["add_transfer"], rows)
        moved = {
            "orgs": [org_id for org_id, _ in sums],
            "accounts": [account for _, account in sums],
            "debits": [debit for debit, _ in sums.values()],
            "credits": [credit for _, credit in sums.values()],
        }
        connection.execute(_SQL["move_balances"], {**moved, "asset": USD})


def _counted(payment_id: str, org_id: str, seq: int) -> Conflict:
    """The refusal of money that has been counted: of the org that asks, its own entry has answered before."""
    return Conflict(
        "request_id_conflict",
        f"the payment {payment_id!r} is counted already, as entry {seq} of {org_id!r}",
        next_step="nothing moved: a payment counts once, over all orgs; record another one under its own id",
        where="request_id",
    )


def _requests_of(operation: Operation) -> list[Any]:
    """What is asked for; and what a dispute that is upheld gives back."""
    request = operation.request
    more = awards_of(request) if isinstance(request, StepDispute) else []
    return [request, *(one.request for one in more)]


def _disputed(item: Any) -> str | None:
    """The invoice that is disputed anew; None of what disputes none."""
    request = item.request if isinstance(item, Operation) else None
    scope = request.scope if isinstance(request, StepDispute) else None
    return None if scope is None else scope.invoice_id
