"""Whatever budgets an org has, a request meets exactly those that it falls under, and in their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.contract.decision import Budget, Override
from tallystick.core.errors import Conflict
from tallystick.ledger.budget_index import BUDGETS_MAX, BUDGETS_ON_ONE_MAX, BudgetIndex
from tallystick.ledger.operations import Authorize, SetBudget, SetOverride
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.org_changes import OVERRIDES_MAX, set_budget, set_override

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
WHO = st.sampled_from([None, "a", "b"])


def budget(name: str = "b", **more: Any) -> Budget:
    said = {"scope": "org", "subject": None, "of": "cost", "per": "day", "kind": "hard", "max_pico": 1, **more}
    return Budget(name=name, **said)


@st.composite
def some_budgets(draw: st.DrawFn) -> list[Budget]:
    count = draw(st.integers(0, 12))
    found = []
    for place in range(count):
        scope = draw(st.sampled_from(["org", "user", "api_key", "feature"]))
        subject = None if scope == "org" else draw(WHO)
        of, per = draw(st.sampled_from(["cost", "charge"])), draw(st.sampled_from(["day", "month"]))
        found.append(budget(f"b{place}", scope=scope, subject=subject, of=of, per=per))
    return found


@given(some_budgets(), WHO, WHO, st.sampled_from(["a", "b", "c"]))
def test_those_that_a_request_falls_under(
    budgets: list[Budget], user: str | None, key: str | None, feature: str
) -> None:
    index = BudgetIndex(budgets)
    whose = {"user": user, "api_key": key, "feature": feature}
    expected = []
    for one in budgets:
        if one.scope == "org":
            expected.append((one, f"{one.of}:org"))
        elif whose[one.scope] is not None and one.subject in (None, whose[one.scope]):
            expected.append((one, f"{one.of}:{one.scope}:{whose[one.scope]}"))
    assert index.applying(Authorize(feature=feature, environment="x", api_key_id=key), user) == expected
    assert index.spends == {(one.per, f"{one.of}:{one.scope}") for one in budgets}


def test_an_account_knows_its_budgets_as_they_are_said() -> None:
    account = OrgAccount()
    request = Authorize(feature="f", environment="x")
    set_budget(account, 1, NOW, SetBudget(name="b", budget=budget(), author="ann"))
    assert [one.name for one, _ in account.applying(request, "u")] == ["b"]
    set_budget(account, 2, NOW, SetBudget(name="b", budget=budget(of="charge"), author="ann"))
    assert [counter for _, counter in account.applying(request, "u")] == ["charge:org"]
    set_budget(account, 3, NOW, SetBudget(name="b", budget=None, author="ann"))
    assert account.applying(request, "u") == []


def test_an_org_has_so_many_budgets_and_no_more() -> None:
    account = OrgAccount()
    for number in range(BUDGETS_MAX):
        one = budget(f"b{number}", scope="user", subject=f"u{number}")
        set_budget(account, number + 1, NOW, SetBudget(name=one.name, budget=one, author="ann"))
    with pytest.raises(Conflict) as refused:
        set_budget(account, 5000, NOW, SetBudget(name="more", budget=budget("more"), author="ann"))
    assert refused.value.code == "too_many_budgets"
    assert len(account.terms.budgets) == BUDGETS_MAX
    changed = budget("b7", scope="user", subject="u7", max_pico=9)
    set_budget(account, 5001, NOW, SetBudget(name="b7", budget=changed, author="ann"))
    set_budget(account, 5002, NOW, SetBudget(name="b8", budget=None, author="ann"))
    set_budget(account, 5003, NOW, SetBudget(name="more", budget=budget("more"), author="ann"))


@pytest.mark.parametrize(
    ("whose", "others"),
    [
        ({"scope": "org"}, {"scope": "user"}),
        ({"scope": "user"}, {"scope": "user", "subject": "u1"}),
        ({"scope": "feature", "subject": "chat"}, {"scope": "feature", "subject": "docs"}),
    ],
)
def test_so_many_look_at_the_same_and_no_more(whose: dict[str, Any], others: dict[str, Any]) -> None:
    account = OrgAccount()
    for number in range(BUDGETS_ON_ONE_MAX):
        one = budget(f"b{number}", **whose)
        set_budget(account, number + 1, NOW, SetBudget(name=one.name, budget=one, author="ann"))
    with pytest.raises(Conflict) as refused:
        set_budget(account, 100, NOW, SetBudget(name="more", budget=budget("more", **whose), author="ann"))
    assert refused.value.code == "too_many_budgets"
    set_budget(account, 101, NOW, SetBudget(name="more", budget=budget("more", **others), author="ann"))


def test_so_many_exceptions_are_in_force_at_once_and_no_more() -> None:
    account = OrgAccount()

    def exception(seq: int, now: datetime) -> None:
        override = Override(seq=0, author="ann", reason="x", expires_at=NOW + timedelta(hours=1), allow_models=("*",))
        if now > NOW:
            override = Override(seq=0, author="ann", reason="x", expires_at=now + timedelta(1), allow_models=("*",))
        set_override(account, seq, now, SetOverride(override=override, approved_by="bob"))

    for seq in range(1, OVERRIDES_MAX + 1):
        exception(seq, NOW)
    with pytest.raises(Conflict) as refused:
        exception(999, NOW)
    assert refused.value.code == "too_many_overrides"
    assert len(account.terms.overrides) == OVERRIDES_MAX
    exception(1000, NOW + timedelta(hours=1))  # all of them have ended
    assert list(account.terms.overrides) == [1000]
