"""Budgets and overrides beside open holds; refunds and grants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tallystick.contract.decision import Budget, Override
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Denied,
    Grant,
    Held,
    Lot,
    Noted,
    Returned,
    SetBudget,
    SetOverride,
)
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.org_changes import grant, set_budget, set_override
from wallet_org import CENT_PICO, GRACE, NOW, Org

# ── limits and budgets under holds ──────────────────────────────────────────────────────────────────────────────────


def test_open_holds_reserve_limits_so_that_many_at_once_cannot_pass_them() -> None:
    org = Org(100)
    first = org.hold(tokens_in=60)
    denied = org.ask(tokens_out=41).result
    assert isinstance(denied, Denied)
    assert (denied.decision.code, denied.decision.limits[0].held) == ("hard_limit_reached", 60)
    second = org.hold(tokens_out=40)
    assert org.account.reserved == {"meter:tokens_in": 60, "meter:tokens_out": 40}
    org.release(first)
    org.settle(second)
    assert set(org.account.reserved.values()) == {0}


def test_what_is_recorded_in_the_present_window_counts() -> None:
    org = Org(100)
    org.account.used["day:meter:tokens_in", datetime(2026, 10, 5, tzinfo=UTC)] = 90
    org.account.used["day:meter:tokens_in", datetime(2026, 10, 4, tzinfo=UTC)] = 900
    denied = org.ask(tokens_out=11).result
    assert isinstance(denied, Denied)
    assert denied.decision.limits[0].used == 90
    org.hold(tokens_out=10)


def test_who_waits_for_included_credits_is_told_when_they_come() -> None:
    org = Org(1)
    denied = org.ask(plan="included").result
    assert isinstance(denied, Denied)
    assert denied.decision.code == "top_up_not_available"
    assert denied.decision.next_step.until == datetime(2026, 11, 1, tzinfo=UTC)


def test_a_budget_counts_the_holds_that_were_open_before_it() -> None:
    org = Org(100)
    org.hold(cost=7, user="u1", tokens_in=1)
    org.hold(cost=5, user="u2", tokens_in=1)
    for scope in ("user", "org"):
        budget = Budget(name=scope, scope=scope, subject=None, of="cost", per="day", kind="hard", max_pico=12)
        set_budget(org.account, org.seq + 1, NOW, SetBudget(name=scope, budget=budget, author="a"))
    spending = {name: amount for name, amount in org.account.reserved.items() if name.startswith("cost")}
    assert spending == {"cost:user:u1": 7, "cost:user:u2": 5, "cost:org": 12}
    denied = org.ask(cost=1, user="u3", tokens_in=1).result
    assert isinstance(denied, Denied)
    assert denied.decision.code == "budget_exceeded"
    set_budget(org.account, org.seq + 1, NOW, SetBudget(name="org", budget=None, author="a"))
    org.hold(cost=1, user="u3", tokens_in=1)
    assert org.account.reserved["cost:org"] == 0


def test_a_budget_of_somebody_is_nobody_elses() -> None:
    org = Org(100)
    for scope, subject in (("user", "u1"), ("feature", "f"), ("api_key", "k1")):
        budget = Budget(name=scope, scope=scope, subject=subject, of="charge", per="day", kind="soft", max_pico=1)  # type: ignore[arg-type]
        set_budget(org.account, org.seq + 1, NOW, SetBudget(name=scope, budget=budget, author="a"))
    request = Authorize(feature="g", environment="production")
    assert org.account.applying(request, "u2") == []
    assert org.account.applying(request, None) == []
    assert [counter for _, counter in org.account.applying(request, "u1")] == ["charge:user:u1"]
    request = Authorize(feature="f", environment="production", api_key_id="k1")
    assert [counter for _, counter in org.account.applying(request, "u2")] == ["charge:feature:f", "charge:api_key:k1"]
    hold = org.hold(user="u2")
    assert {name: amount for name, amount in org.account.reserved.items() if amount} == {
        "charge:feature:f": 5 * CENT_PICO
    }
    org.release(hold)


def test_a_budget_that_is_not_there_cannot_be_taken_away() -> None:
    with pytest.raises(NotFound) as refused:
        set_budget(OrgAccount(), 1, NOW, SetBudget(name="b", budget=None, author="a"))
    assert refused.value.code == "budget_unknown"


def test_an_override_holds_until_it_ends_and_is_forgotten_when_the_next_one_comes() -> None:
    org = Org(100)
    override = Override(seq=0, author="a", reason="r", expires_at=NOW + timedelta(hours=1), limits={0: 500})
    [step] = set_override(org.account, 2, NOW, SetOverride(override=override, approved_by="b"))
    assert step.result == Noted(effective_at=NOW)
    org.seq = 2
    assert isinstance(org.ask(tokens_in=400).result, Held)
    org.now += timedelta(hours=1)
    org.sweep()
    assert isinstance(org.ask(tokens_in=400).result, Denied)
    later = Override(seq=0, author="a", reason="r", expires_at=NOW + timedelta(hours=2))
    set_override(org.account, 9, org.now, SetOverride(override=later, approved_by="b"))
    assert list(org.account.terms.overrides) == [9]
    with pytest.raises(BadInput) as refused:
        set_override(org.account, 10, org.now, SetOverride(override=override, approved_by="b"))
    assert refused.value.code == "expired_already"


# ── refunds and grants ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refund_gives_back_what_burnt_last_first_in_as_many_parts_as_it_takes() -> None:
    org = Org()
    first, second = org.grant(3, days=1), org.grant(10)
    [settled] = org.settle_all(org.hold())
    parts = []
    for credits in (1, 2.5, None):
        [step] = org.refund(settled.seq, credits)
        assert isinstance(step.result, Returned)
        assert step.refers_to_seq == settled.seq
        parts.append([(lot.grant_seq, lot.amount_pico / CREDIT) for lot in step.result.returned])
    assert parts == [[(second, 1)], [(second, 1), (first, 1.5)], [(first, 1.5)]]
    assert org.wallet == (13, 0)
    with pytest.raises(Conflict) as refused:
        org.refund(settled.seq)
    assert refused.value.code == "refund_exceeds_charge"


def test_more_than_was_charged_and_less_than_something_is_not_refunded() -> None:
    org = Org(20)
    [settled] = org.settle_all(org.hold())
    for credits, code in ((5.000001, "refund_exceeds_charge"), (0, "invalid_amount"), (-1, "invalid_amount")):
        with pytest.raises((Conflict, BadInput)) as refused:
            org.refund(settled.seq, credits)
        assert refused.value.code == code
    with pytest.raises(NotFound) as unknown:
        org.refund(99)
    assert unknown.value.code == "settlement_unknown"
    assert org.wallet == (15, 0)


def test_a_refund_of_what_is_owed_forgives_that_first() -> None:
    org = Org(20)
    [settled] = org.settle_all(org.hold("agent", plan="loose", cost=10 * CENT_PICO, tokens_in=1), cost=20 * CENT_PICO)
    [step] = org.refund(settled.seq, 8)
    assert isinstance(step.result, Returned)
    # 26 credits: 13 held, 7 more in the wallet, 6 owed.
    assert (step.result.receivable_pico, step.result.returned) == (6 * CREDIT, (Lot(1, 2 * CREDIT),))


def test_a_whole_refund_undoes_the_rounding_too() -> None:
    org = Org(300)
    [settled] = org.settle_all(org.hold("agent"), cost=10 * CENT_PICO + 1)
    [part] = org.refund(settled.seq, 13)
    [rest] = org.refund(settled.seq)
    assert isinstance(part.result, Returned)
    assert isinstance(rest.result, Returned)
    assert (part.result.rounding_pico, rest.result.rounding_pico) == (0, CREDIT - 130)


def test_refunded_credits_of_a_grant_that_is_over_are_granted_again() -> None:
    org = Org()
    lot = org.grant(5, days=1)
    [settled] = org.settle_all(org.hold())
    org.now += timedelta(days=400)
    assert org.sweep() == []
    step, again = org.refund(settled.seq)
    assert isinstance(again.request, Grant)
    assert (again.request.of_seq, again.request.expires_at, again.request_id) == (
        lot, org.now + GRACE, f"f{step.seq}.g{lot}"
    )  # fmt: skip
    assert org.wallet == (5, 0)


def test_what_is_charged_out_of_credits_granted_again_is_granted_again_when_it_is_refunded() -> None:
    org = Org()
    lot = org.grant(5, days=1)
    [settled] = org.settle_all(org.hold())
    org.now += timedelta(days=2)
    _, again = org.refund(settled.seq)
    [settled] = org.settle_all(org.hold())
    org.now += timedelta(days=30)
    assert org.sweep() == []
    step, once_more = org.refund(settled.seq)
    assert isinstance(once_more.request, Grant)
    assert (once_more.request.of_seq, once_more.request.priority) == (again.seq, 0)
    assert once_more.request.expires_at == org.now + GRACE
    assert (step.seq, lot, org.wallet) == (once_more.seq - 1, 1, (5, 0))


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Grant(source="promo", amount_pico=0, author="a", reason="r"), "invalid_amount"),
        (Grant(source="promo", amount_pico=-CREDIT, author="a", reason="r"), "invalid_amount"),
        (Grant(source="promo", amount_pico=10**30 + 1, author="a", reason="r"), "invalid_amount"),
        (Grant(source="promo", amount_pico=1, expires_at=NOW, author="a", reason="r"), "grant_expired_already"),
        (Grant(source="refund", amount_pico=1, of_seq=1, author="a", reason="r"), "invalid_grant_source"),
    ],
)
def test_a_grant_that_cannot_be_is_refused_and_moves_nothing(request_: Grant, code: str) -> None:
    org = Org(1)
    with pytest.raises(BadInput) as refused:
        grant(org.account, 2, NOW, request_)
    assert refused.value.code == code
    assert org.wallet == (1, 0)
