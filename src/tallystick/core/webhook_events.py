"""What webhooks tell of: the types of events, the patterns by which endpoints choose among them, and how one is known.

An event is known by its org, its type and its key. Its id, which receivers see as `webhook-id`, follows from these
three alone: added again, sent again or replayed, it stays the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from tallystick.core.errors import BadInput

EVENT_TYPES: Final[Mapping[str, str]] = {
    "invoice.finalized": "an invoice was issued: it has a number, and is due",
    "invoice.paid": "nothing is left to be paid of an invoice",
    "invoice.credited": "a credit note took a part of an invoice back",
    "invoice.voided": "all that was left of an invoice was taken back",
    "payment.recorded": "money came in for an invoice",
    "payment.returned": "money that was paid for an invoice went back",
    "dispute.opened": "a customer disputes an invoice, a line or requests",
    "dispute.under_review": "a dispute is looked at",
    "dispute.upheld": "a dispute was right: the customer has a credit",
    "dispute.rejected": "a dispute was not right",
    "dispute.withdrawn": "the customer withdrew a dispute",
    "alert.firing": "something needs to be looked at",
    "alert.resolved": "it does not any more",
    "webhook.ping": "a test; sent to the endpoint that is tested, whatever it chose",
    "webhook.disabled": "an endpoint was disabled after nothing but failures; to operators' endpoints alone",
}
"""The list is open: receivers leave alone what they do not know."""

TYPE: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")
_FAMILY: Final = re.compile(r"((?:[a-z][a-z0-9_]*\.)+)\*")
EVENT_ID_PREFIX: Final = "msg_"
_ID_PREFIX: Final = b"tallystick webhook event v1\n"
PATTERNS_MAX: Final = 50


class NewEvent(NamedTuple):
    """Something to tell.

    Attributes:
        org_id: whose endpoints get it, besides operators'; None: operators' alone.
        type: of `EVENT_TYPES`, or another of that form.
        key: what it is known by within org and type.
        data: objects, arrays, text, integers below 2**53, booleans and null; amounts are text.
        at: when it happened, by the org's clock.
    """

    org_id: str | None
    type: str
    key: str
    data: Mapping[str, Any]
    at: datetime


def event_id_of(org_id: str | None, event_type: str, key: str) -> str:
    """The id of the event that is known by these three."""
    named = json.dumps([org_id, event_type, key], ensure_ascii=False, separators=(",", ":")).encode()
    return EVENT_ID_PREFIX + sha256(_ID_PREFIX + named).hexdigest()[:32]


def is_chosen(event_type: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is the type, `*`, or its family such as `invoice.*`."""
    return any(
        pattern in ("*", event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )


def checked_patterns(patterns: Iterable[str]) -> list[str]:
    """The patterns, each once and sorted.

    Raises:
        BadInput: `missing_field`, `unknown_event_type`.
    """
    given = sorted(set(patterns))
    if not given:
        raise BadInput(
            "missing_field",
            "an endpoint chooses which events it gets",
            next_step="give types such as invoice.paid or invoice.*; * for all",
            where="types",
        )
    for pattern in given:
        if pattern != "*" and not any(is_chosen(known, [pattern]) for known in EVENT_TYPES):
            raise BadInput(
                "unknown_event_type",
                f"{pattern[:80]!r} is no type of events, and no family of them",
                next_step="see the types: tally webhooks types",
                where="types",
            )
    if len(given) > PATTERNS_MAX:
        raise BadInput(
            "too_many_event_types",
            f"an endpoint names {PATTERNS_MAX} types at most",
            next_step="name families such as invoice.*, or * for all",
            where="types",
        )
    return given
