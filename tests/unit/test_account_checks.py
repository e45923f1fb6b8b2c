"""Grants, refunds, budgets, exceptions and standing: what is asked for is checked before anything moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.contract.decision import Budget
from tallystick.core.errors import BadInput, Problems
from tallystick.core.instants import format_instant
from tallystick.core.money import PICO_MAX, format_decimal, pico_to_usd
from tallystick.ledger.account_checks import (
    budget_operation,
    grant_operation,
    no_budget_operation,
    override_operation,
    refund_operation,
    standing_operation,
)
from tallystick.ledger.operations import Grant, Operation, Refund, SetBudget, SetOverride, SetStanding

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
SALT = b"s" * 16
GRANT = {"request_id": "g1", "source": "promo", "credits": "5", "author": "ann", "reason": "welcome"}
REFUND = {"org_id": "acme", "request_id": "f1", "settlement_id": "s9", "author": "ann", "reason": "empty"}
BUDGET = {"per": "day", "kind": "hard", "max_usd": "2.5", "author": "ann"}
OVERRIDE = {
    "request_id": "o1",
    "author": "ann",
    "approved_by": "bob",
    "reason": "a trial",
    "expires_at": "2026-12-01T00:00:00Z",
    "limits": {"tokens per day": 500},
}


def grant(**more: Any) -> Operation:
    return grant_operation("acme", {**GRANT, **more}, salt=SALT)


def budget(name: str = "cap", **more: Any) -> Operation:
    return budget_operation("acme", name, {**BUDGET, **more}, salt=SALT, new_id="made")


def override(**more: Any) -> Operation:
    raw = {name: value for name, value in {**OVERRIDE, **more}.items() if value is not ...}
    return override_operation("acme", raw, salt=SALT, now=NOW, plan="pro", limit_index=limit_index)


def limit_index(name: str) -> int:
    if name not in ("tokens per day", "4"):
        raise BadInput("unknown_limit", "no such limit", next_step="name another")
    return 3


def code(error: pytest.ExceptionInfo[BadInput]) -> tuple[str, str | None]:
    return error.value.code, error.value.where


def test_a_grant_is_taken_as_it_was_asked_for() -> None:
    found = grant(expires_at="2026-12-01T00:00:00+01:00", priority=-2)
    assert (found.kind, found.org_id, found.request_id) == ("grant", "acme", "g1")
    assert found.request == Grant(
        source="promo",
        amount_pico=5 * 10**12,
        priority=-2,
        expires_at=datetime(2026, 11, 30, 23, tzinfo=UTC),
        author="ann",
        reason="welcome",
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"credits": "0"}, ("invalid_amount", "credits")),
        ({"credits": "-5"}, ("invalid_amount", "credits")),
        ({"credits": str(PICO_MAX)}, ("invalid_amount", "credits")),
        ({"credits": 5}, ("invalid_decimal", "credits")),
        ({"credits": "1e3"}, ("invalid_decimal", "credits")),
        ({"credits": "0.0000000000001"}, ("amount_too_fine", "credits")),
        ({"source": "included"}, ("not_a_choice", "source")),
        ({"source": "refund"}, ("not_a_choice", "source")),
        ({"priority": True}, ("wrong_type", "priority")),
        ({"priority": 10**9}, ("invalid_number", "priority")),
        ({"expires_at": "tomorrow"}, ("invalid_time", "expires_at")),
        ({"expires_at": "2026-12-01T00:00:00"}, ("invalid_time", "expires_at")),
        ({"author": ""}, ("empty_text", "author")),
        ({"reason": None}, ("wrong_type", "reason")),
        ({"amount": "5"}, ("unknown_field", "amount")),
        ({"request_id": "included:2026-11"}, ("reserved_id", "request_id")),
        ({"request_id": "s12.g4"}, ("reserved_id", "request_id")),
        ({"request_id": "o7.credits"}, ("reserved_id", "request_id")),
        ({"request_id": "order.g4"}, ("ok", None)),
        ({"request_id": "\U0001f600" * 512}, ("ok", None)),
    ],
)
def test_a_grant_that_cannot_be_meant_is_refused_at_its_place(more: dict[str, Any], expected: tuple[str, str]) -> None:
    if expected[0] == "ok":
        assert grant(**more).request_id == more["request_id"]
        return
    with pytest.raises(BadInput) as refused:
        grant(**more)
    assert code(refused) == expected


def test_ids_that_an_index_cannot_hold_are_refused() -> None:
    long = "\U0001f600" * 512
    with pytest.raises(BadInput) as refused:
        grant_operation(long, {**GRANT, "request_id": long}, salt=SALT)
    assert code(refused) == ("text_too_long", "request_id")


def test_all_faults_of_a_grant_are_told_together() -> None:
    with pytest.raises(Problems) as refused:
        grant_operation("acme", {"source": "gift", "credits": "-1"}, salt=SALT)
    assert {(one.code, one.where) for one in refused.value.problems} == {
        ("missing_field", "request_id"),
        ("missing_field", "author"),
        ("missing_field", "reason"),
        ("not_a_choice", "source"),
        ("invalid_amount", "credits"),
    }


@given(st.integers(1, PICO_MAX))
def test_an_amount_is_exactly_what_was_written(pico: int) -> None:
    request = grant(credits=pico_to_usd(pico)).request
    assert isinstance(request, Grant)
    assert request.amount_pico == pico
    assert format_decimal(Fraction(pico, 10**12)) == pico_to_usd(pico)


def test_a_refund_of_nothing_said_is_of_all_that_is_left() -> None:
    assert refund_operation(REFUND, salt=SALT).request == Refund(
        settlement_seq=9, amount_pico=None, author="ann", reason="empty"
    )
    part = refund_operation({**REFUND, "credits": "1.5"}, salt=SALT).request
    assert isinstance(part, Refund)
    assert part.amount_pico == 1_500_000_000_000


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"settlement_id": "h9"}, ("invalid_id", "settlement_id")),
        ({"credits": "0"}, ("invalid_amount", "credits")),
        ({"org_id": ""}, ("empty_text", "org_id")),
    ],
)
def test_a_refund_that_cannot_be_meant_is_refused(more: dict[str, Any], expected: tuple[str, str]) -> None:
    with pytest.raises(BadInput) as refused:
        refund_operation({**REFUND, **more}, salt=SALT)
    assert code(refused) == expected


def test_a_budget_is_of_the_whole_orgs_cost_unless_said() -> None:
    found = budget()
    expected = Budget(
        name="cap", scope="org", subject=None, of="cost", per="day", kind="hard", max_pico=2_500_000_000_000
    )
    assert found.request == SetBudget(name="cap", budget=expected, author="ann")
    assert found.request_id == "made"
    assert budget(request_id="mine").request_id == "mine"


def test_a_budget_may_be_nothing() -> None:
    request = budget(max_usd="0").request
    assert isinstance(request, SetBudget)
    assert request.budget is not None
    assert request.budget.max_pico == 0


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"max_usd": "-1"}, ("invalid_amount", "max_usd")),
        ({"subject": "u1"}, ("budget_subject", "subject")),
        ({"scope": "team"}, ("not_a_choice", "scope")),
        ({"per": "year"}, ("not_a_choice", "per")),
        ({"kind": "firm"}, ("not_a_choice", "kind")),
        ({"of": "profit"}, ("not_a_choice", "of")),
        ({"name": "x" * 65}, ("text_too_long", "name")),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(more: dict[str, Any], expected: tuple[str, str]) -> None:
    with pytest.raises(BadInput) as refused:
        budget(**more)
    assert code(refused) == expected


def test_taking_a_budget_away_names_who_does() -> None:
    found = no_budget_operation("acme", "cap", "ann", salt=SALT, request_id="b1")
    assert found.request == SetBudget(name="cap", budget=None, author="ann")
    with pytest.raises(BadInput) as refused:
        no_budget_operation("acme", "cap", "", salt=SALT, request_id="b1")
    assert code(refused) == ("empty_text", "author")


def test_a_standing_is_whole_what_is_left_out_is_none() -> None:
    found = standing_operation("acme", {"author": "ann"}, salt=SALT, new_id="made")
    assert found.request == SetStanding(suspended=None, enforcement=None, author="ann")
    raw = {"suspended": "unpaid", "enforcement": "shadow", "author": "ann"}
    assert standing_operation("acme", raw, salt=SALT, new_id="made").request == SetStanding(**raw)  # type: ignore[arg-type]
    kept = standing_operation("acme", {"suspended": "x", "author": "a", "keep": ["enforcement"]}, salt=SALT, new_id="m")
    assert kept.request == SetStanding(suspended="x", enforcement=None, author="a", keep=("enforcement",))
    with pytest.raises(BadInput) as refused:
        standing_operation("acme", {"keep": ["author"], "author": "ann"}, salt=SALT, new_id="made")
    assert code(refused) == ("not_a_choice", "keep.0")
    with pytest.raises(BadInput) as refused:
        standing_operation("acme", {"enforcement": "maybe", "author": "ann"}, salt=SALT, new_id="made")
    assert code(refused) == ("not_a_choice", "enforcement")


def test_an_exception_names_the_plan_whose_limits_it_raises() -> None:
    found = override(credits="30")
    assert isinstance(found.request, SetOverride)
    assert (found.request.override.plan, found.request.override.limits) == ("pro", {3: 500})
    assert found.request.approved_by == "bob"
    assert found.request.credits_pico == 30 * 10**12


def test_no_limit_at_all_is_null() -> None:
    found = override(limits={"tokens per day": None})
    assert isinstance(found.request, SetOverride)
    assert found.request.override.limits == {3: -1}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"approved_by": "ann"}, ("same_person", "approved_by")),
        ({"approved_by": " ANN "}, ("same_person", "approved_by")),
        ({"expires_at": ...}, ("missing_field", "expires_at")),
        ({"expires_at": format_instant(NOW + timedelta(days=90, seconds=1))}, ("expires_too_late", "expires_at")),
        ({"limits": {}}, ("empty_override", None)),
        ({"limits": {"tokens per week": 1}}, ("unknown_limit", "limits.tokens per week")),
        ({"limits": {"tokens per day": -1}}, ("invalid_number", "limits.tokens per day")),
        ({"limits": {"tokens per day": "500"}}, ("wrong_type", "limits.tokens per day")),
        ({"limits": {"tokens per day": True}}, ("wrong_type", "limits.tokens per day")),
        ({"limits": {"tokens per day": 500, "4": 600}}, ("duplicate_value", "limits.4")),
        ({"allow_models": "gpt-*"}, ("wrong_type", "allow_models")),
        ({"allow_actions": ["x"] * 101}, ("too_long", "allow_actions")),
        ({"allow_overspend": 1}, ("wrong_type", "allow_overspend")),
        ({"credits": "0"}, ("invalid_amount", "credits")),
        ({"reason": ""}, ("empty_text", "reason")),
    ],
)
def test_an_exception_that_nobody_could_sign_is_refused(more: dict[str, Any], expected: tuple[str, str]) -> None:
    with pytest.raises(BadInput) as refused:
        override(**more)
    assert code(refused) == expected


def test_an_exception_may_hold_for_ninety_days() -> None:
    found = override(expires_at=format_instant(NOW + timedelta(days=90)))
    assert isinstance(found.request, SetOverride)
    assert found.request.override.expires_at == NOW + timedelta(days=90)


@pytest.mark.parametrize(
    "more", [{"allow_actions": ["research"]}, {"allow_models": ["*"]}, {"allow_overspend": True}, {"credits": "1"}]
)
def test_each_way_to_bend_a_plan_is_an_exception(more: dict[str, Any]) -> None:
    found = override(limits={}, **more)
    assert found.kind == "override"
