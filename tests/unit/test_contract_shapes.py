"""The rules of the price shapes, each by its boundary cases."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tallystick.contract.shapes import CostPlus, Graduated, Package, PerUnit, Tier, Volume, charge, charge_change

F = Fraction
GRADUATED = Graduated((Tier(F(10), F(2), flat_usd=F(5)), Tier(F(20), F(1), flat_usd=F(3)), Tier(None, F("0.5"))))
VOLUME = Volume((Tier(F(15), F(10)), Tier(None, F(5))))
PACKAGE = Package(F(1000), F("0.80"), F(10_000))


def amount(shape, quantity):
    return charge(shape, F(quantity), F(0)).exact_usd


@pytest.mark.parametrize(
    ("quantity", "usd"),
    [
        (0, 5),  # the first tier's flat fee is due at zero usage too
        (10, 25),  # up_to is inclusive: the second tier is not entered
        ("10.5", 25 + 3 + F(1, 2)),  # half a unit is enough to enter it, and is priced there
        (20, 38),
        (21, F("38.5")),
        (-1, 3),  # below zero the first tier goes on downwards
    ],
)
def test_graduated_prices_each_unit_in_the_tier_it_falls_in(quantity, usd):
    assert amount(GRADUATED, quantity) == usd


@pytest.mark.parametrize(("quantity", "usd"), [(0, 0), (15, 150), ("15.1", F("75.5")), (16, 80), (-2, -20)])
def test_volume_prices_every_unit_in_the_tier_that_the_total_reaches(quantity, usd):
    assert amount(VOLUME, quantity) == usd


def test_volume_charges_the_flat_fee_of_the_reached_tier_alone():
    shape = Volume((Tier(F(10), F(1), flat_usd=F(7)), Tier(None, F(1), flat_usd=F(50))))
    assert [amount(shape, quantity) for quantity in (0, 10, 11)] == [7, 17, 61]


@pytest.mark.parametrize(
    ("quantity", "usd"),
    [
        (0, 0), (10_000, 0), ("10000.001", "0.80"), (11_000, "0.80"), (11_001, "1.60"), (-5000, 0),
    ],
)  # fmt: skip
def test_package_rounds_up_to_whole_packages_after_the_free_units(quantity, usd):
    assert amount(PACKAGE, quantity) == F(usd)


@pytest.mark.parametrize(("quantity", "usd"), [(0, 0), (1, 2), (10, 2), (11, 4), (-9, 0), (-10, -2), (-11, -2)])
def test_package_without_free_units_gives_back_whole_packages_only(quantity, usd):
    assert amount(Package(F(10), F(2)), quantity) == usd


def test_per_unit_is_in_proportion_on_both_sides_of_zero():
    shape = PerUnit(F("0.10"), F(1_000_000))
    assert amount(shape, "2500000.5") == F("0.25000005")
    assert amount(shape, -1) == -F("0.0000001")


def test_cost_plus_charges_our_cost_and_a_share_of_it():
    assert charge(CostPlus(F("0.30")), F(123), F("0.000000000001")).exact_usd == F("0.0000000000013")


def test_one_late_unit_over_a_volume_bound_takes_back_the_first_tier_and_charges_the_second():
    change = charge_change(VOLUME, F(15), F(1), F(0))
    assert [(tier.tier, tier.quantity, tier.amount_usd) for tier in change.tiers] == [(1, -15, -150), (2, 16, 80)]
    assert change.exact_usd == -70


def test_a_correction_walks_down_through_the_tiers_that_were_charged():
    change = charge_change(GRADUATED, F(22), F(-13), F(0))
    assert [(tier.tier, tier.quantity, tier.flat_usd) for tier in change.tiers] == [
        (1, -1, 0),
        (2, -10, -3),
        (3, -2, 0),
    ]
    assert change.exact_usd == -2 - 10 - 3 - 1


def test_a_correction_does_not_take_the_first_tiers_flat_fee_twice():
    assert charge_change(GRADUATED, F(0), F(3), F(0)).exact_usd == 6
    assert charge_change(GRADUATED, F(3), F(-3), F(0)).exact_usd == -6


def test_a_correction_gives_a_package_back_once_nothing_of_it_is_used():
    assert charge_change(PACKAGE, F(11_001), F(-1), F(0)).exact_usd == F("-0.80")
    assert charge_change(PACKAGE, F(11_000), F(-1), F(0)).exact_usd == 0


def test_a_change_of_nothing_has_no_tiers():
    assert charge_change(GRADUATED, F(5), F(0), F(0)) == (F(0), ())


@pytest.mark.parametrize(
    "tiers",
    [
        (),
        (Tier(F(1), F(1)),),
        (Tier(None, F(1)), Tier(None, F(1))),
        (Tier(F(2), F(1)), Tier(F(2), F(1)), Tier(None, F(1))),
        (Tier(F(0), F(1)), Tier(None, F(1))),
    ],
)
def test_tiers_with_a_gap_or_an_overlap_cannot_be_built(tiers):
    with pytest.raises(ValueError, match="tier"):
        Graduated(tiers)
    with pytest.raises(ValueError, match="tier"):
        Volume(tiers)
