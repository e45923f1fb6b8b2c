"""What a confirmed event of a payment provider moves: each movement once, on the invoice that it is for.

Nothing here is asked of the provider; the same fact again moves nothing more, whoever asks and however often.
"""

from __future__ import annotations

from typing import Final

from tallystick.app.invoice_actions import record_payment
from tallystick.app.invoices import find_invoice
from tallystick.app.runtime import Runtime
from tallystick.billing.payment_fact import Movement, PaymentFact, PaymentState, movement_usd
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.journal.invoices import InvoiceRow
from tallystick.journal.payment_events import Counted, Outcome, payments_counted

_WAITING: Final = frozenset(
    {
        "invoice_not_named", "invoice_not_clear", "unknown_invoice", "invoice_not_issued", "invoice_void",
        "test_invoice", "payment_not_counted",
    }
)  # fmt: skip
"""Why an event waits for somebody who says whose it is, or for what it depends on; other errors refuse it for good."""


def settle(runtime: Runtime, provider: str, fact: PaymentFact) -> Outcome:
    """Record what an event has moved, and say what became of it.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; doing it again is safe.
    """
    try:
        return settle_by_hand(runtime, provider, fact, None, provider)
    except Unavailable:
        raise
    except TallyError as error:
        state: PaymentState = "unmatched" if error.code in _WAITING else "refused"
        return Outcome(state, error.code, error.detail, None, None, (), provider, runtime.clock())


def settle_by_hand(runtime: Runtime, provider: str, fact: PaymentFact, reference: str | None, author: str) -> Outcome:
    """The same, on the invoice that a person names.

    Args:
        reference: the invoice's id, number or ORG/MONTH; None for what the collector has written.

    Raises:
        BadInput: `currency_not_supported`, `invalid_amount`.
        NotFound: `unknown_invoice`, `invoice_not_issued`, `invoice_not_named`.
        Conflict: `invoice_not_clear`, `invoice_void`, `test_invoice`, `more_than_was_paid`, `payment_not_counted`.
        Unavailable: as `settle`.
    """
    for movement in fact.movements:
        movement_usd(movement)  # all of them can be, or none is moved
    counted: list[Counted] = []
    for movement in fact.movements:
        if movement.what == "paid":
            counted += _paid(runtime, provider, fact, movement, reference, author)
            continue
        known = _counted(runtime, provider, movement)
        own, source = known.get(_id(provider, movement.id)), known.get(_id(provider, movement.of or ""))
        if own is None and not (movement.what == "reverted" and source is None):
            own = _record(runtime, provider, fact, movement, source, reference, author)
        if own is not None:
            counted.append(own)
    if not counted:
        why = fact.reason or "what it takes back was never counted"
        return Outcome("ignored", "moves_nothing", why, None, None, (), author, runtime.clock())
    first = counted[0]
    seqs = tuple(one.seq for one in counted if one.org_id == first.org_id)
    detail = f"{sum(one.amount_cents for one in counted)} cents for {first.invoice_id}"
    return Outcome("recorded", None, detail, first.org_id, first.invoice_id, seqs, author, runtime.clock())


def _paid(
    runtime: Runtime, provider: str, fact: PaymentFact, movement: Movement, reference: str | None, author: str
) -> list[Counted]:
    """Have all counted that came in by a payment: what is counted already, and the rest as one part more.

    A payment may be captured in parts, and an event tells of the sum so far. A part is known by the sum that was
    counted before it: so each cent counts once, whichever events come, in whatever order and however many at once.
    """
    parts: list[Counted] = []
    before = 0
    while before < movement.amount:
        name = f"{movement.id}:from:{before}" if parts else movement.id
        part = Movement(name, "paid", movement.amount - before, movement.currency)
        own = _counted(runtime, provider, part).get(_id(provider, name))
        if own is None:
            own = _record(runtime, provider, fact, part, parts[0] if parts else None, reference, author)
        parts.append(own)
        if own.amount_cents <= 0:  # somebody has said of it, by hand, that it went back
            break
        before += own.amount_cents
    return parts


def _record(
    runtime: Runtime,
    provider: str,
    fact: PaymentFact,
    movement: Movement,
    source: Counted | None,
    reference: str | None,
    author: str,
) -> Counted:
    """Have a movement counted that is not yet, and say as what it is."""
    if source is not None:
        org_id, invoice_id = source.org_id, source.invoice_id
    elif movement.what == "paid":
        row = _invoice(runtime, fact, reference)
        org_id, invoice_id = row.org_id, row.invoice_id
    else:
        raise Conflict(
            "payment_not_counted",
            f"{movement.id} gives back money of {movement.of}, which is not counted here",
            next_step="nothing moved; it is done as soon as that payment is counted",
        )
    said = {
        "request_id": movement.id,
        "provider": provider,
        "amount_usd": movement_usd(movement),
        "returned": movement.what == "returned",
        "reference": fact.payment_id,
        "author": author,
    }
    try:
        done = record_payment(runtime, invoice_id, said, org_id=org_id)
    except Conflict as error:
        if error.code != "request_id_conflict":
            raise
        own = _counted(runtime, provider, movement).get(_id(provider, movement.id))
        if own is None:
            raise
        return own  # somebody else was first, with other words: it is counted
    cents = -movement.amount if movement.what == "returned" else movement.amount
    return Counted(org_id, done.recorded.seq, invoice_id, cents)


def _invoice(runtime: Runtime, fact: PaymentFact, reference: str | None) -> InvoiceRow:
    """The invoice that money is for."""
    references = fact.references if reference is None else (reference,)
    if not references:
        raise NotFound(
            "invoice_not_named",
            "nothing at the payment says which invoice it is for",
            next_step="say it by hand: tally payments assign; and have the collector write invoice_number to the "
            "payment's metadata",
        )
    try:
        rows = {row.invoice_id: row for row in (find_invoice(runtime, name).row for name in references)}
    except BadInput as error:  # no month of that name
        raise NotFound("unknown_invoice", error.detail, next_step=error.next_step, where=error.where) from None
    row = next(iter(rows.values()))
    if reference is None and (len(rows) > 1 or fact.org_id not in (None, row.org_id)):
        raise Conflict(
            "invoice_not_clear",
            "what the payment says of its invoice and its org does not belong together",
            next_step="say by hand whose it is: tally payments assign",
        )
    if fact.livemode and runtime.is_test_org(row.org_id):
        raise Conflict(
            "test_invoice",
            f"{row.org_id} is a test org: real money is not for its invoices",
            next_step="say by hand whose it is: tally payments assign",
        )
    return row


def _counted(runtime: Runtime, provider: str, movement: Movement) -> dict[str, Counted]:
    names = [_id(provider, name) for name in (movement.id, movement.of) if name]
    with runtime.database.operator() as connection:
        return payments_counted(connection, names)


def _id(provider: str, name: str) -> str:
    return f"{provider}:{name}"
