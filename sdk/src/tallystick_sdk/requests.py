"""The bodies of requests, put together from what is said at the call, around it, and to the client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tallystick_sdk.errors import BadRequest
from tallystick_sdk.events import instant, missing_tags, new_id, usd_to_pico
from tallystick_sdk.tagging import merged, missing

_AUTHORIZE: Final = (
    "org_id", "request_id", "user_id", "session_id", "feature", "environment", "action", "model", "provider",
    "api_key_id", "work_key", "meters", "payer", "attributes",
)  # fmt: skip


def authorize_body(members: Mapping[str, Any]) -> dict[str, Any]:
    """What `POST /v1/authorize` takes; with an id of its own where it has none.

    Raises:
        BadRequest: `missing_tags`.
    """
    known = merged(members)
    lacking = missing(known)
    if lacking:
        raise missing_tags(lacking)
    known.setdefault("request_id", new_id())
    return {name: known[name] for name in _AUTHORIZE if name in known}


def settle_body(
    org_id: str | None,
    hold_id: str,
    outcome: str,
    events: Iterable[Mapping[str, Any]],
    charge_credits: Decimal | str | int | None,
) -> dict[str, Any]:
    """What `POST /v1/settle` takes; events are completed with an id and a time.

    Raises:
        BadRequest: `missing_tags`, `invalid_credits`, `invalid_cost`, `invalid_time`.
    """
    body: dict[str, Any] = {"org_id": needed_org(org_id), "hold_id": hold_id, "outcome": outcome}
    brought = [_settle_event(event) for event in events]
    if brought:
        body["events"] = brought
    if charge_credits is not None:
        body["charge_credits"] = credits_text(charge_credits)
    return body


def release_body(org_id: str | None, hold_id: str, reason: str | None) -> dict[str, Any]:
    """What `POST /v1/release` takes.

    Raises:
        BadRequest: `missing_tags`.
    """
    body = {"org_id": needed_org(org_id), "hold_id": hold_id}
    return body if reason is None else body | {"reason": short_reason(reason)}


def needed_org(org_id: str | None) -> str:
    """The org.

    Raises:
        BadRequest: `missing_tags`, when there is none.
    """
    if not org_id:
        raise missing_tags(("org_id",))
    return org_id


def credits_text(credits: Decimal | str | int) -> str:
    """Credits as the server reads them.

    Raises:
        BadRequest: `invalid_credits`, for a float too: money is no float.
    """
    try:
        if isinstance(credits, bool) or not isinstance(credits, (str, int, Decimal)):
            raise InvalidOperation
        exact = Decimal(credits)
    except InvalidOperation:
        exact = Decimal("nan")
    if not exact.is_finite() or exact < 0:
        raise BadRequest(
            "invalid_credits", f"{credits!r} is no amount of credits", next_step='give a Decimal, an int or text: "2.5"'
        )
    return f"{exact:f}"


def short_reason(reason: str) -> str:
    """Text of one line, as long as the server takes it."""
    line = " ".join("".join(one if one.isprintable() else " " for one in reason).split())
    return line[:512] or "no reason was given"


def _settle_event(given: Mapping[str, Any]) -> dict[str, Any]:
    event = {name: value for name, value in given.items() if value is not None and name != "work_key"}
    if "provider_cost_usd" in event:
        event["provider_cost_pico"] = usd_to_pico(event.pop("provider_cost_usd"))
    event["time"] = instant(event.get("time"))
    event.setdefault("request_id", new_id())
    return event
