"""What is done to events before any lock is taken: price, encode and fingerprint them. It is pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec

from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_MAX
from tallystick.journal.copy_rows import (
    event_texts,
    ids_and_tables,
    instant_of,
    meter_names,
    microseconds,
    numbers,
    pricing_fields,
)
from tallystick.ledger.encoding import SALT_BYTES, core_json, fingerprint, personal_json
from tallystick.ledger.entry import entry_template, instant_json, known, unknown
from tallystick.rates.model import CostStatus
from tallystick.rates.steps import CostRow, Integers
from tallystick.usage.event import UsageEvent

Key = tuple[str, str]
"""Org and request id: the identity of an event."""


class Card(Protocol):
    """What the writer needs of a rate card: a pure price for an event."""

    def price_row(self, event: UsageEvent) -> CostRow: ...


class Refusal(NamedTuple):
    """Why an event is not written, should it not be stored already."""

    code: str
    reason: str


# Made for every event, so they are msgspec's: built in C.
class Row(msgspec.Struct, gc=False):
    """An event as it will be written: whole, but for what is known only under the head's lock."""

    entry_json: bytes
    tail: bytes
    """Of its row, after what `row_head` gives."""
    time_us: int
    time_json: bytes
    salt: bytes
    fingerprint: bytes
    cost_pico: int | None
    status: CostStatus
    rate_version: str
    reason: str | None
    recorded_at: datetime
    our_cost_pico: int = 0
    """What of it we pay: nothing where it has no price yet, or the customer's own key paid."""
    refusal: Refusal | None = None


class Batch(NamedTuple):
    """Events, priced and encoded, ready to be written."""

    events: Sequence[UsageEvent]
    keys: list[Key]
    rows: list[Row]
    recorded_at: datetime


_key = attrgetter("org_id", "request_id")
_texts = attrgetter(
    "org_id", "feature", "environment", "provider", "model", "api_key_id", "action", "outcome", "usage_status", "payer"
)


def prepare(
    events: Sequence[UsageEvent],
    recorded_at: datetime,
    card: Card,
    salts: bytes,
    *,
    known_since: datetime | None = None,
) -> Batch:
    """Price, encode and fingerprint the events. It is pure, and may be done while others are written.

    Args:
        events: checked ones.
        recorded_at: the present instant.
        card: prices them.
        salts: `SALT_BYTES` random bytes for each event.
        known_since: an event of before is not taken, unless it is stored. None: any is.
    """
    recorded_us, recorded_json = microseconds(recorded_at), instant_json(recorded_at)
    price, known_since_us = card.price_row, None if known_since is None else microseconds(known_since)
    rows = []
    for number, event in enumerate(events):
        salt = salts[number * SALT_BYTES : (number + 1) * SALT_BYTES]
        core = core_json(event)
        session_id, user_id, attributes = event.session_id, event.user_id, event.attributes
        digest = fingerprint(salt, core, personal_json(session_id, user_id, attributes))
        time_us, cost = microseconds(event.time), price(event)
        if not fits(cost.total_pico, cost.amount_pico):
            rows.append(_refused(event, salt, digest, recorded_at, _OUT_OF_RANGE))
            continue
        if known_since_us is not None and time_us < known_since_us:
            rows.append(_refused(event, salt, digest, recorded_at, too_old(known_since_us)))
            continue
        total, status, reason = cost.total_pico, cost.status, cost.reason
        amounts, quantities = cost.amount_pico, cost.quantities
        template, pricing = _priced_alike(
            cost.meters, cost.price_pico, cost.per, cost.models, unknown(amounts), cost.rate_version, status, reason
        )
        entry_json = template % (
            *(amounts if total is not None else known(amounts)),
            *quantities,
            *(() if total is None else (total,)),
            core,
            digest.hex().encode(),
            recorded_json,
        )
        meters = event.meters
        names, names_field = meter_names(tuple(meters))
        tail = b"".join(
            (
                event_texts(*_texts(event)),
                names_field,
                pricing,
                numbers(
                    time_us,
                    recorded_us,
                    [meters[name] for name in names],
                    quantities,
                    amounts,
                    total,
                    event.latency_ms,
                    event.provider_cost_pico,
                ),
                ids_and_tables(event.request_id, user_id, session_id, salt, digest, event.price_context, attributes),
            )
        )
        rows.append(
            Row(
                entry_json,
                tail,
                time_us,
                instant_json(event.time),
                salt,
                digest,
                total,
                status,
                cost.rate_version,
                reason,
                recorded_at,
                total if total is not None and event.payer == "seller" else 0,
            )
        )
    return Batch(events, list(map(_key, events)), rows, recorded_at)


@lru_cache(maxsize=1 << 14)
def _priced_alike(
    meters: tuple[str, ...],
    price_pico: Integers,
    per: Integers,
    models: tuple[str | None, ...] | None,
    without_amount: tuple[bool, ...] | None,
    rate_version: str,
    status: str,
    reason: str | None,
) -> tuple[bytes, bytes]:
    """What events that are priced alike have in common: the template of E, and fields of the row."""
    priced = status != "unpriced"
    return (
        entry_template("usage", meters, price_pico, per, models, without_amount, rate_version, status, reason, priced),
        pricing_fields(rate_version, status, reason, meters, price_pico, per, models),
    )


def _refused(event: UsageEvent, salt: bytes, digest: bytes, recorded_at: datetime, refusal: Refusal) -> Row:
    return Row(b"", b"", 0, b"", salt, digest, None, "unpriced", "", None, recorded_at, 0, refusal)


_OUT_OF_RANGE = Refusal("cost_out_of_range", "its cost is beyond what one entry can hold, about 9.2 million USD")


def too_old(known_since_us: int) -> Refusal:
    return Refusal(
        "outside_dedup_window",
        f"it is of before {format_instant(instant_of(known_since_us))}, since when repeated events are known as such: "
        "it cannot be told from one that is counted already",
    )


def fits(total_pico: int | None, amount_pico: Sequence[int | None]) -> bool:
    """Whether every amount fits an entry's bigint columns."""
    if total_pico is not None and not -PICO_MAX <= total_pico <= PICO_MAX:
        return False
    for amount in amount_pico:  # noqa: SIM110 - a generator takes twice as long, and this runs for every event
        if amount is not None and not -PICO_MAX <= amount <= PICO_MAX:
            return False
    return True
