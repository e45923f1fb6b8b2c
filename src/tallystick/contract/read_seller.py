"""Who sells, and when invoices are final and due: the blocks `seller` and `invoicing`."""

from __future__ import annotations

import re
from datetime import timedelta

from tallystick.contract.fields import Place
from tallystick.contract.model import Invoicing, Seller
from tallystick.contract.words import duration

SELLER_KEYS = ("name", "address", "tax_id", "registration", "email", "website", "how_to_pay", "number_prefix")
INVOICING_KEYS = ("late_window", "payment_terms")
ADDRESS_LINES_MAX = 8
LATE_WINDOW_MAX = timedelta(days=28)
PAYMENT_TERMS_MAX = timedelta(days=366)
_PREFIX = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}")
_RESERVED = re.compile(r"TEST(-.*)?|.*-CN")


def read_seller(place: Place) -> Seller:
    """The block `seller`: what stands on invoices of who issues them."""
    fields = place.fields(*SELLER_KEYS)
    return Seller(
        name=fields.need("name", Place.text, ""),
        address=fields.get("address", _lines, ()),
        tax_id=fields.get("tax_id", Place.text, None),
        registration=fields.get("registration", Place.text, None),
        email=fields.get("email", Place.text, None),
        website=fields.get("website", Place.text, None),
        how_to_pay=fields.get("how_to_pay", _lines, ()),
        number_prefix=fields.get("number_prefix", _prefix, None),
    )


def read_invoicing(place: Place) -> Invoicing:
    """The block `invoicing`: for how long late usage is waited for, and how long a customer has to pay."""
    fields = place.fields(*INVOICING_KEYS)
    stand_in = Invoicing()
    window = fields.get("late_window", _window, stand_in.late_window)
    terms = fields.get("payment_terms", Place.duration, stand_in.payment_terms)
    if window > LATE_WINDOW_MAX:
        what = f"a month is final {duration(LATE_WINDOW_MAX)} after its end at the latest, before the next one ends"
        fields.at("late_window").note("invalid_duration", what)
    if terms > PAYMENT_TERMS_MAX:
        what = f"an invoice is due {duration(PAYMENT_TERMS_MAX)} after it is issued at the latest"
        fields.at("payment_terms").note("invalid_duration", what)
    return Invoicing(window, terms)


def _window(place: Place) -> timedelta:
    scalar = place.scalar("a duration such as 24h")
    return timedelta(0) if scalar.text == "0h" else place.duration()


def _lines(place: Place) -> tuple[str, ...]:
    lines = place.sequence(Place.text, least=1)
    if len(lines) > ADDRESS_LINES_MAX:
        raise place.refusal("too_long", f"the list has more than {ADDRESS_LINES_MAX} lines")
    return lines


def _prefix(place: Place) -> str:
    value = place.scalar("a prefix such as ACME").text
    if not _PREFIX.fullmatch(value):
        rule = "1 to 16 capital letters, digits and -, and no - at first"
        raise place.refusal("invalid_name", f"{value[:80]!r} cannot begin a number: {rule}")
    if _RESERVED.fullmatch(value):
        what = "TEST is for orgs with a test clock, and -CN for credit notes"
        raise place.refusal("invalid_name", f"{value!r} cannot begin a number: {what}")
    return value
