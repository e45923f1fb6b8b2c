"""A usage event: one raw fact, as it arrived. It is checked once, here, and never changed after."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from tallystick.core.struct_types import work_out

Outcome = Literal["success", "empty", "failure"]
UsageStatus = Literal["final", "partial", "estimated"]
Payer = Literal["seller", "customer"]


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One raw usage fact. Its identity is (`org_id`, `request_id`).

    Attributes:
        org_id: the customer.
        request_id: the caller's id of the request; a retry sends the same one.
        time: when the action completed, in UTC; the billing month is the one it falls in.
        user_id: who acted; a pseudonym, never a name or an address.
        session_id: the conversation or job it belongs to.
        feature: the product feature.
        environment: such as production, staging, development.
        model: the model as the provider named it; for an event without a model call, the tool or route.
        provider: who answered ("openai"); None for an event without a model call.
        meters: quantity by meter, whole numbers, zero or more; classes of tokens never overlap.
        api_key_id: the id (never the secret) of the key that was used.
        action: the contract's action, when the event belongs to one.
        latency_ms: how long the call took.
        outcome: `success`, `empty` (it worked, and found nothing) or `failure`.
        usage_status: `final`, `partial` (the answer broke off) or `estimated` (the provider gave no usage).
        price_context: what else decides the price, as served: `service_tier` (batch, flex, priority, fast),
            `speed`, `route`, `search_type`, `inference_geo`.
        provider_cost_pico: what the provider itself says the call cost, in pico-USD, when it says so.
        payer: who pays the provider: `seller`, we do; `customer`, a key of the customer's own did, and the cost is
            recorded, and is none of ours.
        attributes: whatever else the caller wants to find again.
    """

    org_id: str
    request_id: str
    time: datetime
    user_id: str
    session_id: str
    feature: str
    environment: str
    model: str
    meters: dict[str, int]
    provider: str | None = None
    api_key_id: str | None = None
    action: str | None = None
    latency_ms: int | None = None
    outcome: Outcome = "success"
    usage_status: UsageStatus = "final"
    price_context: dict[str, str] = {}
    provider_cost_pico: int | None = None
    payer: Payer = "seller"
    attributes: dict[str, str] = {}


work_out(UsageEvent)
