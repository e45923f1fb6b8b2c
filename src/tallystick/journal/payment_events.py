"""Events of payment providers as the database holds them, and what became of each. An operator's transactions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from tallystick.billing.payment_fact import PaymentFact, PaymentState, decode_fact, encode_fact
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("payment_events")
_BILLING = load_queries("billing")


class Outcome(NamedTuple):
    """What became of an event.

    Attributes:
        code: why, where nothing was recorded.
        seqs: the entries of the org that are its payments; none where nothing was recorded.
        author: who says so: the provider, or a person.
    """

    state: PaymentState
    code: str | None
    detail: str
    org_id: str | None
    invoice_id: str | None
    seqs: tuple[int, ...]
    author: str
    at: datetime


class StoredEvent(NamedTuple):
    """An event, as its provider has confirmed it, and what became of it at last.

    Attributes:
        n: how often something has become of it; 0: not yet.
        outcome: None where nothing was done about it yet.
    """

    provider: str
    fact: PaymentFact
    received_at: datetime
    n: int
    outcome: Outcome | None

    @property
    def state(self) -> PaymentState:
        """How it stands."""
        return "pending" if self.outcome is None else self.outcome.state


class Counted(NamedTuple):
    """A payment that is counted: whose, for which invoice, as which entry, in cents (below nothing: it went back)."""

    org_id: str
    seq: int
    invoice_id: str
    amount_cents: int


class Place(NamedTuple):
    """Where in the list an event stands."""

    received_at: datetime
    event_id: str
    provider: str


def add_event(connection: Connection, provider: str, fact: PaymentFact, body_sha256: bytes, at: datetime) -> bool:
    """Keep an event, unless it is kept: whether it is new."""
    values = {
        "provider": provider,
        "event_id": fact.event_id,
        "type": fact.type,
        "payment_id": fact.payment_id,
        "livemode": fact.livemode,
        "body_sha256": body_sha256,
        "fact": encode_fact(fact),
        "received_at": at,
    }
    return connection.execute(_SQL["add_event"], values).rowcount == 1


def add_outcome(connection: Connection, provider: str, event_id: str, n: int, outcome: Outcome) -> bool:
    """Say what became of an event for the nth time, unless somebody has said so meanwhile: whether it was said now."""
    values = {**outcome._asdict(), "seqs": list(outcome.seqs), "provider": provider, "event_id": event_id, "n": n}
    return connection.execute(_SQL["add_outcome"], values).rowcount == 1


def find_event(connection: Connection, provider: str, event_id: str) -> StoredEvent | None:
    """An event; None for one that never came."""
    found = list_events(connection, provider=provider, event_id=event_id, limit=1)
    return found[0] if found else None


def list_events(
    connection: Connection,
    *,
    provider: str | None = None,
    event_id: str | None = None,
    payment_id: str | None = None,
    states: Sequence[PaymentState] | None = None,
    before: Place | None = None,
    limit: int,
) -> list[StoredEvent]:
    """Events, the newest first; None for any."""
    values = {
        "provider": provider,
        "event_id": event_id,
        "payment_id": payment_id,
        "states": None if states is None else list(states),
        "before": None if before is None else before.received_at,
        "before_id": None if before is None else before.event_id,
        "before_provider": None if before is None else before.provider,
        "limit": limit,
    }
    return [_event(*row) for row in connection.execute(_SQL["events"], values)]


def waiting_events(
    connection: Connection, *, codes: Collection[str], since: datetime, after: Place | None, limit: int
) -> list[Place]:
    """Where those stand that are pending, or unmatched for one of these reasons and received since an instant.

    Args:
        after: only those after this place; the oldest come first.
    """
    values = {
        "codes": list(codes),
        "since": since,
        "after": None if after is None else after.received_at,
        "after_id": None if after is None else after.event_id,
        "after_provider": None if after is None else after.provider,
        "limit": limit,
    }
    return [Place(*row) for row in connection.execute(_SQL["waiting"], values)]


def payments_counted(connection: Connection, payment_ids: Collection[str]) -> dict[str, Counted]:
    """By id (the provider, a colon, its own id), those of these payments that are counted, of whichever org."""
    rows = connection.execute(_BILLING["payments_counted"], {"payments": list(payment_ids)})
    return {payment_id: Counted(*rest) for payment_id, *rest in rows}


def wrong_outcomes(connection: Connection, org_id: str | None) -> list[tuple[str, str, str, int]]:
    """Outcomes that name entries which are no payments of their provider: (provider, event, org, sequence)."""
    return connection.execute(_SQL["wrong_outcomes"], {"org": org_id}).fetchall()


def _event(
    provider: str,
    _event_id: str,
    _type: str,
    _payment_id: str | None,
    _livemode: bool,
    fact: str,
    received_at: datetime,
    n: int,
    state: PaymentState,
    code: str | None,
    detail: str | None,
    org_id: str | None,
    invoice_id: str | None,
    seqs: list[int],
    author: str | None,
    at: datetime | None,
) -> StoredEvent:
    outcome = None
    if at is not None:
        says = (state, code, detail or "", org_id, invoice_id, tuple(seqs), author or "")
        outcome = Outcome(*says, at.astimezone(UTC))
    return StoredEvent(provider, decode_fact(fact), received_at.astimezone(UTC), n, outcome)
