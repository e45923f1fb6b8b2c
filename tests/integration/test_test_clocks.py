"""Test orgs live by clocks of their own: months pass in seconds, in order, and nobody else notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from accounts import CONTRACT as SHOP
from billing import findings, payment
from invoicing import event
from tallystick.api.app import create_app
from tallystick.api.decisions import SETTLE
from tallystick.app.authorize import authorize
from tallystick.app.contracts import apply_contract
from tallystick.app.hold_expiry import expire_due
from tallystick.app.included_credits import give_included
from tallystick.app.ingest import ingest_events
from tallystick.app.invoice_actions import due_invoices, record_payment
from tallystick.app.invoice_life import list_life
from tallystick.app.orgs import find_org, set_subscription
from tallystick.app.runtime import Runtime
from tallystick.app.settle import settle
from tallystick.app.test_clock import advance_clock, later, make_test_org, show_clock
from tallystick.app.wallet import show_wallet, wallet_entries
from tallystick.core.errors import BadInput, Conflict
from tallystick.core.instants import parse_instant
from tallystick.journal.steps import install

START = datetime(2026, 10, 1, tzinfo=UTC)


def sandbox(runtime: Runtime, org_id: str = "sandbox", plan: str = "monthly", zone: str = "UTC") -> None:
    apply_contract(runtime, SHOP, "shop.yaml")
    make_test_org(runtime, org_id, START, author="ann")
    set_subscription(runtime, org_id, contract="shop", plan=plan, time_zone=zone)


def test_a_year_passes_in_seconds_and_every_month_is_invoiced_on_its_day(runtime: Runtime) -> None:
    sandbox(runtime)
    done = advance_clock(runtime, "sandbox", by="1y", author="ann")
    assert done.at == datetime(2027, 10, 1, tzinfo=UTC)
    assert [one.period for one in done.invoiced] == [f"2026-{month}" for month in (10, 11, 12)] + [
        f"2027-{month:02}" for month in range(1, 9)
    ]
    issued = [one.life.account for one in done.invoiced if one.life is not None]
    assert [one.number for one in issued if one] == [
        *(f"TEST-INV-2026-{place:06}" for place in (1, 2)),
        *(f"TEST-INV-2027-{place:06}" for place in range(1, 10)),
    ]
    months = [(one.issued_at, one.total_cents) for one in issued if one]
    assert months[0] == (datetime(2026, 11, 2, tzinfo=UTC), 500)  # 24 hours after its end
    assert months[-1] == (datetime(2027, 9, 2, tzinfo=UTC), 500)
    assert show_wallet(runtime, "sandbox")["available"] == "300"  # this month's; the others' are over
    assert findings(runtime) == []


def test_limits_holds_and_credits_follow_the_orgs_own_clock(runtime: Runtime) -> None:
    sandbox(runtime)
    asked = {"org_id": "sandbox", "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}
    held = authorize(runtime, {**asked, "request_id": "a1", "action": "tailor", "work_key": "d1"})
    assert held.recorded_at == START
    advance_clock(runtime, "sandbox", by="1d", author="ann")
    wallet = show_wallet(runtime, "sandbox")
    assert (wallet["available"], wallet["held"]) == ("300", "0")
    ended = [one for one in wallet_entries(runtime, "sandbox")["entries"] if one["kind"] == "expiry"]
    assert [one["recorded_at"] for one in ended] == ["2026-10-01T00:15:00Z"]


def test_events_up_to_the_orgs_own_clock_are_taken_and_later_ones_are_not(runtime: Runtime) -> None:
    sandbox(runtime, plan="wallet")
    advance_clock(runtime, "sandbox", to=datetime(2027, 3, 1, tzinfo=UTC), author="ann")
    raw = {
        "org_id": "sandbox", "request_id": "r1", "time": "2027-02-28T12:00:00Z", "user_id": "u", "session_id": "s",
        "feature": "f", "environment": "production", "provider": "openai", "model": "gpt-4o",
        "meters": {"tokens_in": 1},
    }  # fmt: skip
    (taken,) = ingest_events(runtime, [raw])
    (refused,) = ingest_events(runtime, [{**raw, "request_id": "r2", "time": "2027-03-02T00:00:00Z"}])
    (other,) = ingest_events(runtime, [{**raw, "org_id": "real", "request_id": "r3"}])
    assert taken.status == "accepted"
    assert [one.error.code for one in (refused, other) if one.error] == ["time_in_future", "time_in_future"]
    held = authorize(
        runtime,
        {name: raw[name] for name in raw if name not in ("time", "meters")} | {"action": "tailor", "work_key": "d"},
    )
    assert held.kind == "denial"


def test_a_settlement_brings_usage_of_the_orgs_own_present(runtime: Runtime) -> None:
    sandbox(runtime)
    advance_clock(runtime, "sandbox", to=datetime(2027, 3, 1, tzinfo=UTC), author="ann")
    asked = {"org_id": "sandbox", "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}
    held = authorize(runtime, {**asked, "request_id": "a1", "action": "tailor", "work_key": "d1"})
    used = {
        "request_id": "r1", "time": "2027-03-01T00:00:00Z", "provider": "openai", "model": "gpt-4o",
        "meters": {"tokens_in": 1000},
    }  # fmt: skip
    done = settle(runtime, {"org_id": "sandbox", "hold_id": f"h{held.seq}", "outcome": "success", "events": [used]})
    assert done.recorded_at == datetime(2027, 3, 1, tzinfo=UTC)
    assert [one.status for one in done.usage] == ["accepted"]
    assert findings(runtime) == []


def test_the_short_way_waits_for_no_clock_and_the_long_one_asks_for_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox(runtime)
    advance_clock(runtime, "sandbox", to=datetime(2027, 3, 1, tzinfo=UTC), author="ann")
    asked = {"org_id": "sandbox", "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}
    held = authorize(runtime, {**asked, "request_id": "a1", "action": "tailor", "work_key": "d1"})
    used = {"request_id": "r1", "time": "2027-03-01T00:00:00Z", "provider": "openai", "model": "gpt-4o"}
    ended = {
        "org_id": "sandbox", "hold_id": f"h{held.seq}", "outcome": "success",
        "events": [{**used, "meters": {"tokens_in": 1000}}],
    }  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(runtime.database, "operator", lambda: pytest.fail("the event loop would wait for it"))
        runtime.org_clocks.forget()
        with pytest.raises(BadInput) as refused:
            SETTLE.check(runtime, ended, runtime.known_meters())
    assert refused.value.code == "time_in_future"
    with TestClient(create_app(runtime)) as client:
        done = client.post("/v1/settle", json=ended)
        later = client.post(
            "/v1/settle", json={**ended, "events": [{**ended["events"][0], "time": "2027-03-02T00:00:00Z"}]}
        )
    assert done.status_code == 200, done.text
    assert (later.status_code, later.json()["code"]) == (422, "time_in_future")


def test_loops_leave_test_orgs_to_whoever_puts_their_clocks_forward(runtime: Runtime) -> None:
    sandbox(runtime)
    advance_clock(runtime, "sandbox", to=datetime(2027, 3, 1, tzinfo=UTC), author="ann")
    written: list[str] = []
    install(written.append)
    try:
        assert give_included(runtime) == 0
        assert expire_due(runtime) == 0
    finally:
        install(None)
    assert written == []


def test_clocks_go_forward_only_and_only_of_test_orgs(runtime: Runtime) -> None:
    sandbox(runtime)
    runtime.append([event("r1", "real")])
    with pytest.raises(Conflict) as back:
        advance_clock(runtime, "sandbox", to=START - timedelta(seconds=1), author="ann")
    assert back.value.code == "clock_goes_forward"
    for call in (
        lambda: advance_clock(runtime, "real", by="1mo", author="ann"),
        lambda: show_clock(runtime, "real"),
        lambda: make_test_org(runtime, "real", START, author="ann"),
    ):
        with pytest.raises(Conflict) as refused:
            call()
        assert refused.value.code == "not_a_test_org"
    with pytest.raises(Conflict) as other:
        make_test_org(runtime, "sandbox", START + timedelta(days=1), author="ann")
    assert other.value.code == "test_clock_exists"
    assert make_test_org(runtime, "sandbox", START, author="ann").at == START
    for given in ({}, {"by": "1mo", "to": START}, {"by": "soon"}, {"by": "9y"}):
        with pytest.raises(BadInput) as wrong:
            advance_clock(runtime, "sandbox", author="ann", **given)
        assert wrong.value.code == "invalid_advance"


def test_money_of_test_orgs_is_not_the_sellers(runtime: Runtime) -> None:
    sandbox(runtime)
    done = advance_clock(runtime, "sandbox", by="2mo", author="ann")
    life = done.invoiced[0].life
    assert life is not None
    record_payment(runtime, life.invoice_id, payment("p1", "1"))
    assert due_invoices(runtime) == []
    assert [(one["org_id"], one["due_usd"]) for one in due_invoices(runtime, tests=True)] == [("sandbox", "4.00")]
    assert [one.as_dict()["test"] for one in list_life(runtime)] == [True]


def test_a_change_of_plan_holds_from_the_orgs_own_present(runtime: Runtime) -> None:
    sandbox(runtime)
    advance_clock(runtime, "sandbox", to=datetime(2026, 12, 11, tzinfo=UTC), author="ann")
    changed = set_subscription(runtime, "sandbox", contract="shop", plan="wallet")
    assert changed.effective_from == datetime(2026, 12, 11, tzinfo=UTC)
    done = advance_clock(runtime, "sandbox", to=datetime(2027, 1, 2, tzinfo=UTC), author="ann")
    (december,) = [one.life for one in done.invoiced if one.period == "2026-12"]
    assert december is not None
    # 10 of 31 days of 5 USD, 21 of 31 days of 20 USD: 1.61 + 13.55
    assert december.total_cents == 161 + 1355
    held = find_org(runtime, "sandbox").subscription
    assert held is not None
    assert held.plan == "wallet"


@pytest.mark.parametrize(
    ("at", "by", "zone", "there"),
    [
        ("2026-01-31T10:00:00Z", "1mo", "UTC", "2026-02-28T10:00:00Z"),
        ("2028-01-31T10:00:00Z", "1mo", "UTC", "2028-02-29T10:00:00Z"),
        ("2026-10-01T00:00:00Z", "1y", "UTC", "2027-10-01T00:00:00Z"),
        ("2026-10-24T22:00:00Z", "1d", "Europe/Paris", "2026-10-25T23:00:00Z"),  # midnight to midnight: 25 hours
        ("2026-10-24T22:00:00Z", "24h", "Europe/Paris", "2026-10-25T22:00:00Z"),
        ("2026-12-31T23:00:00Z", "2w", "UTC", "2027-01-14T23:00:00Z"),
    ],
)
def test_how_far_a_clock_goes_is_by_the_orgs_calendar(at: str, by: str, zone: str, there: str) -> None:
    assert later(parse_instant(at), by, zone) == parse_instant(there)
