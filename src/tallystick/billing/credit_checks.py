"""What comes with a request about credits in money: an amount that is given, a code that is redeemed, as operations."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from tallystick.billing.promos import CODE, PromoTerms, written_code
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_duration
from tallystick.core.money import parse_decimal
from tallystick.core.periods import month_period
from tallystick.invoice.canonical import canonical_json
from tallystick.ledger.credit_operations import (
    ABOUT_BYTES_MAX,
    CREDIT_SOURCES,
    WHOLE_BP,
    CreditKind,
    CreditRequest,
    GiveCredit,
    RedeemPromo,
)
from tallystick.ledger.invoice_operations import CENT_PICO, CENTS_MAX
from tallystick.ledger.members import Members, short
from tallystick.ledger.operations import Operation
from tallystick.usage.event_problems import check_text, ids_fit

CREDIT_MEMBERS: Final = (
    "request_id", "source", "amount_usd", "author", "reason", "expires_at", "from_month", "about",
)  # fmt: skip
REDEEM_MEMBERS: Final = ("request_id", "code", "author")
PROMO_MEMBERS: Final = (
    "code", "percent", "amount_usd", "invoices", "cap_usd", "minimum_usd", "redeem_by", "expires_after", "limit",
    "contract", "plans", "new_customers", "note", "author", "reason",
)  # fmt: skip
_RESERVED: Final = re.compile("(sla|dispute):")
"""What the ids of credits begin with that come by themselves: for a month's breaches, by a dispute that is upheld."""
INVOICES_MAX: Final = 1200
LIMIT_MAX: Final = 10**9
PLANS_MAX: Final = 100


def credit_operation(org_id: str, raw: object, *, salt: bytes, by_itself: bool = False) -> Operation:
    """An amount of money to be given, for invoices to come.

    Args:
        raw: the decoded JSON value, with the members `CREDIT_MEMBERS`. `about` is any JSON value: what the amount was
            computed from.
        by_itself: whether nobody has asked for it. Only such credits have the ids that tell what they are for.

    Raises:
        BadInput: the one fault, `where` being the member; `reserved_id`.
        Problems: `invalid_request`, several of them.
    """
    members = Members(raw, CREDIT_MEMBERS, "a credit")
    from_month = members.text_or_none("from_month")
    if from_month:
        try:
            month_period(from_month)
        except BadInput as error:
            members.fault(error.code, "from_month", error.detail, error.next_step)
    request = GiveCredit(
        source=members.choice("source", CREDIT_SOURCES, "goodwill"),  # type: ignore[arg-type]
        amount_cents=cents_of(members, "amount_usd") or 0,
        author=members.text("author"),
        reason=members.text("reason"),
        expires_at=members.instant_or_none("expires_at"),
        from_month=from_month,
        about=_about(members),
    )
    if not by_itself and _RESERVED.match(str(members.value("request_id"))):
        members.fault(
            "reserved_id",
            "request_id",
            f"{short(members.value('request_id'))!r} is the id of a credit that comes by itself",
            "send an id of your own",
        )
    return _operation(members, org_id, "invoice_credit", request, salt)


def redeem_operation(org_id: str, raw: object, *, salt: bytes, is_test: bool) -> Operation:
    """A promo code to be redeemed.

    Args:
        raw: the decoded JSON value, with the members `REDEEM_MEMBERS`.
        is_test: whether the org has a test clock.

    Raises:
        BadInput, Problems: as `credit_operation`; `unknown_promo` of what cannot be a code.
    """
    members = Members(raw, REDEEM_MEMBERS, "a promo code to redeem")
    request = RedeemPromo(code=written_code(members.text("code")), author=members.text("author"), is_test=is_test)
    return _operation(members, org_id, "promo", request, salt)


def promo_terms(raw: object, *, now: datetime) -> tuple[str, PromoTerms, str, str]:
    """A promo code to be defined: its code in capitals, what it gives, its author and the reason.

    Args:
        raw: the decoded JSON value, with the members `PROMO_MEMBERS`: of `percent` and `amount_usd` one; `invoices` and
            `cap_usd` of a share only.
        now: the present instant.

    Raises:
        BadInput, Problems: as `credit_operation`; `invalid_promo_code`, `invalid_promo`.
    """
    members = Members(raw, PROMO_MEMBERS, "a promo code")
    code = written_code(members.text("code"))
    if code and not CODE.fullmatch(code):
        members.fault(
            "invalid_promo_code",
            "code",
            "a code has 3 to 40 letters of ASCII, digits, - and _, and begins with a letter or a digit",
            "choose another",
        )
    if members.has("percent") == members.has("amount_usd"):
        members.fault("invalid_promo", "percent", "it gives a share or an amount", "send percent or amount_usd")
    for name in ("invoices", "cap_usd"):
        if members.has(name) and not members.has("percent"):
            members.fault("invalid_promo", name, "only a share has it", "leave it out, or send percent")
    redeem_by = members.instant_or_none("redeem_by")
    if redeem_by is not None and redeem_by <= now:
        members.fault("invalid_promo", "redeem_by", f"{format_instant(redeem_by)} is over", "name a time to come")
    terms = PromoTerms(
        percent_bp=_percent_bp(members),
        amount_cents=cents_of(members, "amount_usd", optional=True),
        invoices=_count(members, "invoices", INVOICES_MAX),
        cap_cents=cents_of(members, "cap_usd", optional=True),
        minimum_cents=cents_of(members, "minimum_usd", optional=True) or 0,
        redeem_by=redeem_by,
        expires_after_seconds=_seconds(members),
        limit=_count(members, "limit", LIMIT_MAX),
        contract=members.text_or_none("contract"),
        plans=members.texts("plans", PLANS_MAX),
        new_customers=members.flag("new_customers"),
        note=members.text_or_none("note") or "",
    )
    author, reason = members.text("author"), members.text_or_none("reason") or ""
    members.raise_faults()
    return code, terms, author, reason


def cents_of(members: Members, name: str, *, optional: bool = False) -> int | None:
    """An amount of USD above nothing, in whole cents; None of what may be left out, and is."""
    if optional and not members.has(name):
        return None
    known = len(members.faults)
    cents, rest = divmod(members.amount_pico(name, "USD"), CENT_PICO)
    if len(members.faults) > known:
        return None
    if rest:
        members.fault("amount_too_fine", name, "money has cents, and nothing smaller", "send whole cents")
    elif cents > CENTS_MAX:
        members.fault("invalid_amount", name, "it is too much", "check its unit")
    return cents


def _count(members: Members, name: str, most: int) -> int | None:
    return members.integer(name, 1, 1, most) if members.has(name) else None


def _percent_bp(members: Members) -> int | None:
    if not members.has("percent"):
        return None
    try:
        exact = parse_decimal(members.value("percent"), where="percent") * 100
    except BadInput as error:
        members.faults.append(error.with_traceback(None))
        return None
    if exact.denominator != 1 or not 0 < exact <= WHOLE_BP:
        members.fault(
            "invalid_promo",
            "percent",
            "a share is above 0 and at most 100 percent, with at most two decimal places",
            'send it as a string of digits, such as "12.5"',
        )
    return int(exact)


def _seconds(members: Members) -> int | None:
    text = members.text_or_none("expires_after")
    if not text:
        return None
    try:
        seconds = int(parse_duration(text, where="expires_after").total_seconds())
    except BadInput as error:
        members.faults.append(error.with_traceback(None))
        return None
    if not seconds:
        members.fault("invalid_promo", "expires_after", "it would be over at once", "name a time such as 90d, or none")
    return seconds


def _about(members: Members) -> str | None:
    value: Any = members.value("about")
    if value is None:
        return None
    try:
        text = canonical_json(value)
    except (TypeError, ValueError, RecursionError):
        members.fault("wrong_type", "about", "it must be JSON, its numbers whole", "send amounts as strings")
        return None
    if len(text) > ABOUT_BYTES_MAX:
        members.fault(
            "text_too_long", "about", f"it has more than {ABOUT_BYTES_MAX:,} bytes as JSON", "send a shorter one"
        )
    return text.decode()


def _operation(members: Members, org_id: str, kind: CreditKind, request: CreditRequest, salt: bytes) -> Operation:
    request_id = members.text("request_id")
    try:
        check_text("request_id", request_id)
    except BadInput as error:
        if not members.faults:
            members.faults.append(error.with_traceback(None))
    if not ids_fit(org_id, request_id):
        members.fault("text_too_long", "request_id", "it and org_id have too many bytes together", "send a shorter id")
    members.raise_faults()
    return Operation(org_id=org_id, kind=kind, request_id=request_id, request=request, salt=salt)
