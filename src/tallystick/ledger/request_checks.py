"""What comes with a request to authorize, settle or release: checked, and made into operations.

Of an authorize request most members are those of a usage event, and are checked as such; the fast way is a conversion
in C. Only what fails is looked at member by member, to say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tallystick.core.errors import BadInput, Problems
from tallystick.core.instants import parse_instant
from tallystick.core.struct_types import work_out
from tallystick.ledger.members import Members, short
from tallystick.ledger.operation_ids import parse_operation_id
from tallystick.ledger.operations import Authorize, Operation, ReleaseHold, Settle, SettleEvent
from tallystick.usage.checks import check_event, is_sound, sound_event
from tallystick.usage.event import Outcome, UsageEvent
from tallystick.usage.event_problems import ids_fit, is_sound_text

SETTLE_EVENTS_MAX = 1000
"""How many usage events one settlement may name; what is sent apart is costed, and charged by none."""

AUTHORIZE_MEMBERS: Final = (
    "org_id", "request_id", "user_id", "session_id", "feature", "environment", "action", "model", "provider",
    "api_key_id", "work_key", "meters", "payer", "attributes",
)  # fmt: skip
SETTLE_MEMBERS: Final = ("org_id", "hold_id", "outcome", "events", "charge_credits")
RELEASE_MEMBERS: Final = ("org_id", "hold_id", "reason")
FROM_HOLD: Final = ("user_id", "session_id", "feature", "environment", "action", "api_key_id", "payer")
"""What an event of a settlement may leave out: it is then the hold's."""

_MAY_BE_NULL: Final = ("org_id", *FROM_HOLD)
_ANY_TIME = "2000-01-01T00:00:00Z"
_NO_MODEL = "-"
_PLACEHOLDERS: Final = {"user_id": "-", "session_id": "-", "feature": "-", "environment": "-"}
_MAY_BE_NONE: Final = ("action", "model", "provider", "api_key_id", "meters", "payer", "attributes", "work_key")
_KNOWN = frozenset(AUTHORIZE_MEMBERS)

WorstCost = Callable[[Authorize], int | None]
_Settlement = tuple[str, Settle, tuple[SettleEvent, ...]]
"""Of an org: what is asked for, and the usage events that come with it."""


class _Asked(UsageEvent, frozen=True, kw_only=True):
    """A request, as the event that it is checked as; what an event has and a request has not is set."""

    time: datetime = parse_instant(_ANY_TIME)
    model: str = _NO_MODEL
    meters: dict[str, int] = msgspec.field(default_factory=dict)
    work_key: str | None = None


class _Brought(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A settlement whose members are of the right types; its events are still to be looked at."""

    org_id: str
    hold_id: str
    outcome: Outcome
    events: list[dict[str, Any]] = []
    charge_credits: str | None = None


work_out(_Asked, _Brought)


def authorize_operation(
    raw: object, *, salt: bytes, known_meters: Collection[str], now: datetime, worst_cost: WorstCost
) -> Operation:
    """A request to do something, as an operation.

    Args:
        raw: the decoded JSON value, with the members `AUTHORIZE_MEMBERS`.
        salt: 16 random bytes.
        known_meters: the built-in meters and those that contracts declare.
        now: the present instant.
        worst_cost: what the meters of a request cost at most.

    Raises:
        BadInput: the one fault, `where` being the member; codes as of `usage.checks.check_event`.
        Problems: `invalid_request`, several of them.
    """
    if not isinstance(raw, Mapping):
        raise BadInput("not_an_object", "a request is a JSON object", next_step="send one object")
    members = raw
    if None in raw.values():
        members = {name: value for name, value in raw.items() if value is not None or name not in _MAY_BE_NONE}
    event = _as_event(members, known_meters, now)
    if event is None:
        raise _authorize_faults(raw, members, known_meters, now)
    request = Authorize(
        feature=event.feature,
        environment=event.environment,
        action=event.action,
        model=event.model if "model" in members else None,
        provider=event.provider,
        api_key_id=event.api_key_id,
        work_key=event.work_key,
        meters=event.meters,
        payer=event.payer if "payer" in members else None,
    )
    return Operation(
        org_id=event.org_id,
        kind="hold",
        request_id=event.request_id,
        request=request,
        salt=salt,
        user_id=event.user_id,
        session_id=event.session_id,
        attributes=event.attributes,
        worst_cost_pico=worst_cost(request),
    )


def settle_operation(raw: object, *, salt: bytes, known_meters: Collection[str], now: datetime) -> Operation:
    """The end of a hold's work, with its usage events, as an operation.

    Args:
        raw: the decoded JSON value, with the members `SETTLE_MEMBERS`. Events are as `POST /v1/events` takes them, and
            may leave out `org_id` and what `FROM_HOLD` names.

    Raises:
        BadInput, Problems: as `authorize_operation`; the place of what is wrong with an event begins with `events.N`.
        BadInput: `invalid_id`, `too_many_events`, `duplicate_value` (two events with one id).
    """
    brought = _sound_settlement(raw, known_meters, now) or _examined_settlement(raw, known_meters, now)
    org_id, request, events = brought
    return Operation(
        org_id=org_id,
        kind="settlement",
        request_id=f"h{request.hold_seq}",
        request=request,
        salt=salt,
        events=events,
    )


def _sound_settlement(raw: object, known_meters: Collection[str], now: datetime) -> _Settlement | None:
    """What `_examined_settlement` gives; None, at once, for what it may refuse."""
    try:
        brought = msgspec.convert(raw, _Brought)
        hold_seq = parse_operation_id("hold", brought.hold_id, where="hold_id")
    except (ValueError, TypeError, BadInput):
        return None
    org_id = brought.org_id
    if brought.charge_credits is not None or len(brought.events) > SETTLE_EVENTS_MAX or not is_sound_text(org_id):
        return None
    events = []
    for item in brought.events:
        whole, left_out = _with_what_it_left_out(item, org_id)
        event = sound_event(whole, now=now, known_meters=known_meters)
        if event is None or event.org_id != org_id:
            return None
        events.append(SettleEvent(event, left_out))
    ids = tuple([one.event.request_id for one in events])
    if len(set(ids)) < len(ids):
        return None
    return org_id, Settle(hold_seq=hold_seq, outcome=brought.outcome, events=ids), tuple(events)


def _examined_settlement(raw: object, known_meters: Collection[str], now: datetime) -> _Settlement:
    """The settlement, looked at member by member, to say what is wrong with it."""
    members = Members(raw, SETTLE_MEMBERS, "a settlement")
    org_id = members.text("org_id")
    hold_seq = _hold_seq(members)
    outcome = members.choice("outcome", ("success", "empty", "failure"))
    charge_pico = members.amount_pico_or_none("charge_credits", "credits", smallest=0)
    items = members.items("events")
    if len(items) > SETTLE_EVENTS_MAX:
        raise BadInput(
            "too_many_events",
            f"a settlement brings {SETTLE_EVENTS_MAX:,} events at most, not {len(items):,}",
            next_step="send the others to POST /v1/events, where they are costed, and charged by no settlement; or "
            "authorize less work at a time",
            where="events",
        )
    events = [_settle_event(members, place, item, org_id, known_meters, now) for place, item in enumerate(items)]
    ids = [one.event.request_id for one in events if one is not None]
    if len(set(ids)) < len(ids):
        members.fault("duplicate_value", "events", "two events have the same request_id", "give each an id of its own")
    members.raise_faults()
    request = Settle(hold_seq=hold_seq, outcome=outcome, events=tuple(ids), charge_pico=charge_pico)  # type: ignore[arg-type]
    return org_id, request, tuple(one for one in events if one is not None)


def release_operation(raw: object, *, salt: bytes) -> Operation:
    """The end of a hold whose work was not done, as an operation.

    Raises:
        BadInput, Problems: as `authorize_operation`; `invalid_id`.
    """
    members = Members(raw, RELEASE_MEMBERS, "a release")
    org_id, hold_seq, reason = members.text("org_id"), _hold_seq(members), members.text_or_none("reason")
    members.raise_faults()
    request = ReleaseHold(hold_seq=hold_seq, reason=reason)
    return Operation(org_id=org_id, kind="release", request_id=f"h{hold_seq}", request=request, salt=salt)


def _hold_seq(members: Members) -> int:
    text = members.text("hold_id")
    try:
        return parse_operation_id("hold", text, where="hold_id") if text else 0
    except BadInput as error:
        members.faults.append(error.with_traceback(None))
        return 0


def _as_event(members: Mapping[str, Any], known_meters: Collection[str], now: datetime) -> _Asked | None:
    if not members.keys() <= _KNOWN:
        return None
    try:
        event = msgspec.convert(members, _Asked)
    except (ValueError, TypeError, OverflowError):
        return None
    key = event.work_key
    if key is not None and not (is_sound_text(key) and ids_fit(event.org_id, key)):
        return None
    return event if is_sound(event, now, known_meters) else None


def _authorize_faults(
    raw: Mapping[str, Any], members: Mapping[str, Any], known_meters: Collection[str], now: datetime
) -> BadInput:
    """Why a request to authorize was refused: every fault of it."""
    faults = Members(raw, AUTHORIZE_MEMBERS, "a request")
    key, org_id = faults.text_or_none("work_key"), raw.get("org_id")
    if key and isinstance(org_id, str) and not ids_fit(org_id, key):
        faults.fault("text_too_long", "work_key", "it and org_id have too many bytes together", "send a shorter key")
    shared = {name: value for name, value in members.items() if name in _KNOWN and name != "work_key"}
    as_event = {"model": _NO_MODEL, "meters": {}, **shared, "time": _ANY_TIME}
    faults.faults += _event_faults(as_event, known_meters, now)
    try:
        faults.raise_faults()
    except BadInput as error:
        return error.with_traceback(None)
    raise AssertionError("what was refused has a fault")


def _event_faults(raw: Mapping[str, Any], known_meters: Collection[str], now: datetime) -> list[BadInput]:
    try:
        check_event(raw, now=now, known_meters=known_meters)
    except Problems as error:
        return list(error.problems)
    except BadInput as error:
        return [error.with_traceback(None)]
    return []


def _settle_event(
    members: Members, place: int, item: object, org_id: str, known_meters: Collection[str], now: datetime
) -> SettleEvent | None:
    """One event of a settlement; None when something is wrong with it, which is noted."""
    if not isinstance(item, Mapping):
        members.fault("not_an_object", f"events.{place}", "an event is a JSON object", "send one object per event")
        return None
    if item.get("org_id") not in (None, org_id):
        members.fault(
            "not_a_choice",
            f"events.{place}.org_id",
            f"{short(item['org_id'])!r} is not the org of the hold",
            "leave it out, or settle each org's holds apart",
        )
        return None
    whole, left_out = _with_what_it_left_out(item, org_id)
    event = sound_event(whole, now=now, known_meters=known_meters)
    if event is not None:
        return SettleEvent(event, left_out)
    if members.is_hopeless:
        return None
    for fault in _event_faults(whole, known_meters, now):
        where = f"events.{place}" + (f".{fault.where}" if fault.where else "")
        members.fault(fault.code, where, fault.detail, fault.next_step)
    return None


def _with_what_it_left_out(item: Mapping[str, Any], org_id: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An event with placeholders for what it leaves to its hold, and the names of that."""
    if None in item.values():
        item = {name: value for name, value in item.items() if value is not None or name not in _MAY_BE_NULL}
    left_out = tuple([name for name in FROM_HOLD if name not in item])
    return {"org_id": org_id or "-", **_PLACEHOLDERS, **item}, left_out


def complete_event(one: SettleEvent, hold: Mapping[str, Any]) -> UsageEvent:
    """The event with what it left out taken from its hold: `hold` has all that `FROM_HOLD` names."""
    if not one.from_hold:
        return one.event
    return msgspec.structs.replace(one.event, **{name: hold[name] for name in one.from_hold})
