"""Usage events as they are sent: members put together from what is said here and around it, and looked at once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final

from tallystick_sdk.errors import BadRequest
from tallystick_sdk.tagging import MANDATORY, missing

MEMBERS: Final = (
    "org_id", "request_id", "time", "user_id", "session_id", "feature", "environment", "model", "meters", "provider",
    "api_key_id", "action", "latency_ms", "outcome", "usage_status", "price_context", "provider_cost_pico", "payer",
    "attributes",
)  # fmt: skip
"""What a usage event may say; docs/events.md of the server tells of each."""

ATTRIBUTE_CHARACTERS_MAX: Final = 512
_PICO_PER_USD: Final = 10**12


def new_id() -> str:
    """An id that no other request has."""
    return f"sdk-{secrets.token_hex(16)}"


def instant(moment: datetime | str | None = None) -> str:
    """RFC 3339 in UTC.

    Raises:
        BadRequest: `invalid_time`, for a time without a zone.
    """
    if isinstance(moment, str):
        return moment
    if moment is None:
        moment = datetime.now(UTC)
    if moment.tzinfo is None:
        raise BadRequest(
            "invalid_time", f"{moment} has no time zone", next_step="give one: datetime.now(UTC)", where="time"
        )
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def usd_to_pico(amount: Decimal | str | int | float | None) -> int | None:
    """USD in pico-USD, half to even; a float is read as it is written, so that 0.1 is a tenth.

    Raises:
        BadRequest: `invalid_cost`.
    """
    if amount is None:
        return None
    try:
        exact = Decimal(str(amount))
        pico = Context(prec=60).multiply(exact, Decimal(_PICO_PER_USD)).to_integral_value(ROUND_HALF_EVEN)
    except InvalidOperation:
        exact = pico = Decimal("nan")
    if not pico.is_finite() or pico < 0:
        raise BadRequest("invalid_cost", f"{amount!r} is no amount of USD", next_step="give a decimal number from 0 up")
    return int(pico)


def complete(members: Mapping[str, Any]) -> dict[str, Any]:
    """An event that can be sent: with an id and a time of its own where it has none.

    Args:
        members: what is known of it; None stands for nothing.

    Raises:
        BadRequest: `unknown_member`, `missing_tags`, `missing_field`, `invalid_time`, `invalid_cost`.
    """
    event = {name: value for name, value in members.items() if value is not None and name != "work_key"}
    if "provider_cost_usd" in event:
        event["provider_cost_pico"] = usd_to_pico(event.pop("provider_cost_usd"))
    unknown = sorted(set(event) - set(MEMBERS))
    if unknown:
        raise BadRequest(
            "unknown_member",
            f"an event has no {', '.join(unknown)}",
            next_step=f"its members are {', '.join(MEMBERS)}",
            where=unknown[0],
        )
    lacking = missing(event)
    if lacking:
        raise missing_tags(lacking)
    for name in ("model", "meters"):
        if name not in event:
            raise BadRequest("missing_field", f"an event needs {name}", next_step="say it", where=name)
    event["time"] = instant(event.get("time"))
    event.setdefault("request_id", new_id())
    if "attributes" in event:
        event["attributes"] = _short_texts(event["attributes"])
    return event


def missing_tags(names: tuple[str, ...]) -> BadRequest:
    """Nothing says whom it belongs to."""
    return BadRequest(
        "missing_tags",
        f"nothing says the {', '.join(names)} of it",
        next_step=f"give {', '.join(MANDATORY)} to Tally(…), to the call, or around it: with tally.tags(…)",
        where=names[0],
    )


def _short_texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value)[:ATTRIBUTE_CHARACTERS_MAX] for name, value in attributes.items() if value is not None}
