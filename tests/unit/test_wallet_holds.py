"""What becomes of holds: cases that a person can work out by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tallystick.contract.decision import Budget
from tallystick.core.errors import Conflict, NotFound
from tallystick.ledger.operations import (
    CREDIT,
    Denied,
    Grant,
    Granted,
    Held,
    Lot,
    Returned,
    SetBudget,
    SetStanding,
    Settled,
    WalletState,
)
from tallystick.ledger.org_changes import set_budget, set_standing
from wallet_org import CENT_PICO, GRACE, NOW, Org

# ── holds and their ends ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_success_charges_the_price_and_shows_the_wallet_before_and_after() -> None:
    org = Org(20)
    settled = org.settle(org.hold())
    assert settled.charged == (Lot(1, 5 * CREDIT),)
    assert settled.before == WalletState(available_pico=15 * CREDIT, held_pico=5 * CREDIT)
    assert settled.after == WalletState(available_pico=15 * CREDIT, held_pico=0)
    assert settled.charge_pico == 5 * CENT_PICO


@pytest.mark.parametrize(
    ("action", "outcome", "left"),
    [("write", "empty", 20), ("write", "failure", 20), ("find", "empty", 18), ("find", "failure", 20)],
)
def test_an_outcome_that_is_not_charged_gives_all_back(action: str, outcome: str, left: int) -> None:
    org = Org(20)
    org.settle(org.hold(action), outcome)
    assert org.wallet == (left, 0)


def test_a_hold_takes_what_there_is_once_however_many_ask() -> None:
    org = Org(12)
    first, second, third = org.hold(), org.hold(), org.ask()
    assert isinstance(third.result, Denied)
    assert third.kind == "denial"
    assert third.result.decision.code == "insufficient_credits"
    assert third.result.wallet == WalletState(available_pico=2 * CREDIT, held_pico=10 * CREDIT)
    org.release(first)
    org.settle(second)
    assert org.wallet == (7, 0)


def test_a_denial_opens_no_hold() -> None:
    org = Org(1)
    denied = org.ask()
    with pytest.raises(NotFound) as refused:
        org.settle_all(denied.seq)
    assert refused.value.code == "hold_unknown"


def test_a_release_gives_all_back_to_the_lots_it_came_from() -> None:
    org = Org(3, 10)
    hold = org.hold()
    [step] = org.release(hold)
    assert isinstance(step.result, Returned)
    assert step.result.returned == (Lot(1, 3 * CREDIT), Lot(2, 2 * CREDIT))
    assert step.refers_to_seq == hold
    assert org.wallet == (13, 0)


@pytest.mark.parametrize("first", ["settle", "release"])
@pytest.mark.parametrize("then", ["settle", "release"])
def test_a_hold_is_resolved_once(first: str, then: str) -> None:
    org = Org(20)
    hold = org.hold()
    ends = {"settle": org.settle_all, "release": org.release}
    ends[first](hold)
    with pytest.raises(Conflict) as refused:
        ends[then](hold)
    assert refused.value.code == "hold_resolved"
    assert org.wallet == (15 if first == "settle" else 20, 0)
    assert org.account.resolved[hold].kind == {"settle": "settlement", "release": "release"}[first]


def test_a_hold_lives_until_its_end_and_not_an_instant_longer() -> None:
    org = Org(20)
    one, other = org.hold(), org.hold()
    org.now += timedelta(minutes=15) - timedelta(microseconds=1)
    org.settle(one)
    org.now += timedelta(microseconds=1)
    with pytest.raises(Conflict) as refused:
        org.settle_all(other)
    assert refused.value.code == "hold_expired"
    assert org.wallet == (10, 5)
    [step] = org.sweep()
    assert (step.kind, step.refers_to_seq, step.request_id) == ("expiry", other, f"h{other}")
    assert org.wallet == (15, 0)
    for end in (org.settle_all, org.release):
        with pytest.raises(Conflict) as refused:
            end(other)
        assert refused.value.code == "hold_expired"


def test_sweeping_ends_what_is_over_once_the_earliest_first() -> None:
    org = Org(20)
    org.grant(1, days=0.001)
    first = org.hold("find")
    org.now += timedelta(minutes=1)
    second = org.hold("find")
    org.now += timedelta(days=1)
    steps = org.sweep()
    # The first hold held the credit that had expired, which comes back for the grace.
    assert [(step.kind, step.refers_to_seq) for step in steps] == [
        ("expiry", first), ("grant", None), ("expiry", second)
    ]  # fmt: skip
    assert org.sweep() == []
    assert org.wallet == (21, 0)


def test_what_is_left_of_a_grant_ends_and_what_is_held_of_it_can_still_be_charged() -> None:
    org = Org()
    lot = org.grant(7, days=0.005)
    hold = org.hold()
    org.now += timedelta(minutes=10)
    [ended] = org.sweep()
    assert (ended.kind, ended.refers_to_seq, ended.request_id) == ("expiry", lot, f"g{lot}")
    assert org.wallet == (0, 5)
    assert org.settle(hold).charged == (Lot(lot, 5 * CREDIT),)
    assert org.wallet == (0, 0)


def test_what_goes_back_after_its_grant_has_expired_is_granted_again_for_the_grace() -> None:
    org = Org()
    lot = org.grant(7, days=0.005)
    hold = org.hold()
    org.now += timedelta(minutes=10)
    org.sweep()
    settled, again = org.settle_all(hold, "failure")
    assert isinstance(settled.result, Settled)
    assert settled.result.expired_pico == 5 * CREDIT
    assert settled.result.after == WalletState(available_pico=0, held_pico=0)
    assert isinstance(again.request, Grant)
    assert isinstance(again.result, Granted)
    assert (again.request.source, again.request.of_seq, again.request.amount_pico) == ("refund", lot, 5 * CREDIT)
    assert again.request.expires_at == org.now + GRACE
    assert again.request_id == f"s{settled.seq}.g{lot}"
    assert org.wallet == (5, 0)


def test_holding_and_releasing_makes_credits_live_one_grace_longer_and_no_more() -> None:
    org = Org()
    org.grant(5, days=0.01)
    first = org.hold()
    org.now += timedelta(minutes=14, seconds=30)
    assert [step.kind for step in org.release(first)] == ["release", "grant"]
    org.now += GRACE - timedelta(minutes=1)
    second = org.hold()
    org.now += timedelta(minutes=2)
    assert [step.kind for step in org.release(second)] == ["release"]
    assert org.wallet == (0, 0)


# ── the same work again ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_finished_work_is_free_within_its_window_which_does_not_move() -> None:
    org = Org(20)
    org.settle(org.hold(key="d1"))
    org.now += timedelta(days=29)
    again = org.hold(key="d1")
    assert org.settle(again).charged == ()
    org.now += timedelta(days=1)
    assert org.settle(org.hold(key="d1")).charged != ()
    assert org.wallet == (10, 0)


def test_other_work_and_work_without_a_key_is_charged_each_time() -> None:
    org = Org(50)
    for key in ("d1", "d2", None, None):
        org.settle(org.hold(key=key))
    assert org.wallet == (30, 0)


def test_work_that_failed_or_was_not_billed_is_not_finished() -> None:
    org = Org(50)
    org.settle(org.hold(key="d1"), "failure")
    org.settle(org.hold(key="d1", where="staging"))
    assert org.settle(org.hold(key="d1")).finished
    assert org.wallet == (45, 0)


def test_of_two_holds_for_the_same_work_the_second_to_settle_is_the_repeat() -> None:
    org = Org(50)
    first, second = org.hold("rewrite", key="d1"), org.hold("rewrite", key="d1")
    assert org.settle(second).charged == (Lot(1, 5 * CREDIT),)
    repeated = org.settle(first)
    assert repeated.charged == (Lot(1, 2 * CREDIT),)
    assert repeated.returned == (Lot(1, 3 * CREDIT),)
    assert not repeated.finished
    assert org.wallet == (43, 0)


def test_a_repeat_that_was_promised_is_kept_when_its_window_ends_meanwhile() -> None:
    org = Org(50)
    org.settle(org.hold(key="d1"))
    org.now += timedelta(days=30) - timedelta(minutes=1)
    hold = org.hold(key="d1")
    org.now += timedelta(minutes=5)
    settled = org.settle(hold)
    assert (settled.charged, settled.finished) == ((), False)


# ── our cost and a share ────────────────────────────────────────────────────────────────────────────────────────────


def test_cost_plus_charges_whole_credits_and_says_what_was_only_rounding() -> None:
    org = Org(300)
    settled = org.settle(org.hold("agent"), cost=10 * CENT_PICO + 1)
    # 10 cents and a pico-dollar with 30 % on top are 13 credits and 130 pico-credits: 14 credits.
    assert settled.charged == (Lot(1, 14 * CREDIT),)
    assert settled.rounding_pico == CREDIT - 130
    assert org.wallet == (286, 0)


def test_cost_plus_never_charges_more_than_the_hold_where_the_plan_allows_no_overage() -> None:
    org = Org(300)
    settled = org.settle(org.hold("agent", cost=10 * CENT_PICO, tokens_in=1), cost=100 * CENT_PICO)
    assert settled.charged == (Lot(1, 13 * CREDIT),)
    assert (settled.overage, settled.receivable_pico, settled.rounding_pico) == ((), 0, 0)


def test_overage_comes_out_of_the_wallet_and_is_owed_beyond_it() -> None:
    org = Org(20)
    hold = org.hold("agent", plan="loose", cost=10 * CENT_PICO, tokens_in=1)
    settled = org.settle(hold, cost=100 * CENT_PICO)
    assert settled.charged == (Lot(1, 13 * CREDIT),)
    assert settled.overage == (Lot(1, 7 * CREDIT),)
    assert settled.receivable_pico == 110 * CREDIT
    assert org.wallet == (0, 0)


def test_overage_ends_at_the_most_that_the_action_is_ever_charged() -> None:
    org = Org(1000)
    hold = org.hold("agent", plan="loose", cost=10 * CENT_PICO, tokens_in=1)
    org.settle(hold, cost=10**9 * CENT_PICO)
    assert org.wallet == (800, 0)


def test_a_caller_may_bound_the_charge_below_the_price_and_never_above_the_hold() -> None:
    org = Org(20)
    hold = org.hold()
    with pytest.raises(Conflict) as refused:
        org.settle_all(hold, bound=5 * CREDIT + 1)
    assert refused.value.code == "settle_above_hold"
    assert org.wallet == (15, 5)
    assert org.settle(hold, bound=2 * CREDIT).charged == (Lot(1, 2 * CREDIT),)
    assert org.wallet == (18, 0)


def test_what_a_bound_cuts_off_is_rounding_first() -> None:
    org = Org(300)
    settled = org.settle(org.hold("agent"), cost=10 * CENT_PICO + 1, bound=14 * CREDIT - 7)
    assert settled.charged == (Lot(1, 14 * CREDIT - 7),)
    assert settled.rounding_pico == CREDIT - 130 - 7


def test_a_bound_does_not_make_a_charge_of_what_is_free() -> None:
    org = Org(20)
    org.settle(org.hold(), "failure", bound=5 * CREDIT)
    assert org.wallet == (20, 0)


# ── where nothing is charged ────────────────────────────────────────────────────────────────────────────────────────


def test_an_environment_that_is_not_billed_holds_and_charges_nothing_and_reserves_no_limit() -> None:
    org = Org(20)
    hold = org.hold(where="staging", tokens_in=70, cost=5)
    assert org.account.reserved == {}
    settled = org.settle(hold, cost=7)
    assert (settled.charged, settled.cost_pico, settled.charge_pico) == ((), 7, 0)
    assert org.wallet == (20, 0)


def test_a_key_of_the_customers_own_pays_for_no_credits_and_spends_none_of_our_money() -> None:
    org = Org()
    budget = Budget(name="b", scope="org", subject=None, of="cost", per="day", kind="hard", max_pico=1)
    set_budget(org.account, 1, NOW, SetBudget(name="b", budget=budget, author="a"))
    step = org.ask(plan="byok", cost=10**12, tokens_in=5)
    assert isinstance(step.result, Held)
    assert (step.result.lots, step.result.cost_pico) == ((), 0)


def test_in_shadow_mode_what_cannot_be_covered_passes_unreserved_and_uncharged() -> None:
    org = Org(3)
    set_standing(org.account, 2, NOW, SetStanding(suspended=None, enforcement="shadow", author="a"))
    step = org.ask(key="d1")
    assert isinstance(step.result, Held)
    assert step.result.lots == ()
    assert step.result.decision.enforced is not None
    assert step.result.decision.enforced.code == "insufficient_credits"
    settled = org.settle(step.seq)
    assert (settled.charged, settled.receivable_pico, settled.finished) == ((), 0, False)
    assert org.wallet == (3, 0)


def test_in_shadow_mode_what_was_let_pass_uncovered_is_not_owed_as_overage() -> None:
    org = Org(3)
    set_standing(org.account, 2, NOW, SetStanding(suspended=None, enforcement="shadow", author="a"))
    settled = org.settle(org.hold("agent", plan="loose", cost=10 * CENT_PICO, tokens_in=1), cost=10 * CENT_PICO)
    assert (settled.overage, settled.receivable_pico, settled.rounding_pico) == ((), 0, 0)
    assert org.wallet == (3, 0)


def test_in_shadow_mode_what_is_covered_is_held_and_charged() -> None:
    org = Org(20)
    set_standing(org.account, 2, NOW, SetStanding(suspended="unpaid", enforcement="shadow", author="a"))
    step = org.ask()
    assert isinstance(step.result, Held)
    assert step.result.decision.enforced is not None
    assert step.result.decision.enforced.code == "org_suspended"
    org.settle(step.seq)
    assert org.wallet == (15, 0)
