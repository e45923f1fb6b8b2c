"""Reading actions: the units that customers understand, and what they cost."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import cast

from tallystick.contract.fields import Place
from tallystick.contract.model import Action, Repeat
from tallystick.usage.event import Outcome

OUTCOMES = ("success", "empty", "failure")
CREDITS_MAX = 10**12
"""The most credits that an action may cost: what is worth any more cannot be counted in the ledger's numbers."""


def read_action(name: str, place: Place) -> Action:
    """One action; its name is what the ledger and the API call it."""
    place.check_name(name)
    fields = place.fields("title", "price", "charge_on", "repeat", "max_credits", "shows")
    credits, cost_plus = fields.need("price", _read_price, (None, None))
    max_credits = fields.get("max_credits", _read_credits, None)
    if cost_plus is not None and "max_credits" not in fields.given:
        why = "what it will cost is known only afterwards, so `max_credits` must say how much to reserve before"
        place.note("missing_key", f"`max_credits` is missing: {why}")
    if credits is not None and max_credits is not None and max_credits < credits:
        fields.at("max_credits").note("too_small", f"{max_credits} is less than the price, {credits} credits")
    return Action(
        name=name,
        title=fields.get("title", Place.text, name),
        credits=credits,
        cost_plus=cost_plus,
        max_credits=max_credits,
        charge_on=fields.get("charge_on", _read_outcomes, ("success",)),
        repeat=fields.get("repeat", _read_repeat, None),
        shows=fields.get("shows", Place.text, None),
    )


def _read_price(place: Place) -> tuple[int | None, Fraction | None]:
    fields = place.fields("credits", "cost_plus")
    if len(fields.given & {"credits", "cost_plus"}) != 1:
        raise place.refusal("price_shape", "an action's price has exactly one of credits and cost_plus")
    return fields.get("credits", _read_credits, None), fields.get("cost_plus", Place.decimal, None)


def _read_credits(place: Place) -> int:
    credits = place.integer()
    if credits > CREDITS_MAX:
        raise place.refusal("too_large", f"{credits:,} credits are more than an action may cost, {CREDITS_MAX:,}")
    return credits


def _read_outcomes(place: Place) -> tuple[Outcome, ...]:
    outcomes = place.sequence(lambda item: cast(Outcome, item.choice(OUTCOMES)))
    if len(set(outcomes)) != len(outcomes):
        place.note("duplicate_value", "an outcome is named twice")
    return outcomes


def _read_repeat(place: Place) -> Repeat:
    fields = place.fields("key", "within", "credits")
    return Repeat(
        key=fields.need("key", Place.name, "key"),
        within=fields.need("within", Place.duration, timedelta(days=1)),
        credits=fields.need("credits", _read_credits, 0),
    )
