"""What becomes of invoices: each function gives the entry to append, and what stands otherwise with it, or raises.

Nothing is changed in place: what is given holds once the entry is stored. `seq` is the entry's place, `now` the instant
at which it is recorded.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tallystick.billing.credits import CreditLot, give_back, use_credits
from tallystick.billing.model import Book, InvoiceAccount, InvoiceEvent
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.money import cents_to_usd
from tallystick.ledger.invoice_operations import (
    CENTS_MAX,
    Applied,
    Credited,
    CreditInvoice,
    InvoiceKind,
    InvoiceRequest,
    InvoiceResult,
    Issued,
    IssueInvoice,
    Paid,
    Pay,
    Voided,
    VoidInvoice,
)
from tallystick.ledger.org_account import Step


class Change(NamedTuple):
    """What an operation makes of an org's invoices and credits: the entry, and those that stand otherwise then.

    Attributes:
        event: of the invoice; None of what is about none.
        accounts: the invoice first, then others that it carries to or from.
    """

    step: Step
    event: InvoiceEvent | None
    accounts: tuple[InvoiceAccount, ...] = ()
    lots: tuple[CreditLot, ...] = ()


def issue(book: Book, seq: int, now: datetime, request: IssueInvoice, number: str) -> Change:
    """A stored invoice has a number from now on, uses up credits in their order (`billing.credits`), and is due.

    Args:
        number: the next of its series.

    Raises:
        Conflict: `invoice_issued`.
    """
    account = book.accounts.get(request.invoice_id)
    if account is not None:
        raise Conflict(
            "invoice_issued",
            f"invoice {request.invoice_id} is issued already, as {account.number}",
            next_step="nothing moved; see it with `tally invoice show`",
            where="invoice_id",
        )
    issued = InvoiceAccount(
        invoice_id=request.invoice_id,
        seq=seq,
        number=number,
        period=request.period,
        digest=request.digest,
        issued_at=now,
        due_at=now + timedelta(seconds=request.terms_seconds),
        total_cents=request.total_cents,
        is_test=request.is_test,
    )
    used, lots = use_credits(book.lots.values(), now, request.period, request.total_cents)
    issued.applied_cents = sum([one.amount_cents for one in used])
    issued, others, carried = _carry_to(issued, book)
    issued.applied = (*used, *carried)
    result = Issued(number=number, due_at=issued.due_at, balance=issued.balance, applied=issued.applied)
    change = _change(issued, seq, now, "invoice", request, result, request.total_cents, number)
    return change._replace(accounts=(issued, *others), lots=tuple(lots))


def _carry_to(issued: InvoiceAccount, book: Book) -> tuple[InvoiceAccount, list[InvoiceAccount], list[Applied]]:
    """What the customer has too much on earlier invoices is used for this one, as far as it goes."""
    others, carried = [], []
    for other in sorted(book.accounts.values(), key=lambda one: one.seq):
        cents = min(-other.due_cents, issued.due_cents)
        if cents > 0:
            issued = issued.carry(other.seq, cents)
            others.append(other.carry(issued.seq, -cents))
            carried.append(Applied(seq=other.seq, source="carried", amount_cents=cents, label=other.number))
    return issued, others, carried


def pay(book: Book, seq: int, now: datetime, request: Pay) -> Change:
    """Money came in for an invoice, in part, in full or more than that; or some of it went back.

    Raises:
        NotFound: `invoice_not_issued`.
        Conflict: `invoice_void`; `more_than_was_paid`, of money that is to have gone back.
        BadInput: `invalid_amount`.
    """
    found = _issued(book, request.invoice_id)
    check_cents(request.amount_cents)
    if found.voided:
        raise _is_void(found, "nothing is to be paid for it")
    if request.returned and request.amount_cents > found.paid_cents:
        raise Conflict(
            "more_than_was_paid",
            f"{_usd(request.amount_cents)} cannot have gone back of invoice {found.number}: "
            f"{_usd(found.paid_cents)} came in for it",
            next_step="record what came in first, or the amount that went back",
            where="amount_usd",
        )
    cents = -request.amount_cents if request.returned else request.amount_cents
    paid = msgspec.structs.replace(found, paid_cents=found.paid_cents + cents)
    return _change(paid, seq, now, "payment", request, Paid(balance=paid.balance), cents, None)


def credit(book: Book, seq: int, now: datetime, request: CreditInvoice, number: str) -> Change:
    """A part of an invoice is taken back, of what credits do not pay; what was paid beyond what is left is the
    customer's.

    Args:
        number: the next of the notes' series.

    Raises:
        NotFound: `invoice_not_issued`.
        Conflict: `invoice_void`; `credit_exceeds_invoice`, `credit_exceeds_line`.
        BadInput: `invalid_amount`.
    """
    found = _issued(book, request.invoice_id)
    check_cents(request.amount_cents)
    if found.voided:
        raise _is_void(found, "nothing is left of it")
    left_cents = max(0, found.total_cents - found.applied_cents - found.credited_cents)
    if request.amount_cents > left_cents:
        by_credits = f", of which credits pay {_usd(found.applied_cents)}" if found.applied_cents else ""
        raise Conflict(
            "credit_exceeds_invoice",
            f"{_usd(request.amount_cents)} are more than is left of invoice {found.number}: {_usd(left_cents)} "
            f"of {_usd(found.total_cents)}{by_credits}",
            next_step=f"take back {_usd(left_cents)} at most; give more for the next invoices: tally invoice-credits "
            "grant",
            where="amount_usd",
        )
    lines = dict(found.line_credits)
    if request.line is not None and request.line_cents is not None:
        given_cents = lines.get(request.line, 0)
        lines[request.line] = given_cents + request.amount_cents
        if lines[request.line] > request.line_cents:
            raise Conflict(
                "credit_exceeds_line",
                f"{_usd(request.amount_cents)} are more than is left of line {request.line} of invoice "
                f"{found.number}: {_usd(max(0, request.line_cents - given_cents))} of {_usd(request.line_cents)}",
                next_step="take back less, or name no line: the note is then on the invoice as a whole",
                where="line",
            )
    credited = msgspec.structs.replace(
        found, credited_cents=found.credited_cents + request.amount_cents, line_credits=lines
    )
    result = Credited(number=number, balance=credited.balance)
    return _change(credited, seq, now, "credit_note", request, result, request.amount_cents, number)


def void(book: Book, seq: int, now: datetime, request: VoidInvoice) -> Change:
    """All that is left of an invoice is taken back; nothing may have been paid for it. Credits have again what it used
    of them, and other invoices what it had of theirs.

    Raises:
        NotFound: `invoice_not_issued`.
        Conflict: `invoice_void`, `invoice_paid`; `invoice_carried`, when others have used more of it than it of others.
    """
    found = _issued(book, request.invoice_id)
    if found.voided:
        raise _is_void(found, "it cannot be voided again")
    if found.paid_cents:
        raise Conflict(
            "invoice_paid",
            f"{_usd(found.paid_cents)} were paid for invoice {found.number}: it cannot be voided",
            next_step="take it back by a credit note: tally invoice credit-note; or record first that the money went "
            "back: tally invoice pay --returned",
            where="invoice_id",
        )
    if found.carried_cents < 0:
        raise Conflict(
            "invoice_carried",
            f"{_usd(-found.carried_cents)} that were too much on invoice {found.number} were used for other invoices: "
            "it cannot be voided",
            next_step="void those first, or give the customer credits instead: tally invoice-credits grant",
            where="invoice_id",
        )
    cents = found.total_cents - found.credited_cents
    of_credits = [one for one in found.applied if one.source != "carried"]
    lots = [give_back(book.lots[one.seq], one, now) for one in of_credits]
    voided = msgspec.structs.replace(found, credited_cents=found.total_cents, applied_cents=0, voided=True)
    voided, others, carried = _carry_back(voided, book)
    result = Voided(amount_cents=cents, balance=voided.balance, returned=(*of_credits, *carried))
    change = _change(voided, seq, now, "void", request, result, cents, None)
    return change._replace(accounts=(voided, *others), lots=tuple(lots))


def _carry_back(voided: InvoiceAccount, book: Book) -> tuple[InvoiceAccount, list[InvoiceAccount], list[Applied]]:
    """What a void invoice has of others is theirs again, those issued last first; what a void one has so goes on to
    those that it had it of.
    """
    by_seq = {one.seq: one for one in book.accounts.values()} | {voided.seq: voided}
    changed: dict[int, None] = {}
    carried, left = [], [voided.seq]
    while left:
        seq = left.pop()
        for other, had_cents in sorted(by_seq[seq].carried.items(), reverse=True):
            cents = min(had_cents, by_seq[seq].carried_cents)
            if cents <= 0:
                continue
            by_seq[seq] = by_seq[seq].carry(other, -cents)
            by_seq[other] = by_seq[other].carry(seq, cents)
            changed |= {seq: None, other: None}
            if seq == voided.seq:
                label = by_seq[other].number
                carried.append(Applied(seq=other, source="carried", amount_cents=cents, label=label))
            if by_seq[other].voided:
                left.append(other)
    others = [by_seq[seq] for seq in changed if seq != voided.seq]
    return by_seq[voided.seq], others, carried


def decide(book: Book, seq: int, now: datetime, request: InvoiceRequest, number: str | None) -> Change:
    """Whichever of these the request asks for.

    Args:
        number: of a document that has one, the next of its series.
    """
    match request:
        case IssueInvoice():
            return issue(book, seq, now, request, number or "")
        case CreditInvoice():
            return credit(book, seq, now, request, number or "")
        case Pay():
            return pay(book, seq, now, request)
        case VoidInvoice():
            return void(book, seq, now, request)


def _change(
    account: InvoiceAccount,
    seq: int,
    now: datetime,
    kind: InvoiceKind,
    request: InvoiceRequest,
    result: InvoiceResult,
    cents: int,
    number: str | None,
) -> Change:
    refers_to = None if kind == "invoice" else account.seq
    step = Step(seq, kind, request, result, refers_to)
    event = InvoiceEvent(account.invoice_id, seq, kind, now, cents, number)
    return Change(step, event, (account,))


def _issued(book: Book, invoice_id: str) -> InvoiceAccount:
    account = book.accounts.get(invoice_id)
    if account is None:
        raise not_issued(invoice_id)
    return account


def not_issued(invoice_id: str) -> NotFound:
    """The refusal of what asks for an invoice that has no number yet."""
    return NotFound(
        "invoice_not_issued",
        f"invoice {invoice_id} is not issued: it has no number, and nothing is due for it",
        next_step=f"issue it: tally invoice finalize {invoice_id}",
        where="invoice_id",
    )


def _is_void(account: InvoiceAccount, so: str) -> Conflict:
    return Conflict(
        "invoice_void",
        f"invoice {account.number} is void: {so}",
        next_step="nothing moved; see it with `tally invoice show`",
        where="invoice_id",
    )


def check_cents(cents: int) -> None:
    """Refuse what is no amount to be moved or given: `invalid_amount`."""
    if not 0 < cents <= CENTS_MAX:
        raise BadInput(
            "invalid_amount",
            f"{_usd(cents)} is no amount to be moved: it must be above 0 and at most {_usd(CENTS_MAX)}",
            next_step="send the amount that is meant",
            where="amount_usd",
        )


def _usd(cents: int) -> str:
    return f"{cents_to_usd(cents)} USD"
