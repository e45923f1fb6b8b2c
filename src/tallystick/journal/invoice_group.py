"""Invoices in a group of operations: their accounts and the series of numbers, read, decided on and saved.

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
from tallystick.billing.model import InvoiceAccount, InvoiceEvent
from tallystick.billing.numbers import number_at, series_of
from tallystick.core.errors import Conflict
from tallystick.dispute.awards import awards_of
from tallystick.dispute.model import InvoiceLeft
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.steps import reached
from tallystick.ledger.accounts import USD
from tallystick.ledger.invoice_operations import CreditInvoice, InvoiceRequest, IssueInvoice, Pay
from tallystick.ledger.dispute_operations import StepDispute
from tallystick.ledger.operation_transfers import transfers_in_money
from tallystick.ledger.operations import Operation
from tallystick.ledger.org_account import Step

_SQL = load_queries("billing")
_read_lines = msgspec.json.Decoder(dict[int, int]).decode


def account_of(row: tuple[Any, ...]) -> InvoiceAccount:
    """An issued invoice from its row, without the org."""
    invoice_id, seq, number, period, digest, issued_at, due_at, total, paid, credited, voided, is_test, lines = row
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
        line_credits=_read_lines(lines),
    )


class InvoiceGroup:
    """What a group of operations does with invoices.

    Args:
        connection: in the group's transaction; the heads of the items' orgs are locked.
        items: the group; what is no operation on an invoice is none of its business.
        now: the group's instant.
    """

    def __init__(self, connection: Connection, items: Iterable[Any], now: datetime) -> None:
        self._now = now
        self._accounts: dict[tuple[str, str], InvoiceAccount] = {}
        self._bill_to: dict[tuple[str, str], int | None] = {}
        self._series: dict[str, int] = {}
        self._profiles: set[tuple[str, int]] = set()
        self._changed: set[tuple[str, str]] = set()
        self._numbered: set[str] = set()
        self._events: list[tuple[str, InvoiceEvent]] = []
        self._payments: dict[str, tuple[str, int]] = {}
        self._moves: list[tuple[str, int, str, str, int]] = []
        asked = [(one.org_id, request) for one in items if isinstance(one, Operation) for request in _requests_of(one)]
        on_invoices = [(org_id, request) for org_id, request in asked if isinstance(request, InvoiceRequest)]
        disputed = [(one.org_id, named) for one in items if (named := _disputed(one)) is not None]
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
        rows = connection.execute(_SQL["accounts"], {"orgs": list(orgs), "invoices": list(invoices)})
        self._accounts = {(row[0], row[1]): account_of(row[1:]) for row in rows}
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

    def decide(self, org_id: str, seq: int, request: InvoiceRequest, request_id: str) -> Step:
        """What becomes of an operation: its entry. It counts for what comes after it in the group.

        Raises:
            TallyError: what the operation is refused for; no number is taken then.
        """
        key = (org_id, request.invoice_id)
        if isinstance(request, Pay) and request_id in self._payments:
            raise _counted(request_id, *self._payments[request_id])
        if isinstance(request, IssueInvoice) and request.bill_to is not None:
            self._check_profile(org_id, request.bill_to)
        series = None
        if isinstance(request, IssueInvoice | CreditInvoice):
            series = series_of(request.prefix, self._now)
        number = None if series is None else number_at(series, self._series[series] + 1)
        change: Change = decide(self._accounts.get(key), seq, self._now, request, number)
        if series is not None:
            self._series[series] += 1
            self._numbered.add(series)
        self._accounts[key] = change.account
        if isinstance(request, IssueInvoice):
            self._bill_to[key] = request.bill_to
        self._changed.add(key)
        payment_id = None
        if isinstance(request, Pay):
            payment_id, self._payments[request_id] = request_id, (org_id, seq)
        self._events.append((org_id, change.event._replace(payment_id=payment_id)))
        result: Any = change.step.result
        self._moves += [(org_id, seq, *move) for move in transfers_in_money(request, result)]
        return change.step

    def left_of(self, org_id: str, invoice_id: str) -> InvoiceLeft | None:
        """What can be taken back of an invoice that is disputed; None where it is not issued."""
        found = self._accounts.get((org_id, invoice_id))
        if found is None:
            return None
        return InvoiceLeft(found.total_cents, found.credited_cents, found.voided, found.line_credits)

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
        if not self._changed:
            return
        accounts = []
        for org_id, invoice_id in sorted(self._changed):
            account = self._accounts[org_id, invoice_id]
            values: dict[str, Any] = msgspec.structs.asdict(account)
            values["line_credits"] = msgspec.json.encode(account.line_credits).decode()
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
