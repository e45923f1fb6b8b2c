"""The actions as customers see them: the price on their plan, what is charged, and where an action is to be had."""

from __future__ import annotations

import pytest

from policy_tools import CONTRACT, CREDIT, NOW, ask, state
from tallystick.contract.customer_view import action_views
from tallystick.core.errors import BadInput


def views(plan: str):
    return {view.action: view for view in action_views(CONTRACT, plan)}


def test_each_action_has_its_price_in_words_and_figures():
    found = views("credits")
    assert list(found) == list(CONTRACT.actions)
    tailor, research = found["tailor"], found["research"]
    assert (tailor.title, tailor.price, tailor.credits_pico) == ("Tailor a document", "5 credits", 5 * CREDIT)
    assert (tailor.max_credits_pico, tailor.charge_on, tailor.shows) == (5 * CREDIT, ("success",), "5 credits.")
    assert tailor.repeat == "1 credit again for the same document_id within 30 days"
    assert research.price == "our cost plus 30 %, in credits, rounded up to a whole one"
    assert (research.credits_pico, research.max_credits_pico, research.repeat) == (None, 200 * CREDIT, None)
    assert found["email"].charge_on == ("success", "empty")


def test_an_action_that_the_plan_does_not_have_names_the_plan_that_does():
    found = views("small")
    assert {name: (view.in_plan, view.upgrade_to) for name, view in found.items()} == {
        "explore": (True, None),
        "tailor": (True, None),
        "email": (False, "credits"),
        "research": (False, "credits"),
    }
    assert {name: view.upgrade_to for name, view in views("starter").items()} == {
        "explore": None,
        "tailor": "small",
        "email": "credits",
        "research": "credits",
    }
    assert views("tiny")["research"].upgrade_to is None


@pytest.mark.parametrize("plan", ["free", "byok"])
def test_no_credits_are_asked_for_where_no_wallet_pays(plan):
    for view in views(plan).values():
        assert (view.credits_pico, view.max_credits_pico, view.charge_on, view.repeat) == (0, 0, (), None)
        assert "no credits" in view.price


@pytest.mark.parametrize("plan", ["credits", "small", "tiny", "closed", "free", "byok", "byok-wallet"])
def test_the_view_promises_what_the_policy_decides(plan):
    for view in views(plan).values():
        decision = ask(plan, state(1000, now=NOW), action=view.action)
        assert decision.allow == view.in_plan
        if view.in_plan:
            assert decision.quote.reserve_pico == view.max_credits_pico


def test_a_plan_that_does_not_exist_is_refused():
    with pytest.raises(BadInput) as caught:
        action_views(CONTRACT, "gold")
    assert caught.value.code == "unknown_plan"
