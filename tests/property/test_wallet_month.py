"""The month of a wallet adds up, whatever happened to it, and wherever the month begins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.invoice.credit_lines import wallet_section
from tallystick.invoice.wallet import WalletMonth
from tallystick.ledger.operation_body import encode_body
from tallystick.ledger.operation_transfers import transfers_of
from tallystick.ledger.operations import (
    Ended,
    Expire,
    Grant,
    Granted,
    Lot,
    Refund,
    ReleaseHold,
    Returned,
    Settle,
    Settled,
    WalletState,
)

amounts = st.integers(0, 10**15)
SOURCES = ("top_up", "included", "promo", "sla", "dispute", "goodwill", "refund")
NOBODY = {"author": "ann", "reason": "x"}


@st.composite
def settlements(draw: st.DrawFn) -> tuple[str, Any, dict[str, Any]]:
    charged, overage, owed, back = (draw(amounts) for _ in range(4))
    members = {
        "charged": (Lot(1, charged),),
        "overage": (Lot(1, overage),),
        "receivable_pico": owed,
        "rounding_pico": draw(st.integers(0, charged + overage + owed)),
        "returned": (Lot(1, back),),
        "expired_pico": draw(st.integers(0, back)),
        "finished": True,
        "cost_pico": 0,
        "priced": True,
        "charge_pico": 0,
        "why": "because",
    }
    return "settlement", Settle(hold_seq=1, outcome="success"), {"type": Settled, **members}


@st.composite
def returns(draw: st.DrawFn) -> tuple[str, Any, dict[str, Any]]:
    back, owed = draw(amounts), draw(amounts)
    gone = draw(st.integers(0, back))
    members: dict[str, Any] = {"type": Returned, "returned": (Lot(1, back),), "expired_pico": gone}
    kind = draw(st.sampled_from(["release", "expiry", "refund"]))
    if kind == "refund":
        members |= {"receivable_pico": owed, "rounding_pico": draw(st.integers(0, owed + back))}
        return kind, Refund(settlement_seq=1, amount_pico=None, **NOBODY), members
    return kind, ReleaseHold(hold_seq=1) if kind == "release" else Expire(what="hold", seq=1), members


grants = st.builds(
    lambda source, amount: ("grant", Grant(source=source, amount_pico=amount, **NOBODY), {"type": Granted}),
    st.sampled_from(SOURCES),
    st.integers(1, 10**15),
)
ends = st.builds(
    lambda amount: ("expiry", Expire(what="grant", seq=1), {"type": Ended, "lots": (Lot(1, amount),)}), amounts
)
operations = st.lists(st.one_of(grants, ends, returns(), settlements()), max_size=12)


def bodies(steps: list[tuple[str, Any, dict[str, Any]]]) -> list[tuple[str, str, tuple[int, int]]]:
    """Each step as its entry has it, in a wallet that is large enough for all of them, and the balances after it."""
    available, held, found = 10**18, 10**18, []
    for kind, request, given_members in steps:
        members = dict(given_members)
        result = members.pop("type")
        before = WalletState(available_pico=available, held_pico=held)
        draft = result(**members, before=before, after=before)
        for debit, credit, amount in transfers_of(kind, request, draft):  # type: ignore[arg-type]
            available += amount * ((credit == "wallet_available") - (debit == "wallet_available"))
            held += amount * ((credit == "wallet_held") - (debit == "wallet_held"))
        after = WalletState(available_pico=available, held_pico=held)
        body = encode_body(request, result(**members, before=before, after=after)).decode()
        found.append((kind, body, (available, held)))
    return found


@given(operations)
def test_what_came_in_less_what_went_out_is_the_difference(steps: list[tuple[str, Any, dict[str, Any]]]) -> None:
    month, last = WalletMonth(), (10**18, 10**18)
    for kind, body, after in bodies(steps):
        month.add(kind, body, 0)
        last = after
    if month.opening is None:
        assert wallet_section(month) is None
        return
    assert month.closing == last
    granted = sum(one.amount_pico for one in month.granted.values())
    assert sum(month.opening) + granted + month.refunded - month.charged - month.expired == sum(last)


@given(operations, st.integers(0, 12))
def test_two_months_come_to_what_one_would(steps: list[tuple[str, Any, dict[str, Any]]], cut: int) -> None:
    whole, parts = WalletMonth(), (WalletMonth(), WalletMonth())
    for place, (kind, body, _) in enumerate(bodies(steps)):
        whole.add(kind, body, 0)
        parts[place >= cut].add(kind, body, 0)
    for name in ("operations", "charged", "refunded", "expired"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    assert whole.owed.get(0, 0) == sum(part.owed.get(0, 0) for part in parts)
    assert whole.moved == tuple(sum(both) for both in zip(*(part.moved for part in parts), strict=True))
    first, second = parts
    if first.operations and second.operations:
        assert first.closing == second.opening


def test_a_body_that_is_none_is_refused_and_changes_nothing() -> None:
    month = WalletMonth()
    for body in (None, "", "{}", '{"request":{},"result":{}}'):
        with pytest.raises(ValueError, match=r".+"):
            month.add("grant", body, 0)
    assert month == WalletMonth()
    month.add("budget", None, 0)  # moves nothing, whatever it says
    assert month == WalletMonth()
