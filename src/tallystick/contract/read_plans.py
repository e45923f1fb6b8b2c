"""Reading plans as they are written: what a plan leaves out is None here, until inheritance fills it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import cast, get_args

from tallystick.contract.fields import Place
from tallystick.contract.model import Enforcement, Limit, LimitKind, LimitWindow, ModelRules, PlanKind, Price
from tallystick.contract.read_prices import read_meter, read_price, unknown_meter
from tallystick.contract.read_sla import read_plan_sla
from tallystick.contract.sla import Sla

_PATTERN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*._:/@-]{0,199}")
INCLUDED_MAX = 10**18
"""The most credits that come in at once."""
PLAN_KEYS = (
    "title", "extends", "kind", "base", "commit", "prices", "limits", "included_credits", "top_up", "actions",
    "models", "overage", "enforcement", "upgrade_to", "sla",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """One plan as written. In `prices`, None takes an inherited price away.

    `readable` is false when a problem was noted in it: what follows from a gap is not worth a second error.
    """

    name: str
    place: Place
    readable: bool
    extends: str | None
    title: str | None
    kind: PlanKind | None
    base_usd: Fraction | None
    commit_usd: Fraction | None
    prices: dict[str, Price | None] | None
    limits: tuple[Limit, ...] | None
    included_credits: int | None
    top_up: bool | None
    actions: tuple[str, ...] | None
    models: ModelRules | None
    overage: bool | None
    enforcement: Enforcement | None
    upgrade_to: str | None
    sla: Sla | None

    def at(self, *keys: str) -> Place:
        """The place of the entry at that path of keys, as far down as it is written."""
        place = self.place
        for key in keys:
            if not place.has(key):
                return place
            place = place.child(key)
        return place


def read_plan(name: str, place: Place, meters: Collection[str]) -> PlanTerms:
    """One plan's own terms."""
    place.check_name(name)
    noted = len(place.problems)
    fields = place.fields(*PLAN_KEYS)
    terms = PlanTerms(
        name=name,
        place=place,
        readable=True,
        extends=fields.get("extends", Place.name, None),
        title=fields.get("title", Place.text, None),
        kind=fields.get("kind", lambda at: cast(PlanKind, at.choice(get_args(PlanKind))), None),
        base_usd=fields.get("base", Place.decimal, None),
        commit_usd=fields.get("commit", Place.decimal, None),
        prices=fields.get("prices", lambda at: at.table(lambda key, entry: _read_price(key, entry, meters)), None),
        limits=fields.get("limits", lambda at: at.sequence(lambda item: _read_limit(item, meters)), None),
        included_credits=fields.get("included_credits", _read_included, None),
        top_up=fields.get("top_up", Place.flag, None),
        actions=fields.get("actions", _read_names, None),
        models=fields.get("models", _read_models, None),
        overage=fields.get("overage", Place.flag, None),
        enforcement=fields.get("enforcement", read_enforcement, None),
        upgrade_to=fields.get("upgrade_to", Place.name, None),
        sla=fields.get("sla", read_plan_sla, None),
    )
    return replace(terms, readable=len(place.problems) == noted)


def _read_included(place: Place) -> int:
    credits = place.integer()
    if credits > INCLUDED_MAX:
        raise place.refusal("too_large", f"{credits:,} credits are more than one grant can bring, {INCLUDED_MAX:,}")
    return credits


def read_enforcement(place: Place) -> Enforcement:
    """`enforce` or `shadow`."""
    return cast(Enforcement, place.choice(get_args(Enforcement)))


def _read_price(meter: str, place: Place, meters: Collection[str]) -> Price | None:
    if meter not in meters:
        raise unknown_meter(place, meter, meters)
    return None if place.is_null else read_price(place, meters)


def _read_names(place: Place) -> tuple[str, ...]:
    names = place.sequence(Place.name)
    for name in sorted({name for name in names if names.count(name) > 1}):
        place.note("duplicate_value", f"{name!r} is named twice")
    return names


def _read_limit(place: Place, meters: Collection[str]) -> Limit:
    fields = place.fields("meters", "max", "per", "kind", "warn_at")
    names = fields.need("meters", lambda at: at.sequence(lambda item: read_meter(item, meters), least=1), ())
    if len(set(names)) != len(names):
        fields.at("meters").note("duplicate_value", "a meter is named twice")
    return Limit(
        meters=names,
        max=fields.need("max", Place.integer, 0),
        per=fields.need("per", lambda at: cast(LimitWindow, at.choice(get_args(LimitWindow))), "month"),
        kind=fields.need("kind", lambda at: cast(LimitKind, at.choice(get_args(LimitKind))), "hard"),
        warn_at=fields.get("warn_at", _read_warn_at, ()),
    )


def _read_warn_at(place: Place) -> tuple[Fraction, ...]:
    shares = place.sequence(Place.share)
    if any(later <= earlier for earlier, later in pairwise(shares)):
        place.note("not_ascending", "the shares must ascend, each one larger than the one before")
    return shares


def _read_models(place: Place) -> ModelRules:
    fields = place.fields("allow", "deny")
    # An empty list could be read as all models or as none; leaving the key out means all.
    allow = fields.get("allow", lambda at: at.sequence(_read_pattern, least=1), ())
    deny = fields.get("deny", lambda at: at.sequence(_read_pattern, least=1), ())
    return ModelRules(allow, deny)


def _read_pattern(place: Place) -> str:
    value = place.scalar("a pattern of model names").text
    if not _PATTERN.fullmatch(value):
        rule = "write a model's name, with * for any run of characters"
        raise place.refusal("invalid_pattern", f"{value[:80]!r} is not a pattern of model names; {rule}")
    return value
