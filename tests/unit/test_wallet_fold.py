"""The fold takes what follows, and nothing that does not: each way of bending an account's entries is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tallystick.contract.decision import Budget
from tallystick.ledger.fold import DoesNotFollow, FoldEntry, OrgFold
from tallystick.ledger.operations import CREDIT, Expire, Grant, Granted, Lot, Noted, SetBudget, SetStanding, WalletState
from tallystick.ledger.org_account import Step
from wallet_org import CENT_PICO, CONTRACT, GRACE, NOW, Org

replace = msgspec.structs.replace
MINUTE = timedelta(minutes=1)


def history() -> list[FoldEntry]:
    """An account in which everything happens once, entry by entry; the seventh is late for its grant."""
    org, entries = Org(), []

    def keep(steps: list[Step]) -> int:
        for step in steps:
            user = "u1" if step.kind == "hold" else None
            entries.append(FoldEntry(step.seq, step.kind, org.now, step.request, step.result, step.refers_to_seq, user))
        return steps[0].seq

    original = org._took

    def took(steps: list[Step]) -> list[Step]:
        original(steps)
        if steps:
            keep(steps)
        return steps

    org._took = took  # type: ignore[method-assign]
    org.grant(7, days=0.005)  # 1
    org.grant(40)  # 2
    first = org.hold("agent", plan="loose", cost=10 * CENT_PICO, tokens_in=1, key=None)  # 3
    second = org.hold(key="d1")  # 4
    [charged] = org.settle_all(first, cost=20 * CENT_PICO)  # 5
    third = org.hold()  # 6
    org.release(third)  # 7
    org.settle(second)  # 8
    fourth = org.hold("find")  # 9
    org.now += timedelta(minutes=15)
    org.sweep()  # 10
    org.refund(charged.seq)  # 11, 12
    org.now += GRACE
    org.sweep()  # 13
    assert fourth == 9
    return entries


HISTORY = history()
KINDS = [
    "grant", "grant", "hold", "hold", "settlement", "hold", "release", "settlement", "hold", "expiry", "refund",
    "grant", "expiry",
]  # fmt: skip


def folded(entries: list[FoldEntry]) -> OrgFold:
    fold = OrgFold()
    for entry in entries:
        fold.add(entry)
    return fold


def test_what_the_machine_writes_follows_and_comes_to_what_it_left() -> None:
    assert [entry.kind for entry in HISTORY] == KINDS
    fold = folded(HISTORY)
    # 47 came in; 26 were charged and went back, 7 of them to the grant that is over, and ended a second time; 5 stay.
    assert fold.wallet.state() == WalletState(available_pico=35 * CREDIT, held_pico=0)
    assert list(fold.finished) == [("write", "d1")]
    assert fold.holds == {}
    assert fold.reserved() == {}


def test_open_holds_reserve_what_they_may_take() -> None:
    fold = folded(HISTORY[:4])
    assert fold.reserved() == {"meter:tokens_in": 1}
    budget = Budget(name="b", scope="user", subject=None, of="cost", per="day", kind="hard", max_pico=1)
    request = SetBudget(name="b", budget=budget, author="a")
    fold.add(FoldEntry(5, "budget", NOW, request, Noted(effective_at=NOW)))
    assert fold.reserved() == {"meter:tokens_in": 1, "cost:user:u1": 10 * CENT_PICO}


def result(**members: Any) -> Callable[[FoldEntry], FoldEntry]:
    return lambda entry: entry._replace(result=replace(entry.result, **members))


def request_(**members: Any) -> Callable[[FoldEntry], FoldEntry]:
    return lambda entry: entry._replace(request=replace(entry.request, **members))


@pytest.mark.parametrize(
    ("seq", "bent"),
    [
        (2, lambda entry: entry._replace(seq=1)),
        (2, request_(amount_pico=41 * CREDIT)),
        (1, request_(expires_at=NOW)),
        (2, request_(source="refund", of_seq=1)),
        (2, result(after=WalletState(available_pico=48 * CREDIT, held_pico=0))),
        (2, result(before=WalletState(available_pico=0, held_pico=0))),
        (3, result(lots=(Lot(2, 13 * CREDIT),))),
        (3, result(lots=(Lot(1, 7 * CREDIT), Lot(2, 7 * CREDIT), Lot(2, -CREDIT)))),
        (3, result(lots=(Lot(1, 7 * CREDIT), Lot(9, 6 * CREDIT)))),
        (3, lambda entry: entry._replace(kind="denial")),
        (5, lambda entry: entry._replace(refers_to_seq=4)),
        (5, request_(hold_seq=4)),
        (5, result(charged=(Lot(1, 7 * CREDIT),))),
        (5, result(overage=(Lot(2, 12 * CREDIT),))),
        (5, result(receivable_pico=-1)),
        (5, result(rounding_pico=100 * CREDIT)),
        (7, lambda entry: entry._replace(refers_to_seq=3)),
        (7, result(returned=(Lot(2, 4 * CREDIT),))),
        (7, result(expired_pico=1)),
        (7, result(receivable_pico=1)),
        (8, result(finished=True, returned=(Lot(2, 5 * CREDIT),), charged=())),
        (3, result(lots=())),
        (6, result(expires_at=NOW)),
        (10, lambda entry: entry._replace(recorded_at=entry.recorded_at - MINUTE)),
        (11, result(returned=(Lot(1, 7 * CREDIT), Lot(2, 19 * CREDIT)))),
        (11, result(rounding_pico=1)),
        (11, request_(amount_pico=26 * CREDIT + 1)),
        (11, result(receivable_pico=1)),
        (11, result(returned=(Lot(2, 26 * CREDIT),), expired_pico=0)),
        (11, request_(amount_pico=1)),
        (11, request_(settlement_seq=8)),
        (11, lambda entry: entry._replace(refers_to_seq=8, request=replace(entry.request, settlement_seq=8))),
        (12, request_(amount_pico=8 * CREDIT)),
        (12, request_(of_seq=2)),
        (13, lambda entry: entry._replace(recorded_at=entry.recorded_at - MINUTE)),
        (13, request_(seq=2)),
        (13, result(lots=(Lot(12, 6 * CREDIT),))),
        (13, lambda entry: entry._replace(request=SetStanding(suspended=None, enforcement=None, author="a"))),
    ],
)
def test_a_bent_entry_does_not_follow(seq: int, bent: Callable[[FoldEntry], FoldEntry]) -> None:
    entries = list(HISTORY)
    entries[seq - 1] = bent(entries[seq - 1])
    with pytest.raises(DoesNotFollow) as found:
        folded(entries)
    assert found.value.seq in (seq, seq - 1)


def test_a_part_goes_back_to_the_lots_that_burnt_last() -> None:
    entries = list(HISTORY[:10])
    before = folded(entries).wallet.state()
    after = replace(before, available_pico=before.available_pico + 4 * CREDIT)
    request = replace(HISTORY[10].request, amount_pico=4 * CREDIT)
    returned = replace(HISTORY[10].result, returned=(Lot(2, 4 * CREDIT),), expired_pico=0, before=before, after=after)
    partly = HISTORY[10]._replace(request=request, result=returned)
    assert folded([*entries, partly]).wallet.state() == after
    # The second lot is where this comes from, though the first one was charged as well, and more than that.
    bent = partly._replace(result=replace(returned, returned=(Lot(1, 4 * CREDIT),)))
    with pytest.raises(DoesNotFollow, match="burnt last"):
        folded([*entries, bent])


@pytest.mark.parametrize(
    "bent",
    [
        result(expires_at=NOW + 16 * MINUTE),
        result(cost_pico=1),
        result(charge_pico=6 * CENT_PICO),
        result(billed=False),
        request_(environment="staging"),
        request_(action="find"),
        lambda entry: entry._replace(
            result=replace(
                entry.result,
                decision=replace(entry.result.decision, quote=replace(entry.result.decision.quote, repeat=True)),
            )
        ),
    ],
)
def test_a_hold_reserves_what_its_contract_says(bent: Callable[[FoldEntry], FoldEntry]) -> None:
    fold = OrgFold({CONTRACT.sha256: CONTRACT}.get)
    for entry in HISTORY[:3]:
        fold.add(entry)
    with pytest.raises(DoesNotFollow, match="the contract says"):
        fold.add(bent(HISTORY[3]))


def test_a_hold_that_its_wallet_covers_reserves_what_is_quoted() -> None:
    held: Any = HISTORY[2].result
    bent = HISTORY[2]._replace(result=replace(held, decision=replace(held.decision, shadow=True), lots=()))
    with pytest.raises(DoesNotFollow, match="its decision is to hold"):
        folded([*HISTORY[:2], bent])


@pytest.mark.parametrize(
    "bent",
    [
        result(charged=(Lot(2, 4 * CREDIT),), returned=(Lot(2, CREDIT),)),
        result(finished=False),
        result(charge_pico=4 * CENT_PICO),
        result(rounding_pico=1),
        request_(outcome="failure"),
        request_(charge_pico=CREDIT),
    ],
)
def test_a_settlement_charges_what_its_contract_says(bent: Callable[[FoldEntry], FoldEntry]) -> None:
    fold = OrgFold({CONTRACT.sha256: CONTRACT}.get)
    for entry in HISTORY[:7]:
        fold.add(entry)
    with pytest.raises(DoesNotFollow, match=r"the contract says \d+"):
        fold.add(bent(HISTORY[7]))


def test_what_an_unknown_contract_says_is_taken_as_it_stands() -> None:
    fold = OrgFold({"other": CONTRACT}.get)
    for entry in HISTORY:
        fold.add(entry)
    assert fold.wallet.available_pico == 35 * CREDIT


@pytest.mark.parametrize("seq", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
def test_an_entry_cannot_be_left_out(seq: int) -> None:
    with pytest.raises(DoesNotFollow):
        folded([entry for entry in HISTORY if entry.seq != seq])


@pytest.mark.parametrize("seq", [5, 7, 8, 10, 11, 12, 13])
def test_an_entry_cannot_come_twice(seq: int) -> None:
    again = HISTORY[seq - 1]._replace(seq=99)
    with pytest.raises(DoesNotFollow):
        folded([*HISTORY, again])


def test_a_grant_ends_in_its_turn() -> None:
    org = Org()
    org.grant(3, days=2)
    org.grant(4, days=1)
    fold = OrgFold()
    for lot in (1, 2):
        granted = org.account.wallet.lots[lot]
        before = fold.wallet.state()
        after = replace(before, available_pico=before.available_pico + granted.amount_pico)
        request = Grant(
            source="top_up", amount_pico=granted.amount_pico, expires_at=granted.expires_at, author="a", reason="r"
        )
        fold.add(FoldEntry(lot, "grant", NOW, request, Granted(before=before, after=after)))
    org.now += timedelta(days=3)
    first, second = org.sweep()
    assert (first.refers_to_seq, second.refers_to_seq) == (2, 1)
    with pytest.raises(DoesNotFollow):
        fold.add(FoldEntry(3, "expiry", org.now, Expire(what="grant", seq=1), second.result, 1))
