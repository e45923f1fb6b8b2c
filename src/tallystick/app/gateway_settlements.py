"""What ends a call through the gateway: its usage as events, its settlement or release, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from tallystick.app.answer_parts import pico_to_credits, total
from tallystick.app.gateway_calls import Call
from tallystick.app.operate import new_salt
from tallystick.app.release import checked_release
from tallystick.app.runtime import Runtime
from tallystick.app.settle import checked_settle
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.ledger.operations import Operation, Recorded, Settle, SettleEvent
from tallystick.ledger.receipt import Receipt
from tallystick.ledger.request_checks import FROM_HOLD, complete_event
from tallystick.usage.checks import sound_event
from tallystick.usage.event import Outcome, Payer, UsageEvent, UsageStatus
from tallystick.usage.extract import Extracted, Part

_NO_MODEL = "-"
_OF_HOLD = {"user_id": "-", "session_id": "-", "feature": "-", "environment": "-"}
"""Stands for what an event takes from its hold."""


class Used(NamedTuple):
    """What a call has used, as its usage events say it.

    Attributes:
        extracted: what the provider's answer says, or the estimate of it; None where there is nothing to count.
        more_meters: counted besides, such as `egress_bytes`.
        attributes: what is kept to find it again: the provider's request id and status.
        tool: the tool that was called, where it is no model.
        status: how far its quantities can be trusted where there is nothing to count.
        is_refused: the provider refused the call, so that it used nothing.
    """

    outcome: Outcome
    time: datetime
    latency_ms: int
    extracted: Extracted | None = None
    more_meters: Mapping[str, int] = {}
    attributes: Mapping[str, str] = {}
    tool: str | None = None
    status: UsageStatus = "final"
    is_refused: bool = False

    def without_names(self) -> Used:
        """The same without whatever text the provider has sent: its quantities, under the model that was asked for."""
        found = self.extracted
        if found is not None:
            parts = tuple(Part(part.meters) for part in found.parts)
            found = replace(found, model=None, parts=parts, price_context={})
        return self._replace(extracted=found, attributes={})


def settle_operation(runtime: Runtime, held: Recorded, used: Used) -> Operation:
    """What settles a call's hold with its usage; it waits for nothing.

    Raises:
        BadInput, Problems: the provider's figures cannot be recorded.
    """
    events = usage_events(held, used)
    if used.is_refused and _has_no_price(runtime, events[0]):
        events[0]["provider_cost_pico"] = 0  # what was refused has cost nothing, whatever the model's price may be
    known_meters, now = runtime.known_meters(), runtime.clock()
    sound = [
        sound_event({**_OF_HOLD, "org_id": held.org_id, **event}, now=now, known_meters=known_meters)
        for event in events
    ]
    if None in sound:  # it is told what is wrong
        raw = {"org_id": held.org_id, "hold_id": f"h{held.seq}", "outcome": used.outcome, "events": events}
        return checked_settle(runtime, raw, known_meters)
    found = [event for event in sound if event is not None]
    return Operation(
        org_id=held.org_id,
        kind="settlement",
        request_id=f"h{held.seq}",
        request=Settle(hold_seq=held.seq, outcome=used.outcome, events=tuple([event.request_id for event in found])),
        salt=new_salt(runtime),
        events=tuple([SettleEvent(event, FROM_HOLD) for event in found]),
    )


def _has_no_price(runtime: Runtime, event: Mapping[str, Any]) -> bool:
    provider = event.get("provider")
    return provider is not None and runtime.card.resolve(provider, event["model"]) is None


def release_operation(runtime: Runtime, held: Recorded, reason: str) -> Operation:
    """What gives a hold back; it waits for nothing."""
    return checked_release(runtime, {"org_id": held.org_id, "hold_id": f"h{held.seq}", "reason": reason})


HOLD_IS_OVER = frozenset({"hold_expired", "hold_resolved"})
"""Why a hold cannot be settled any more: usage that comes now is recorded without it."""
ID_IS_TAKEN = frozenset({"request_id_conflict", "usage_settled_already", "usage_before_hold"})
"""Why usage cannot be settled under its id: somebody else has sent usage under it."""


def under_own_ids(settlement: Operation) -> Operation:
    """The same settlement with ids for its usage that nobody else gives: those that are taken, and the hold's."""
    request = settlement.request
    assert isinstance(request, Settle)  # noqa: S101 - it is one
    renamed = tuple(
        [
            msgspec.structs.replace(
                one, event=msgspec.structs.replace(one.event, request_id=f"{one.event.request_id}~h{request.hold_seq}")
            )
            for one in settlement.events
        ]
    )
    ids = tuple([one.event.request_id for one in renamed])
    return msgspec.structs.replace(settlement, request=msgspec.structs.replace(request, events=ids), events=renamed)


class OfHold(msgspec.Struct, frozen=True, kw_only=True):
    """What usage events take from their hold, as `ledger.request_checks.FROM_HOLD` names it."""

    user_id: str
    session_id: str
    feature: str
    environment: str
    api_key_id: str
    action: str | None = None
    payer: Payer = "seller"


def of_hold(call: Call) -> OfHold:
    """What the usage events of a call take from its hold."""
    return OfHold(
        user_id=call.user_id,
        session_id=call.session_id,
        feature=call.feature,
        environment=call.environment,
        api_key_id=call.api_key_id,
        action=call.action,
        payer=call.payer or "seller",
    )


def hold_events(shared: OfHold, settlement: Operation) -> list[UsageEvent]:
    """The events of a settlement with all that they take from their hold: as they are sent without it."""
    members = msgspec.structs.asdict(shared)
    return [complete_event(one, members) for one in settlement.events]


def record_unsettled(runtime: Runtime, call: Call, held: Recorded, settlement: Operation) -> Future[CallFigures]:
    """Record the usage of a call whose hold is over already: it is costed, and charged no credits.

    Raises:
        Unavailable: as `Runtime.submit`; also as the future's error.
    """
    figures: Future[CallFigures] = Future()

    def done(written: Future[list[Receipt]]) -> None:
        error = written.exception()
        if error is not None:
            figures.set_exception(error)
        else:
            figures.set_result(_figures_of_receipts(held, written.result()))

    runtime.submit(hold_events(of_hold(call), settlement)).add_done_callback(done)
    return figures


def queued_figures(held: Recorded) -> CallFigures:
    """What is told of a call whose settlement is on disk, and not in the ledger yet."""
    return CallFigures(held.request_id, None, None, None, None, f"h{held.seq}", "queued")


def _figures_of_receipts(held: Recorded, receipts: Sequence[Receipt]) -> CallFigures:
    costs = [receipt.cost_pico for receipt in receipts]
    cost = None if None in costs else pico_to_usd(sum(cost for cost in costs if cost is not None))
    first = receipts[0]
    return CallFigures(held.request_id, first.seq, cost, "0", None, f"h{held.seq}", first.cost_status)


def usage_events(held: Recorded, used: Used) -> list[dict[str, Any]]:
    """The usage of a call as events of its settlement: one, or one for each sampling that is billed by itself.

    The first has the hold's request id, the others that with `/2`, `/3`, ... What is counted besides the provider's
    figures, and what the provider itself says that it cost, is the first's.
    """
    found = used.extracted
    asked: Any = held.request
    status: UsageStatus = used.status if found is None else found.status
    shared: dict[str, Any] = {
        "time": format_instant(used.time),
        "latency_ms": used.latency_ms,
        "outcome": used.outcome,
        "usage_status": status,
    }
    if used.attributes:
        shared["attributes"] = dict(used.attributes)
    provider = asked.provider if found is None else found.provider
    if provider is not None:
        shared["provider"] = provider
    if found is not None and found.price_context:
        shared["price_context"] = dict(found.price_context)
    model = (found.model if found is not None else None) or asked.model or used.tool or _NO_MODEL
    parts = [(part.model or model, part.meters) for part in found.parts] if found is not None else [(model, {})]
    stated = None if found is None else found.provider_cost_pico
    events = []
    for place, (name, meters) in enumerate(parts):
        event = {
            **shared,
            "model": name,
            "request_id": held.request_id if not place else f"{held.request_id}/{place + 1}",
        }
        event["meters"] = {**meters, **used.more_meters} if not place else dict(meters)
        if stated is not None:
            event["provider_cost_pico"] = stated if not place else 0
        events.append(event)
    return events


class CallFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a caller is told of a call once it is settled; amounts are decimal strings.

    Attributes:
        cost_usd: None when it has no price yet.
        status: of its usage: `final`, `partial`, `estimated` or `unpriced`; `queued` while it is on its way to the
            ledger, and nothing else is known.
        credits: what was charged.
        balance: what is available afterwards, in credits; None where that is not known.
        entry: the place of its usage in the org's ledger; None where nothing was recorded.
    """

    request_id: str
    entry: int | None
    cost_usd: str | None
    credits: str | None
    balance: str | None
    hold_id: str
    status: Literal["final", "partial", "estimated", "unpriced", "queued"] | None = None


def figures_of(held: Recorded, settled: Recorded) -> CallFigures:
    """What is told of a settlement, or of a release."""
    result: Any = settled.result
    hold_id, balance = f"h{held.seq}", pico_to_credits(result.after.available_pico)
    if not isinstance(settled.request, Settle):
        return CallFigures(held.request_id, None, "0", "0", balance, hold_id)
    usage: Sequence[Any] = settled.usage
    charged_pico = total(result.charged) + total(result.overage) + result.receivable_pico
    cost = pico_to_usd(result.cost_pico) if result.priced else None
    entry = usage[0].seq if usage else None
    status = usage[0].cost_status if usage else None
    return CallFigures(held.request_id, entry, cost, pico_to_credits(charged_pico), balance, hold_id, status)
