"""What endpoints are told of disputes: each step but the evidence, with the dispute as it stands then."""

from __future__ import annotations

from typing import Any

from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd, pico_to_usd
from tallystick.core.webhook_events import NewEvent
from tallystick.dispute.model import DisputeAccount, DisputeEvent
from tallystick.ledger.operation_ids import operation_id

_TYPES = {
    "opened": "dispute.opened",
    "review_begun": "dispute.under_review",
    "upheld": "dispute.upheld",
    "rejected": "dispute.rejected",
    "withdrawn": "dispute.withdrawn",
}


def news_of(org_id: str, dispute: DisputeAccount, event: DisputeEvent) -> NewEvent | None:
    """What is to be told of a step; None of one that is nobody's news.

    Args:
        dispute: as it stands after the step.
    """
    if event.step not in _TYPES:
        return None
    data: dict[str, Any] = {
        "org_id": org_id,
        "dispute_id": operation_id("dispute", dispute.seq),
        "state": dispute.state,
        "what": dispute.what,
        "invoice_id": dispute.invoice_id,
        "line": dispute.line,
        "requests": len(dispute.entries),
        "disputed_usd": cents_to_usd(dispute.disputed_cents),
        "disputed_credits": pico_to_usd(dispute.credits_pico),
        "upheld_usd": cents_to_usd(dispute.upheld_cents),
        "upheld_credits": pico_to_usd(sum(one.amount_pico for one in dispute.upheld)),
        "answer_due_at": format_instant(dispute.answer_due_at),
        "entry_seq": event.seq,
    }
    return NewEvent(org_id, _TYPES[event.step], str(event.seq), data, event.at)
