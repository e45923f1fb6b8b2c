"""What holds for every price: exactness against independent sums, and the laws that each shape keeps."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tallystick.contract.model import ModelRules, Plan, Price
from tallystick.contract.pricing import price_change, price_period
from tallystick.contract.shapes import Graduated, Package, PerUnit, Shape, Tier, Volume, charge, charge_change

ZERO = Fraction(0)
usd = st.integers(0, 1000 * 10**4).map(lambda parts: Fraction(parts, 10**4))
per = st.sampled_from([1, 2, 1000, 10**6, 10**9]).map(Fraction)
decimal = st.integers(-(10**10), 10**10).map(lambda parts: Fraction(parts, 1000))
positive = st.integers(1, 10**7).map(lambda parts: Fraction(parts, 1000))
whole = st.integers(-50, 300)


@st.composite
def tiers(draw: st.DrawFn, bounds: st.SearchStrategy[Fraction] = positive) -> tuple[Tier, ...]:
    closed = sorted(draw(st.sets(bounds, max_size=4)))
    return tuple(Tier(bound, draw(usd), draw(per), draw(usd)) for bound in [*closed, None])


whole_tiers = tiers(st.integers(1, 200).map(Fraction))
per_units = st.builds(PerUnit, usd, per)
packages = st.builds(Package, positive, usd, st.one_of(st.just(ZERO), positive))
shapes = st.one_of(per_units, packages, st.builds(Graduated, tiers()), st.builds(Volume, tiers()))


def amount(shape: Shape, quantity: Fraction) -> Fraction:
    return charge(shape, quantity, ZERO).exact_usd


@given(shapes, decimal)
def test_tiers_add_up_to_the_quantity_and_to_the_amount(shape, quantity):
    charged = charge(shape, quantity, ZERO)
    assert sum(tier.quantity for tier in charged.tiers) == quantity
    assert sum(tier.amount_usd for tier in charged.tiers) == charged.exact_usd
    for tier in charged.tiers:
        assert tier.amount_usd == tier.billed * tier.unit_usd / tier.per + tier.flat_usd


@given(per_units, decimal, decimal)
def test_per_unit_prices_are_additive(shape, one, other):
    assert amount(shape, one) + amount(shape, other) == amount(shape, one + other)


@given(st.one_of(per_units, packages, st.builds(Graduated, tiers())), decimal, decimal)
def test_more_usage_never_costs_less_but_for_volume(shape, one, other):
    low, high = sorted((one, other))
    assert amount(shape, low) <= amount(shape, high)


@given(whole_tiers, whole)
def test_graduated_is_the_sum_over_single_units(rows, quantity):
    def tier_of(unit: int) -> Tier:
        return next(row for row in rows if row.up_to is None or unit <= row.up_to)

    units = range(1, quantity + 1) if quantity >= 0 else range(quantity + 1, 1)
    priced = sum((tier_of(unit).unit_usd / tier_of(unit).per for unit in units), ZERO)
    entered = {id(rows[0]): rows[0], **{id(tier_of(unit)): tier_of(unit) for unit in units}}
    # A tier that no whole unit falls in cannot exist here: bounds are whole and ascend.
    flats = sum((row.flat_usd for row in entered.values()), ZERO)
    assert amount(Graduated(rows), Fraction(quantity)) == (priced if quantity >= 0 else -priced) + flats


@given(tiers(), decimal)
def test_graduated_without_flat_fees_is_continuous(rows, quantity):
    smooth = Graduated(tuple(Tier(row.up_to, row.unit_usd, row.per) for row in rows))
    step = Fraction(1, 10**9)
    steepest = max(row.unit_usd / row.per for row in rows)
    for at in (quantity, *(row.up_to for row in rows if row.up_to is not None)):
        assert 0 <= amount(smooth, at + step) - amount(smooth, at) <= steepest * step


@given(tiers(), decimal)
def test_volume_is_one_tiers_price_for_everything(rows, quantity):
    reached = [row for row in rows if row.up_to is None or row.up_to >= quantity]
    lowest = min(reached, key=lambda row: (row.up_to is None, row.up_to or ZERO))
    assert amount(Volume(rows), quantity) == quantity * lowest.unit_usd / lowest.per + lowest.flat_usd


@given(packages, decimal)
def test_package_charges_the_fewest_whole_packages_that_hold_the_quantity(shape, quantity):
    count, rest = divmod(amount(shape, quantity), shape.price_usd) if shape.price_usd else (0, 0)
    assert rest == 0
    if shape.price_usd and (quantity > shape.free or not shape.free):
        beyond = quantity - shape.free
        assert (count - 1) * shape.size < beyond <= count * shape.size


@given(shapes, decimal, st.lists(decimal, max_size=5))
def test_corrections_lead_to_the_same_amount_however_they_are_split(shape, start, changes):
    total, charged = start, amount(shape, start)
    for change in changes:
        moved = charge_change(shape, total, change, ZERO)
        assert sum(tier.amount_usd for tier in moved.tiers) == moved.exact_usd
        assert sum(tier.quantity for tier in moved.tiers) == change
        charged, total = charged + moved.exact_usd, total + change
    assert charged == amount(shape, total)


METERS = ("tokens_in", "tokens_out", "tool_calls", "egress_bytes")


def make_plan(prices: dict[str, Shape], base: Fraction, commit: Fraction | None) -> Plan:
    return Plan(
        name="p", title="P", kind="usage", base_usd=base, commit_usd=commit,
        prices={meter: Price(shape) for meter, shape in prices.items()},
        limits=(), included_credits=0, top_up=False, overage=False, actions=None, models=ModelRules(), upgrade_to=None,
        enforcement=None, extends=None,
    )  # fmt: skip


plans = st.builds(
    make_plan,
    st.dictionaries(st.sampled_from(METERS), shapes),
    usd,
    st.one_of(st.none(), st.integers(0, 10**6).map(Fraction)),
)
quantities = st.dictionaries(st.sampled_from(METERS), decimal)


@given(plans, quantities)
def test_every_line_is_exact_and_rounds_by_at_most_half_a_cent(plan, used):
    lines = price_period(plan, used)
    for line in lines:
        assert line.exact_usd == Fraction(line.amount_cents, 100) + line.residue_usd
        assert abs(line.residue_usd) <= Fraction(1, 200)
        if abs(line.residue_usd) == Fraction(1, 200):
            assert line.amount_cents % 2 == 0
    usage = {line.meter: line.exact_usd for line in lines if line.kind == "usage"}
    for meter, price in plan.prices.items():
        assert usage.get(meter, ZERO) == amount(price.shape, used.get(meter, ZERO))


@given(plans, quantities)
def test_an_invoice_never_comes_to_less_than_the_commit(plan, used):
    cents = sum(line.amount_cents for line in price_period(plan, used))
    if plan.commit_usd is not None:
        assert cents >= plan.commit_usd * 100


@given(plans, quantities, st.randoms())
def test_the_order_of_the_quantities_does_not_matter(plan, used, random):
    shuffled = list(used.items())
    random.shuffle(shuffled)
    assert price_period(plan, dict(shuffled)) == price_period(plan, used)


@given(plans, quantities, quantities)
def test_a_period_and_its_later_changes_come_to_the_period_of_the_whole(plan, first, later):
    together = {meter: first.get(meter, ZERO) + later.get(meter, ZERO) for meter in first.keys() | later.keys()}

    def usage(lines):
        return sum((line.exact_usd for line in lines if line.kind == "usage"), ZERO)

    before, change = usage(price_period(plan, first)), usage(price_change(plan, later, first))
    assert before + change == usage(price_period(plan, together))
