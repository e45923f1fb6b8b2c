"""Events of payment providers: taken as they come, listed, tried again, and given to an invoice by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tallystick.app.audit import Act, record_act
from tallystick.app.payment_settle import settle, settle_by_hand
from tallystick.app.payments.providers import find_adapter
from tallystick.app.runtime import Runtime
from tallystick.billing.payment_fact import PAYMENT_STATES, PaymentFact, PaymentState
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant, parse_instant
from tallystick.journal.payment_events import (
    Outcome,
    Place,
    StoredEvent,
    add_event,
    add_outcome,
    find_event,
    list_events,
)
from tallystick.journal.steps import reached

LISTED_MAX = 1000
_RELATED_MAX = 1000


@dataclass(frozen=True, slots=True)
class TakenEvent:
    """An event and what became of it; `is_new` tells whether it came for the first time."""

    stored: StoredEvent
    is_new: bool

    def receipt(self) -> dict[str, Any]:
        """What its sender is told: nothing of whose it is."""
        outcome = self.stored.outcome
        return {
            "provider": self.stored.provider,
            "event_id": self.stored.fact.event_id,
            "type": self.stored.fact.type,
            "state": self.stored.state,
            "code": None if outcome is None else outcome.code,
            "is_new": self.is_new,
        }


def event_members(stored: StoredEvent) -> dict[str, Any]:
    """An event as plain JSON members, for operators."""
    fact, outcome = stored.fact, stored.outcome
    return {
        "provider": stored.provider,
        "event_id": fact.event_id,
        "type": fact.type,
        "payment_id": fact.payment_id,
        "livemode": fact.livemode,
        "received_at": format_instant(stored.received_at),
        "movements": [
            {"id": one.id, "what": one.what, "amount": one.amount, "currency": one.currency} for one in fact.movements
        ],
        "said_invoice_id": fact.invoice_id,
        "said_invoice_number": fact.invoice_number,
        "said_org_id": fact.org_id,
        "state": stored.state,
        "code": None if outcome is None else outcome.code,
        "detail": None if outcome is None else outcome.detail,
        "org_id": None if outcome is None else outcome.org_id,
        "invoice_id": None if outcome is None else outcome.invoice_id,
        "entries": [] if outcome is None else list(outcome.seqs),
        "author": None if outcome is None else outcome.author,
        "at": None if outcome is None else format_instant(outcome.at),
    }


def take_callback(runtime: Runtime, provider: str, headers: Mapping[str, str], body: bytes) -> TakenEvent:
    """Take a provider's callback: check who has signed it, ask the provider, and do what follows from its answer.

    The same event again does nothing more. It may be killed anywhere: what was done stays done, and the next time goes
    on from there.

    Args:
        headers: by name in lower case.
        body: the bytes as they came.

    Raises:
        NotFound: `unknown_provider`.
        BadInput: `invalid_signature`, `invalid_callback`; `payment_event_unverified`, `payment_mode_mismatch`,
            `payment_account_mismatch`: nothing is kept of it.
        Unavailable: `payment_provider_unavailable`, `payment_library_missing`, `database_unreachable`, `journal_busy`:
            it is to be sent again.
    """
    return take_event(runtime, provider, signed_event(runtime, provider, headers, body), sha256(body).digest())


def signed_event(runtime: Runtime, provider: str, headers: Mapping[str, str], body: bytes) -> str:
    """The id of the event that a callback tells of, which its provider has signed. Nobody is asked, and nothing read.

    Raises:
        NotFound, BadInput, Unavailable: as `take_callback`, of the signature and the body.
    """
    return find_adapter(runtime.settings, provider).verify(headers, body)


def take_event(runtime: Runtime, provider: str, event_id: str, body_sha256: bytes) -> TakenEvent:
    """Ask the provider about an event that it has signed, and do what follows from its answer.

    Raises:
        NotFound, BadInput, Unavailable: as `take_callback`.
    """
    stored = _find(runtime, provider, event_id)
    is_new = False
    if stored is None:
        fact = find_adapter(runtime.settings, provider).fetch(event_id)
        reached("payments.verified")
        with runtime.database.operator() as connection:
            is_new = add_event(connection, provider, fact, body_sha256, runtime.clock())
        reached("payments.kept")
        stored = find_payment_event(runtime, provider, event_id)
    if stored.outcome is None:
        stored = _try(runtime, stored)
    return TakenEvent(stored, is_new)


def find_payment_event(runtime: Runtime, provider: str, event_id: str) -> StoredEvent:
    """An event that came.

    Raises:
        NotFound: `unknown_payment_event`.
        Unavailable: `database_unreachable`.
    """
    stored = _find(runtime, provider, event_id)
    if stored is None:
        raise NotFound(
            "unknown_payment_event",
            f"no event {event_id[:80]!r} of {provider[:64]!r} has come",
            next_step="see which have: tally payments list",
            where="event_id",
        )
    return stored


def list_payment_events(
    runtime: Runtime,
    *,
    state: str | None = None,
    provider: str | None = None,
    cursor: str | None = None,
    limit: int = LISTED_MAX,
) -> list[StoredEvent]:
    """Events of payment providers, the newest first.

    Args:
        state: only those that stand so.
        cursor: what `event_cursor` gave for the last one that is known.

    Raises:
        BadInput: `unknown_state`, `invalid_cursor`.
        Unavailable: `database_unreachable`.
    """
    states = None if state is None else [_state(state)]
    before = None if cursor is None else _place(cursor)
    with runtime.database.operator() as connection:
        return list_events(connection, provider=provider, states=states, before=before, limit=min(limit, LISTED_MAX))


def event_cursor(stored: StoredEvent) -> str:
    """What names an event's place in a list."""
    return f"{format_instant(stored.received_at)}/{stored.provider}/{stored.fact.event_id}"


def retry_event(runtime: Runtime, provider: str, event_id: str) -> StoredEvent:
    """Try once more what an event has moved: its invoice may have been issued meanwhile, or the server was killed.

    What is recorded or ignored stays as it is.

    Raises:
        NotFound: `unknown_payment_event`.
        Unavailable: `database_unreachable`, `journal_busy`.
    """
    stored = find_payment_event(runtime, provider, event_id)
    return stored if stored.state in ("recorded", "ignored") else _try(runtime, stored)


def assign_event(runtime: Runtime, provider: str, event_id: str, reference: str, author: str) -> StoredEvent:
    """Give the money that an event tells of to an invoice, by hand.

    Args:
        reference: the invoice's id, number or ORG/MONTH.
        author: who says so.

    Raises:
        NotFound: `unknown_payment_event`, `unknown_invoice`, `invoice_not_issued`.
        Conflict: `payment_event_settled`; `invoice_void`, `test_invoice`, `more_than_was_paid`; the payment is counted
            for another invoice: `payment_counted_elsewhere`.
        BadInput: `currency_not_supported`, `invalid_amount`.
        Unavailable: `database_unreachable`, `journal_busy`; doing it again is safe.
    """
    from tallystick.app.invoices import find_invoice

    stored = find_payment_event(runtime, provider, event_id)
    wanted = find_invoice(runtime, reference).row
    if stored.state not in ("unmatched", "pending"):
        if stored.outcome is not None and stored.outcome.invoice_id == wanted.invoice_id:
            return stored
        raise Conflict(
            "payment_event_settled",
            f"the event {event_id} is {stored.state} already",
            next_step="see what became of it: tally payments list; what went to another invoice is put right by "
            "recording it as returned there: tally invoice pay --returned",
            where="event_id",
        )
    outcome = settle_by_hand(runtime, provider, stored.fact, wanted.invoice_id, author)
    stored = _say(runtime, stored, outcome, by_hand=True)
    if outcome.invoice_id not in (None, wanted.invoice_id):
        raise Conflict(
            "payment_counted_elsewhere",
            f"the payment is counted already, for {outcome.invoice_id} of {outcome.org_id}",
            next_step="nothing moved: a payment counts once",
            where="invoice",
        )
    _go_on(runtime, stored)
    return stored


def _try(runtime: Runtime, stored: StoredEvent) -> StoredEvent:
    stored = _say(runtime, stored, settle(runtime, stored.provider, stored.fact))
    _go_on(runtime, stored)
    return stored


def _go_on(runtime: Runtime, stored: StoredEvent) -> None:
    """A payment is counted: what waited for it, such as its refund, is done now."""
    payment_id = stored.fact.payment_id
    if stored.state != "recorded" or payment_id is None:
        return
    with runtime.database.operator() as connection:
        waiting = list_events(
            connection, provider=stored.provider, payment_id=payment_id, states=["unmatched"], limit=_RELATED_MAX
        )
    for one in reversed(waiting):
        _say(runtime, one, settle(runtime, one.provider, one.fact))


def _say(runtime: Runtime, stored: StoredEvent, outcome: Outcome, *, by_hand: bool = False) -> StoredEvent:
    """Keep what became of an event, where that is something new; by hand, it is an act of somebody's."""
    said = stored.outcome
    if said is not None and (said.state, said.code, said.detail) == (outcome.state, outcome.code, outcome.detail):
        return stored
    reached("payments.settled")
    fact: PaymentFact = stored.fact
    with runtime.database.operator() as connection:
        is_said = add_outcome(connection, stored.provider, fact.event_id, stored.n + 1, outcome)
        found = find_event(connection, stored.provider, fact.event_id)
        if is_said and by_hand:
            record_act(connection, _act(stored, outcome))
    if found is None or is_said or outcome.state != "recorded" or found.state == "recorded":
        return stored if found is None else found
    return _say(runtime, found, outcome, by_hand=by_hand)  # somebody who had looked before said that it waits


def _act(stored: StoredEvent, outcome: Outcome) -> Act:
    after = {"state": outcome.state, "invoice_id": outcome.invoice_id, "entries": list(outcome.seqs)}
    return Act(
        "payment_event.assign",
        f"{stored.provider}/{stored.fact.event_id}",
        outcome.at,
        outcome.org_id,
        outcome.author,
        before={"state": stored.state},
        after=after,
    )


def _find(runtime: Runtime, provider: str, event_id: str) -> StoredEvent | None:
    if "\0" in provider + event_id:
        return None
    with runtime.database.operator() as connection:
        return find_event(connection, provider, event_id)


def _state(state: str) -> PaymentState:
    for known in PAYMENT_STATES:
        if state == known:
            return known
    raise BadInput(
        "unknown_state",
        f"no event is {state!r:.40}",
        next_step="name one of " + ", ".join(PAYMENT_STATES),
        where="state",
    )


def _place(cursor: str) -> Place:
    at, _, rest = cursor.partition("/")
    provider, slash, event_id = rest.partition("/")
    refused = BadInput(
        "invalid_cursor",
        f"{cursor[:60]!r} is no cursor of this list",
        next_step="use the next_cursor of the page before, or none for the first page",
        where="cursor",
    )
    if not slash or "\0" in cursor:
        raise refused
    try:
        return Place(parse_instant(at), event_id, provider)
    except BadInput:
        raise refused from None
