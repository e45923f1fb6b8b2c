"""Reading prices: which shape a price has is told by its one shape key."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from tallystick.contract.fields import Fields, Place, did_you_mean
from tallystick.contract.model import COST_ADJUSTMENT, Price
from tallystick.contract.shapes import CostPlus, Graduated, Package, PerUnit, Shape, Tier, Volume

SHAPE_KEYS = ("unit", "package", "graduated", "volume", "cost_plus")
TIERS_MAX = 100
ZERO = Fraction(0)


def read_meter(place: Place, meters: Collection[str]) -> str:
    """The name of a meter that is built in or declared."""
    name = place.scalar("a meter").text
    if name not in meters:
        raise unknown_meter(place, name, meters)
    return name


def unknown_meter(place: Place, name: str, meters: Collection[str]) -> Exception:
    """The error for a meter that is neither built in nor declared."""
    hint = did_you_mean(name, meters) or "; declare it under `meters`, or see docs/contract.md for the built-in ones"
    return place.refusal("unknown_meter", f"{name[:80]!r} is not a meter{hint}")


def read_price(place: Place, meters: Collection[str]) -> Price:
    """The price of one meter, with the meters folded into it."""
    fields = place.fields(*SHAPE_KEYS, "per", "includes")
    shapes = [key for key in SHAPE_KEYS if key in fields.given]
    if len(shapes) != 1:
        found = " and ".join(shapes) or "none"
        raise place.refusal("price_shape", f"a price has exactly one of {', '.join(SHAPE_KEYS)}; here is {found}")
    if "per" in fields.given and shapes != ["unit"]:
        fields.at("per").note("unknown_key", f"`per` goes with `unit`, not with {shapes[0]}")
    if shapes == ["cost_plus"]:
        meters = (*meters, COST_ADJUSTMENT)
    includes = fields.get("includes", lambda at: at.sequence(lambda item: read_meter(item, meters)), ())
    return Price(_read_shape(fields, shapes[0]), includes)


def _read_shape(fields: Fields, key: str) -> Shape:
    if key == "unit":
        return PerUnit(fields.need("unit", Place.decimal, ZERO), fields.get("per", read_per, Fraction(1)))
    if key == "cost_plus":
        return CostPlus(fields.need("cost_plus", Place.decimal, ZERO))
    stand_in = (Tier(None, ZERO),)
    if key == "graduated":
        return Graduated(fields.need("graduated", _read_tiers, stand_in))
    if key == "volume":
        return Volume(fields.need("volume", _read_tiers, stand_in))
    return fields.need("package", _read_package, Package(Fraction(1), ZERO))


def read_per(place: Place) -> Fraction:
    """How many units a price buys: 1, 1000, 1_000_000 … with no prime factor besides 2 and 5.

    Any other divisor would give amounts without a finite decimal, which no invoice can state exactly.
    """
    number = rest = place.integer(least=1)
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1:
        why = "has a prime factor besides 2 and 5, so that amounts would have no finite decimal"
        raise place.refusal("invalid_per", f"{number} {why}; use 1, 1_000 or 1_000_000")
    return Fraction(number)


def _positive(place: Place) -> Fraction:
    return place.decimal(positive=True)


def _read_package(place: Place) -> Package:
    fields = place.fields("size", "price", "free")
    return Package(
        size=fields.need("size", _positive, Fraction(1)),
        price_usd=fields.need("price", Place.decimal, ZERO),
        free=fields.get("free", Place.decimal, ZERO),
    )


def _read_tiers(place: Place) -> tuple[Tier, ...]:
    noted = len(place.problems)
    tiers = place.sequence(_read_tier)
    if len(place.problems) > noted:
        return (Tier(None, ZERO),)  # what is wrong is noted; the order of what is left would mislead
    if not 0 < len(tiers) <= TIERS_MAX:
        raise place.refusal("invalid_tiers", f"1 to {TIERS_MAX} tiers are due here, not {len(tiers)}")
    below = ZERO
    for number, tier in enumerate(tiers, start=1):
        last = number == len(tiers)
        if last and tier.up_to is not None:
            what = "the last tier must be open-ended: leave its `up_to` out, or add a tier for what lies above"
            raise place.refusal("last_tier_closed", what)
        if last or tier.up_to is None:
            if last:
                break
            raise place.refusal("invalid_tiers", f"tier {number} has no `up_to`, and only the last tier may have none")
        if tier.up_to <= below:
            raise place.refusal(
                "invalid_tiers", f"tiers must ascend by `up_to`: tier {number} does not exceed the one before"
            )
        below = tier.up_to
    return tiers


def _read_tier(place: Place) -> Tier:
    fields = place.fields("up_to", "unit", "per", "flat")
    if not fields.given & {"unit", "flat"}:
        place.note("missing_key", "a tier has a `unit` price, a `flat` fee, or both")
    return Tier(
        up_to=fields.get("up_to", lambda at: None if at.is_null else _positive(at), None),
        unit_usd=fields.get("unit", Place.decimal, ZERO),
        per=fields.get("per", read_per, Fraction(1)),
        flat_usd=fields.get("flat", Place.decimal, ZERO),
    )
