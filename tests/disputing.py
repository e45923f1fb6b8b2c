"""What the tests of disputes share: an org with a closed month, and what is disputed and decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from billing import OCTOBER, SELLER
from invoicing import apply, event, record, subscribe
from tallystick.app.disputes import DoneDispute, open_dispute, uphold_dispute
from tallystick.app.invoice_life import InvoiceLife, finalize_month
from tallystick.app.runtime import Runtime

TIERED = SELLER.replace(
    "  enterprise:",
    """  tiered:
    title: Tiered
    base: "0"
    prices:
      tokens_in:
        graduated:
          - {up_to: 1000, unit: "0.01"}
          - {unit: "0.02"}
  enterprise:""",
)


def tiered_org(runtime: Runtime, *orgs: str) -> list[InvoiceLife]:
    """Orgs whose October comes to 1,000 × 0.01 + 500 × 0.02 = 20.00 USD, in requests a, b and c of 500 each."""
    apply(runtime, TIERED)
    for org_id in orgs or ("globex",):
        subscribe(runtime, org_id, "tiered")
        record(runtime, [event(one, org_id, meters={"tokens_in": 500}) for one in ("a", "b", "c")])
    lives = []
    for result in finalize_month(runtime, OCTOBER, orgs or ("globex",)):
        assert result.life is not None, result.error
        lives.append(result.life)
    return lives


def november(request_id: str, org_id: str = "globex", **more: Any) -> Any:
    """A request of the month after, which is open."""
    return event(request_id, org_id, time=datetime(2026, 11, 2, 1, tzinfo=UTC), **more)


def said(request_id: str = "d1", **more: Any) -> dict[str, Any]:
    """A dispute as it is sent."""
    return {"request_id": request_id, "author": "bob@globex.example", "reason": "that was not us", **more}


def dispute(runtime: Runtime, request_id: str = "d1", **more: Any) -> DoneDispute:
    """Open a dispute."""
    return open_dispute(runtime, said(request_id, **more))


def dispute_requests(runtime: Runtime, *ids: str, request_id: str = "d1", org_id: str = "globex") -> DoneDispute:
    """Dispute requests of an org."""
    return dispute(runtime, request_id, org_id=org_id, request_ids=list(ids))


def id_of(done: DoneDispute) -> str:
    """The dispute's id."""
    return str(done.as_dict()["dispute_id"])


DECIDED = {"author": "ann@seller.example", "reason": "you are right"}


def uphold(runtime: Runtime, done: DoneDispute, org_id: str = "globex", **more: Any) -> dict[str, Any]:
    """Uphold a dispute: how it stands then."""
    return uphold_dispute(runtime, id_of(done), {**DECIDED, **more}, org_id=org_id).as_dict()
