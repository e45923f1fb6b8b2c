"""The burning order of lots, and what a wallet does at its edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tallystick.ledger.operations import Lot, WalletState
from tallystick.ledger.wallet import GrantedLot, Wallet

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)


def lot(
    seq: int, available: int, *, days: int | None = None, priority: int = 0, amount: int | None = None
) -> GrantedLot:
    expires_at = None if days is None else NOW + timedelta(days=days)
    return GrantedLot(seq, "top_up", priority, NOW, expires_at, available if amount is None else amount, available)


def test_the_soonest_expiry_burns_first_whatever_its_priority_and_age() -> None:
    wallet = Wallet([lot(1, 10), lot(2, 10, days=9, priority=-5), lot(3, 10, days=2, priority=7)])
    assert wallet.take(25) == (Lot(3, 10), Lot(2, 10), Lot(1, 5))


def test_of_those_that_expire_together_the_lower_priority_burns_first_then_the_older() -> None:
    wallet = Wallet([lot(4, 10, days=2, priority=1), lot(7, 10, days=2), lot(5, 10, days=2)])
    assert wallet.take(30) == (Lot(5, 10), Lot(7, 10), Lot(4, 10))


def test_those_that_never_expire_burn_last_by_priority_then_age() -> None:
    wallet = Wallet([lot(1, 10, priority=1), lot(3, 10), lot(2, 10), lot(9, 10, days=30_000)])
    assert wallet.take(40) == (Lot(9, 10), Lot(2, 10), Lot(3, 10), Lot(1, 10))


def test_more_than_there_is_takes_nothing() -> None:
    wallet = Wallet([lot(1, 10)])
    assert wallet.hold(11) is None
    assert wallet.state() == WalletState(available_pico=10, held_pico=0)
    assert wallet.changed == set()
    assert wallet.hold(10) == (Lot(1, 10),)
    assert wallet.state() == WalletState(available_pico=0, held_pico=10)


def test_nothing_is_taken_out_of_no_lot_also_from_an_empty_wallet() -> None:
    wallet = Wallet()
    assert wallet.hold(0) == ()
    assert wallet.changed == set()


def test_what_goes_back_goes_to_its_lots_and_burns_in_their_place_again() -> None:
    wallet = Wallet([lot(1, 10, days=1), lot(2, 10, days=2)])
    held = wallet.hold(15)
    assert held == (Lot(1, 10), Lot(2, 5))
    wallet.grant(lot(3, 10, days=3))
    wallet.unhold(held)
    assert wallet.give_back(held, NOW) == ()
    assert [(one.seq, one.available_pico) for one in wallet.burning()] == [(1, 10), (2, 10), (3, 10)]
    assert wallet.state() == WalletState(available_pico=30, held_pico=0)


def test_what_goes_back_after_its_lot_has_expired_is_named_and_in_no_lot() -> None:
    wallet = Wallet([lot(1, 10, days=1), lot(2, 10)])
    held = wallet.hold(12) or ()
    wallet.unhold(held)
    assert wallet.give_back(held, NOW + timedelta(days=1)) == (Lot(1, 10),)
    assert wallet.state() == WalletState(available_pico=10, held_pico=0)


def test_a_lot_is_over_from_the_instant_of_its_expiry_on() -> None:
    wallet = Wallet([lot(1, 10, days=1)])
    assert wallet.expire(NOW + timedelta(days=1, microseconds=-1)) is None
    assert wallet.expire(NOW + timedelta(days=1)) == Lot(1, 10)
    assert wallet.expire(NOW + timedelta(days=1)) is None
    assert wallet.available_pico == 0


def test_only_what_is_available_expires_and_lots_expire_in_their_order() -> None:
    wallet = Wallet([lot(1, 4, days=2, amount=10), lot(2, 10, days=1), lot(3, 0, days=1, amount=5)])
    late = NOW + timedelta(days=3)
    assert [wallet.expire(late), wallet.expire(late), wallet.expire(late)] == [Lot(2, 10), Lot(1, 4), None]


def test_the_lots_that_changed_are_known_to_be_saved() -> None:
    wallet = Wallet([lot(1, 10, days=1), lot(2, 10)])
    wallet.take(4)
    assert wallet.changed == {1}
    wallet.grant(lot(3, 1))
    assert wallet.changed == {1, 3}
