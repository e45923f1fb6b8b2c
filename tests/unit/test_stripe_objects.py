"""Stripe's objects as facts: only what has moved moves, and by amounts that are its own."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.app.payments.providers import find_adapter
from tallystick.app.payments.stripe import StripeAdapter
from tallystick.app.settings import Settings
from tallystick.billing.payment_fact import Movement, PaymentFact, decode_fact, encode_fact, movement_usd
from tallystick.billing.stripe_objects import (
    metadata_of,
    object_id,
    paid_by_charge,
    paid_by_intent,
    returned_by_dispute,
    returned_by_refund,
)
from tallystick.core.errors import BadInput, NotFound, TallyError, Unavailable

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("id", "status", "paid", "captured", "amount", "amount_received", "amount_captured", "currency", "metadata")
SAID = st.sampled_from(["succeeded", "lost", "won", "failed", "pi_1", "usd", True, 500]) | ANYTHING


def moved_or_refused(read: Callable[[dict[str, Any]], Movement | None], one: dict[str, Any]) -> Movement | str | None:
    try:
        return read(one)
    except BadInput as error:
        return error.code


@given(st.dictionaries(st.sampled_from(MEMBERS), SAID))
def test_whatever_an_object_is_it_is_a_movement_or_none_or_is_refused(one: dict[str, Any]) -> None:
    readers = (
        paid_by_intent,
        paid_by_charge,
        lambda refund: returned_by_refund(refund, "pi_1"),
        lambda dispute: returned_by_dispute(dispute, "pi_1"),
    )
    for read in readers:
        moved = moved_or_refused(read, one)
        if isinstance(moved, Movement):
            assert moved.amount in (one.get("amount"), one.get("amount_received"), one.get("amount_captured"))
            assert moved.amount > 0
        else:
            assert moved in (None, "payment_event_unverified")
    said = metadata_of(one)
    assert all(0 < len(text) <= 512 and "\0" not in text for text in said.values())


MOVEMENTS = st.builds(
    Movement,
    st.text(min_size=1, max_size=20),
    st.sampled_from(["paid", "returned", "reverted"]),
    st.integers(1, 2**53 - 1),
    st.sampled_from(["usd", "eur", "jpy"]),
    st.none() | st.text(max_size=10),
)


@given(st.lists(MOVEMENTS, max_size=3), st.none() | st.text(max_size=10), st.booleans())
def test_a_fact_is_read_as_it_was_written(moved: list[Movement], said: str | None, livemode: bool) -> None:
    fact = PaymentFact(
        event_id="evt_1", type="t", livemode=livemode, movements=tuple(moved), invoice_id=said, payment_id="pi_1"
    )
    assert decode_fact(encode_fact(fact)) == fact
    assert encode_fact(decode_fact(encode_fact(fact))) == encode_fact(fact)


@pytest.mark.parametrize(
    ("amount", "currency", "usd"),
    [(1, "usd", "0.01"), (100000, "usd", "1000.00"), (500, "jpy", None), (500, "eur", None), (10**15 + 1, "usd", None)],
)
def test_an_amount_of_another_currency_is_no_amount(amount: int, currency: str, usd: str | None) -> None:
    movement = Movement("pi_1", "paid", amount, currency)
    if usd is not None:
        assert movement_usd(movement) == usd
        return
    with pytest.raises(BadInput) as refused:
        movement_usd(movement)
    assert refused.value.code == ("invalid_amount" if currency == "usd" else "currency_not_supported")


def test_ids_are_ids() -> None:
    assert object_id({"id": "pi_1"}) == object_id("pi_1") == "pi_1"
    wrong_ids: tuple[object, ...] = ("../x", "", None, 5, {}, "a" * 256)
    for wrong in wrong_ids:
        with pytest.raises(BadInput):
            object_id(wrong)


def test_what_is_not_set_up_takes_no_callbacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for settings in (
        Settings(data_dir=tmp_path),
        Settings(data_dir=tmp_path, stripe_api_key="sk_test_1"),
        Settings(data_dir=tmp_path, stripe_webhook_secret="whsec_1"),
    ):
        with pytest.raises(NotFound) as unknown:
            find_adapter(settings, "stripe")
        assert unknown.value.code == "unknown_provider"
    with pytest.raises(BadInput) as unreadable:
        find_adapter(Settings(data_dir=tmp_path, stripe_api_key_file=tmp_path / "none"), "stripe")
    assert (unreadable.value.code, unreadable.value.where) == ("invalid_setting", "TALLY_STRIPE_API_KEY_FILE")

    whole = Settings(data_dir=tmp_path, stripe_api_key="sk_test_hidden", stripe_webhook_secret="whsec_hidden")
    assert "hidden" not in repr(whole) + str(whole.model_dump())
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "stripe":
            raise ModuleNotFoundError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable) as missing:
        StripeAdapter(whole)
    assert missing.value.code == "payment_library_missing"
    assert "tallystick[stripe]" in missing.value.next_step
    assert isinstance(missing.value, TallyError)
