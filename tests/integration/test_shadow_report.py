"""The report of shadow mode: who would have been stopped, why, and what was let pass."""

from __future__ import annotations

import pytest

from accounts import call, end, give, hold, open_shop
from conftest import NOW
from leaving import let_go, open_shop_in_2025
from tallystick.app.shadow_report import shadow_report
from tallystick.app.standing import set_standing
from tallystick.core.errors import BadInput, NotFound, TallyError
from tallystick.core.instants import parse_instant


@pytest.fixture
def shop(runtime):
    """acme and beta let everything pass, on plans of their own; strict enforces."""
    open_shop(runtime, acme="wallet", beta="metered", strict="wallet", quiet="wallet")
    for org_id in ("acme", "beta"):
        set_standing(runtime, org_id, {"enforcement": "shadow", "author": "ann"})
    give(runtime, "7", "acme")
    return runtime


def _pass(runtime):
    """What acme and beta do: one request is covered, the others are not."""
    covered = hold(runtime, "a1")
    uncovered = hold(runtime, "a2")
    failed = hold(runtime, "a3")
    end(runtime, covered["hold"]["hold_id"])
    end(runtime, uncovered["hold"]["hold_id"], events=[call()])
    end(runtime, failed["hold"]["hold_id"], "failure", events=[call("e2")])
    hold(runtime, "b1", "beta", action=None, meters={"tokens_in": 1001})


def _refused(runtime, *arguments, **more):
    try:
        return hold(runtime, *arguments, **more)
    except TallyError as error:
        return error


def test_the_report_says_who_would_have_been_stopped_and_what_it_would_have_saved(shop):
    _pass(shop)
    _refused(shop, "s1", "strict")
    report = shadow_report(shop)
    assert (report["requests"], report["in_shadow_mode"], report["orgs"]) == (5, 4, 3)
    assert report["would_stop"] == {
        "requests": 3,
        "orgs": 2,
        "settled": 2,
        "cost_usd": "0.007",
        "credits_charged": "0",
        "credits_not_charged": "5",
    }
    assert [(one["org_id"], one["plan"], one["action"], one["code"], one["requests"]) for one in report["groups"]] == [
        ("acme", "wallet", "tailor", "insufficient_credits", 2),
        ("beta", "metered", None, "hard_limit_reached", 1),
    ]
    assert [(one["code"], one["requests"]) for one in report["by_code"]] == [
        ("insufficient_credits", 2),
        ("hard_limit_reached", 1),
    ]
    assert [(one["org_id"], one["code"], one["requests"]) for one in report["enforced"]] == [
        ("strict", "insufficient_credits", 1)
    ]


def test_the_report_is_of_one_org_and_of_the_time_that_is_asked_for(shop):
    _pass(shop)
    assert shadow_report(shop, org_id="beta")["would_stop"]["requests"] == 1
    assert shadow_report(shop, org_id="quiet")["requests"] == 0
    before = shadow_report(shop, parse_instant("2026-10-01"), NOW)
    assert (before["requests"], before["groups"]) == (0, [])
    since = shadow_report(shop, NOW, parse_instant("9999-12-31"))
    assert since["would_stop"]["requests"] == 3
    with pytest.raises(BadInput, match="is not before"):
        shadow_report(shop, NOW, NOW)
    with pytest.raises(NotFound):
        shadow_report(shop, org_id="nobody")


def test_what_has_left_the_database_is_read_from_its_blocks(runtime):
    then = parse_instant("2025-03-05")
    runtime.clock = lambda: then
    open_shop_in_2025(runtime, acme="wallet")
    set_standing(runtime, "acme", {"enforcement": "shadow", "author": "ann"})
    give(runtime, "5")
    for name in ("a1", "a2"):
        held = hold(runtime, name)
        end(runtime, held["hold"]["hold_id"], events=[call(f"e-{name}", time="2025-03-04T23:59:00Z")])
    before = shadow_report(runtime)
    assert before["would_stop"]["requests"] == 1
    let_go(runtime, then)
    hold(runtime, "a3")
    after = shadow_report(runtime)
    assert after["would_stop"] == {**before["would_stop"], "requests": 2}
    assert after["groups"][0]["first"] == before["groups"][0]["first"]
