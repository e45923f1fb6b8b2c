"""Alerts over a running system: what fires, once, who is told, and what ends it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from accounts import end, give, hold, open_shop
from billing import billed_org, payment
from conftest import NOW
from invoicing import event, record
from journal_helpers import publish_price, query, tamper
from recorded_rows import BY_ORG
from tallystick.app.alert_list import AlertQuestion, find_alerts, show_alert
from tallystick.app.alert_preferences import set_preferences, show_preferences
from tallystick.app.alert_silences import end_silence, list_silences, silence_alert, silence_rule
from tallystick.app.alerts import evaluate
from tallystick.app.budgets import set_budget
from tallystick.app.invoice_actions import record_payment
from tallystick.app.job_list import find_job
from tallystick.app.jobs import Job, run_job
from tallystick.app.orgs import set_subscription
from tallystick.app.overrides import add_override
from tallystick.app.reprice import reprice
from tallystick.app.rollup import roll_up
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.app.verify import verify_ledger
from tallystick.app.verify_job import note_verification
from tallystick.core.errors import BadInput, Conflict, NotFound, Problems

CHEAP = {"tokens_in": 1_000_000}  # of gpt-4o-mini: 0.15 USD
DEAR = {"tokens_in": 10_000_000}  # of gpt-4o: 25 USD


def changes(
    runtime: Runtime, org_id: str | None = None, *, ours: bool = False
) -> list[tuple[str | None, str, str, int]]:
    """What a look changes: org, rule, change and level; of orgs' alerts, or of the operator's own."""
    done = evaluate(runtime, org_id)
    assert done.error is None
    said = (one.transition for one in done.changes)
    return [(one.org_id, one.rule, one.change, one.level) for one in said if (one.org_id is None) == ours]


def firing(runtime: Runtime, rule: str, org_id: str | None = None) -> dict[str, Any]:
    """The one alert of that rule that fires."""
    (found,) = find_alerts(runtime, AlertQuestion(org_id, rule=rule)).alerts
    return found


def told(runtime: Runtime) -> list[tuple[str, str]]:
    """What webhooks were told of orgs' alerts: types and alerts, in order."""
    sql = "select type, split_part(key, ':', 1) from webhook_events where org_id is not null order by recorded_at, key"
    return [(kind, key) for kind, key in query(runtime, sql) if kind.startswith("alert.")]


def go_on(runtime: Runtime, **by: int) -> None:
    """Time passes."""
    now = runtime.clock() + timedelta(**by)
    runtime.clock = lambda: now


def use(
    runtime: Runtime, count: int, org_id: str = "globex", *, since: datetime = NOW - timedelta(days=10), **more: Any
) -> None:
    """One call a day."""
    days = (since + timedelta(days=place) for place in range(count))
    record(runtime, [event(f"{org_id}-{day:%m%d}-{len(more)}", org_id, time=day, **more) for day in days])


def test_a_day_that_costs_far_more_than_usual_fires_once_with_its_drivers(runtime: Runtime) -> None:
    use(runtime, 11, meters=CHEAP)
    use(runtime, 11, "steady", model="gpt-4o", meters=DEAR)
    roll_up(runtime)
    assert changes(runtime) == []
    record(
        runtime,
        [
            event("big", time=NOW - timedelta(hours=1), feature="review", model="gpt-4o", meters=DEAR),
            event("late", time=NOW - timedelta(days=5), feature="review", model="gpt-4o", meters=DEAR),
        ],
    )
    roll_up(runtime)
    assert changes(runtime) == [("globex", "spend_spike", "firing", 1)]
    assert changes(runtime) == []
    alert = firing(runtime, "spend_spike")
    assert alert["subject"] == "2026-11-02"
    (driver,) = alert["figures"]["drivers"]
    assert (driver["feature"], driver["model"], driver["our_cost_usd"]) == ("review", "gpt-4o", "25")
    assert alert["figures"]["our_cost_usd"] == "25.15"
    assert "user-1" not in str(alert)
    # To the customer it says nothing of what requests cost.
    theirs = find_alerts(runtime, AlertQuestion("globex"), for_customer=True).alerts[0]
    (data,) = query(runtime, "select data from webhook_events where type = 'alert.firing'")
    for shown in (str(theirs), data[0]):
        assert "our_" not in shown
        assert "25" not in shown.replace("2026-11-02", "")
        assert "review with gpt-4o" in shown
    go_on(runtime, hours=14)  # the day is over, and open for what comes late
    assert changes(runtime) == []
    go_on(runtime, hours=5)
    assert changes(runtime) == [("globex", "spend_spike", "resolved", 1)]
    assert [kind for kind, _ in told(runtime)] == ["alert.firing", "alert.resolved"]


def test_limits_and_budgets_are_told_level_by_level_once_a_window(runtime: Runtime) -> None:
    open_shop(runtime, acme="metered")
    set_budget(
        runtime, "acme", "team", {"scope": "user", "per": "day", "kind": "soft", "max_usd": "1", "author": "ann"}
    )

    def call(name: str, tokens: int, **more: Any) -> None:
        record(runtime, [event(name, "acme", time=runtime.clock(), meters={"tokens_out": tokens}, **more)])

    call("a", 450)
    assert changes(runtime) == []
    call("b", 60, user_id="secret-person")
    assert changes(runtime) == [("acme", "limit", "firing", 1)]
    call("c", 300)
    assert changes(runtime) == [("acme", "limit", "escalated", 2)]
    call("d", 190, environment="staging")  # is not counted
    assert changes(runtime) == []
    call("e", 200)
    assert sorted(changes(runtime)) == [("acme", "limit", "escalated", 3), ("acme", "limit", "firing", 1)]
    assert changes(runtime) == []
    day = next(one for one in find_alerts(runtime, AlertQuestion("acme")).alerts if one["figures"]["per"] == "day")
    assert (day["severity"], day["figures"]["used"], day["figures"]["max"]) == ("critical", "1010", "1000")
    record(
        runtime,
        [
            event(
                "f",
                "acme",
                time=runtime.clock(),
                user_id="secret-person",
                environment="staging",
                model="gpt-4o",
                meters={"tokens_in": 350_000},
            )
        ],
    )
    assert changes(runtime) == [("acme", "budget", "firing", 2)]
    assert "secret-person" not in str(find_alerts(runtime, AlertQuestion("acme")).alerts)
    # A raised limit is another one: its level is told, the old one is over.
    add_override(runtime, "acme", {"limits": {"1": 2000}} | _override())
    assert sorted(changes(runtime)) == [("acme", "limit", "firing", 1), ("acme", "limit", "resolved", 3)]
    go_on(runtime, days=1)
    assert sorted(changes(runtime)) == [("acme", "budget", "resolved", 2), ("acme", "limit", "resolved", 1)]
    assert firing(runtime, "limit", "acme")["figures"]["per"] == "month"


def _override() -> dict[str, Any]:
    end = (NOW + timedelta(days=3)).isoformat().replace("+00:00", "Z")
    return {"request_id": "o1", "author": "ann", "approved_by": "bob", "reason": "launch", "expires_at": end}


def test_credits_that_run_out_are_told_with_the_date_and_top_ups_end_it(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet", idle="wallet")
    give(runtime, "60")
    give(runtime, "1", "idle")
    for place in range(6):
        done = hold(runtime, f"a{place}")
        end(runtime, done["hold"]["hold_id"])
    roll_up(runtime)
    # 30 credits on one day, 30 are left: within a day, and so critical at once.
    assert changes(runtime) == [("acme", "low_balance", "firing", 2)]
    figures = firing(runtime, "low_balance")["figures"]
    assert (figures["available_credits"], figures["spent_credits_per_day"]) == ("30", "30")
    assert figures["runs_out_at"] == "2026-11-03T12:00:00Z"
    give(runtime, "200", request_id="g2")
    assert changes(runtime) == []  # 7.7 days: it stays for a quarter longer than the 7 that are wanted
    give(runtime, "200", request_id="g3")
    assert changes(runtime) == [("acme", "low_balance", "resolved", 2)]
    set_preferences(runtime, "idle", {"low_balance": {"credits": "5"}}, "ann")
    assert changes(runtime) == [("idle", "low_balance", "firing", 1)]


def test_an_unpaid_invoice_escalates_and_a_payment_ends_it(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    go_on(runtime, days=14, hours=23)
    assert changes(runtime) == []
    go_on(runtime, hours=2)
    assert ("globex", "unpaid_invoice", "firing", 1) in changes(runtime)
    go_on(runtime, days=6)
    assert changes(runtime) == [("globex", "unpaid_invoice", "escalated", 2)]
    assert firing(runtime, "unpaid_invoice")["figures"]["left_usd"] == "10.00"
    record_payment(runtime, life.invoice_id, payment("p1", "10"))
    assert changes(runtime) == [("globex", "unpaid_invoice", "resolved", 2)]
    shown = show_alert(runtime, find_alerts(runtime, AlertQuestion("globex", with_resolved=True)).alerts[0]["alert_id"])
    assert [one["change"] for one in shown["history"]] == ["firing", "escalated", "resolved"]


def test_the_operator_is_told_of_sums_prices_jobs_and_seals(runtime: Runtime) -> None:
    record(runtime, [event("r1", model="newest", meters={"tokens_in": 1}), event("r2")])
    assert changes(runtime, ours=True) == [(None, "unpriced_usage", "firing", 1)]

    def fail(_: Any) -> Any:
        raise RuntimeError("a disk is full")

    with pytest.raises(RuntimeError):
        run_job(runtime, Job("rates", "", timedelta(hours=1), fail), by="test")
    assert changes(runtime, ours=True) == [(None, "failed_job", "firing", 1)]
    assert "a disk is full" in firing(runtime, "failed_job")["summary"]
    go_on(runtime, hours=10)
    assert changes(runtime, ours=True) == []  # nobody looked all night: nothing ran that could have caught up
    go_on(runtime, minutes=10)
    late = changes(runtime, ours=True)
    assert (None, "missing_rollup", "firing", 2) in late
    assert (None, "seal_lag", "firing", 1) in late
    publish_price(runtime)
    reprice(runtime)
    roll_up(runtime)
    for name in ("rates", "seal"):
        run_job(runtime, find_job(runtime.settings, name), by="test")
    rules = ("failed_job", "missing_rollup", "seal_lag", "unpriced_usage")
    assert {(rule, change) for _, rule, change, _ in changes(runtime, ours=True)} == {
        (rule, "resolved") for rule in rules
    }
    assert find_alerts(runtime, AlertQuestion()).alerts == []


def test_a_ledger_that_was_changed_is_told_until_a_check_finds_nothing(runtime: Runtime, database_url: str) -> None:
    record(runtime, [event("r1")])
    tamper(database_url, "update ledger_entries set cost_pico = cost_pico + 1")
    with pytest.raises(Conflict) as refused:
        run_job(runtime, find_job(runtime.settings, "verify"), by="test")
    assert refused.value.code == "ledger_not_sound"
    assert changes(runtime, ours=True) == [(None, "verification_failure", "firing", 1)]
    tamper(database_url, "update ledger_entries set cost_pico = cost_pico - 1")
    report = verify_ledger(runtime, org_id="globex")
    note_verification(runtime, report, org_id="globex", started_at=NOW, now=NOW)
    assert changes(runtime, ours=True) == []  # one org's says nothing of the others
    go_on(runtime, seconds=1)
    note_verification(runtime, verify_ledger(runtime), org_id=None, started_at=NOW, now=runtime.clock())
    assert changes(runtime, ours=True) == [(None, "verification_failure", "resolved", 1)]


def test_looks_at_the_same_time_are_one(runtime: Runtime) -> None:
    billed_org(runtime, "a", "b", "c")
    go_on(runtime, days=16)
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda _: changes(runtime), range(4)))
    unpaid = sorted(one for look in looks for one in look if one[1] == "unpaid_invoice")
    assert unpaid == [(org, "unpaid_invoice", "firing", 1) for org in "abc"]
    counts = query(runtime, "select count(*), count(distinct alert_id) from alert_events where rule = 'unpaid_invoice'")
    assert counts == [(3, 3)]
    assert [kind for kind, _ in told(runtime)] == ["alert.firing"] * 3


def test_a_clock_that_goes_back_changes_nothing_and_one_that_was_wrong_is_left_behind(runtime: Runtime) -> None:
    billed_org(runtime)
    go_on(runtime, days=15)
    assert ("globex", "unpaid_invoice", "firing", 1) in changes(runtime)
    go_on(runtime, minutes=-30)
    assert changes(runtime) == []
    go_on(runtime, days=-14)  # it had been wrong: what is so now holds
    assert ("globex", "unpaid_invoice", "resolved", 1) in changes(runtime)
    go_on(runtime, days=15)
    assert ("globex", "unpaid_invoice", "firing", 1) in changes(runtime)
    ids = query(runtime, "select count(distinct alert_id) from alert_events where rule = 'unpaid_invoice'")
    assert ids == [(2,)]


def test_a_silence_holds_back_who_is_told_and_not_what_is_known(runtime: Runtime) -> None:
    lives = billed_org(runtime, "a", "b")
    silence_rule(runtime, {"org_id": "b", "for": "40d", "reason": "agreed", "author": "ann"})
    go_on(runtime, days=15)
    evaluate(runtime)
    quiet, loud = firing(runtime, "unpaid_invoice", "b"), firing(runtime, "unpaid_invoice", "a")
    assert (quiet["told"], loud["told"]) == (False, True)
    assert quiet["silenced_by"] is not None
    assert quiet["held_back"] == f"silence:{quiet['silenced_by']}"
    made = silence_alert(runtime, loud["alert_id"], {"for": "10d", "reason": "known", "author": "ann"})
    before = told(runtime)
    assert before == [("alert.firing", loud["alert_id"])]
    go_on(runtime, days=6)
    unpaid = {(one[0], one[2]) for one in changes(runtime) if one[1] == "unpaid_invoice"}
    assert unpaid == {("a", "escalated"), ("b", "escalated")}
    record_payment(runtime, lives[0].invoice_id, payment("p1", "10"))
    assert ("a", "unpaid_invoice", "resolved", 2) in changes(runtime)
    assert told(runtime) == before
    # When nothing holds it back any more, what still fires is told once.
    (other,) = list_silences(runtime, "b")
    ended = end_silence(runtime, other["silence_id"], "bob")
    assert not ended["silent"]
    assert end_silence(runtime, other["silence_id"], "bob") == ended
    assert changes(runtime, "b") == [("b", "unpaid_invoice", "told", 2)]
    assert changes(runtime, "b") == []
    assert told(runtime) == [*before, ("alert.firing", quiet["alert_id"])]
    assert [one["silence_id"] for one in list_silences(runtime)] == [made["silence_id"]]


def test_preferences_are_kept_whole_and_the_next_look_goes_by_them(runtime: Runtime) -> None:
    billed_org(runtime)
    assert show_preferences(runtime, "globex")["version"] == 0
    wanted = {"unpaid_invoice": {"days": [3]}, "off": ["spend_spike"]}
    first = set_preferences(runtime, "globex", wanted, "ann")
    assert (first["version"], first["preferences"]["unpaid_invoice"]["days"]) == (1, [3])
    assert set_preferences(runtime, "globex", wanted, "bob") == first
    go_on(runtime, days=15)
    assert changes(runtime) == []
    go_on(runtime, days=2)
    assert changes(runtime) == [("globex", "unpaid_invoice", "firing", 1)]
    set_preferences(runtime, "globex", {"off": ["unpaid_invoice"]}, "ann")
    assert changes(runtime, "globex") == [("globex", "unpaid_invoice", "resolved", 1)]
    wrong = {"of": [], "limits": {"levels": ["2x", "0"]}, "low_balance": {"days": 0}}
    with pytest.raises(Problems) as refused:
        set_preferences(runtime, "globex", wrong, "ann")
    where = ["of", "low_balance.days", "limits.levels.0", "limits.levels.1"]
    assert [one.where for one in refused.value.problems] == where
    with pytest.raises(NotFound):
        set_preferences(runtime, "nobody", {}, "ann")
    assert show_preferences(runtime, None)["preferences"]["seal_lag"] == {"minutes": 60}


def test_test_orgs_alerts_are_by_their_own_clock_and_none_of_the_operators(
    runtime: Runtime, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    open_shop(runtime)
    begins = datetime(2027, 1, 1, tzinfo=UTC)
    make_test_org(runtime, "sandbox", begins, author="ann")
    set_subscription(runtime, "sandbox", contract="shop", plan="metered", time_zone="UTC", effective_from=begins)
    with psycopg.connect(database_url) as owner:
        for endpoint, org in (("we_own", "sandbox"), ("we_ours", None)):
            owner.execute(
                "insert into webhook_endpoints values (%s, %s, 'https://a.example', '{alert.*}', '', 'enabled', '',"
                " null, 0, 'ann', now(), now())",
                [endpoint, org],
            )
    advance_clock(runtime, "sandbox", by="1d", author="ann")
    at = datetime(2027, 1, 2, tzinfo=UTC)
    record(runtime, [event("r1", "sandbox", time=at, model="newest", meters={"tokens_out": 900})])
    assert changes(runtime) == [("sandbox", "limit", "firing", 2)]
    assert "alert_firing" not in "".join(capsys.readouterr())
    assert find_alerts(runtime, AlertQuestion()).alerts == []
    (own,) = find_alerts(runtime, AlertQuestion("sandbox")).alerts
    assert (own["test"], own["fired_at"]) == (True, "2027-01-02T00:00:00Z")
    # To advance the clock is to look, at nobody else's.
    record(runtime, [event("r1", "acme", model="newest")])
    advance_clock(runtime, "sandbox", by="1d", author="ann")
    assert find_alerts(runtime, AlertQuestion("sandbox")).alerts == []
    record(runtime, [event("r2", "sandbox", time=at + timedelta(days=1), meters={"tokens_out": 900})])
    advance_clock(runtime, "sandbox", by="3h", author="ann")
    fired = find_alerts(runtime, AlertQuestion("sandbox")).alerts
    assert {(one["rule"], one["fired_at"]) for one in fired} == {("limit", "2027-01-03T03:00:00Z")}
    advance_clock(runtime, "sandbox", by="21h", author="ann")
    assert changes(runtime, "sandbox") == []
    assert find_alerts(runtime, AlertQuestion(with_resolved=True)).alerts == []
    deliveries = query(runtime, "select endpoint_id, event_id from webhook_deliveries")
    assert [endpoint for endpoint, _ in deliveries] == ["we_own"] * 5  # the day's limit twice, the month's once
    assert changes(runtime, ours=True) == [(None, "unpriced_usage", "firing", 1)]


def unlike(runtime: Runtime) -> list[str]:
    """What `tally verify` says of alerts that fire."""
    begins = re.compile(r"open_alerts: the alert al_[0-9a-f]{24} ")
    found = [one.detail for one in verify_ledger(runtime).findings.kept]
    return [begins.sub("", one) for one in found if begins.match(one)]


def test_disputes_that_wait_and_endpoints_that_failed_are_told_until_somebody_sees_to_them(
    runtime: Runtime, database_url: str
) -> None:
    record(runtime, [event("r1", "acme")])
    with psycopg.connect(database_url) as owner:
        for table in ("disputes", "webhook_endpoints"):
            owner.execute(BY_ORG[table].encode(), {"org": "acme"})
        owner.execute("update disputes set answer_due_at = %s", [NOW - timedelta(days=1)])
        owner.execute(
            "update webhook_endpoints set state = 'disabled', failures = 9, reason = 'gone', changed_at = %s", [NOW]
        )
    done = sorted((one.transition.rule, one.transition.org_id) for one in evaluate(runtime).changes)
    assert done == [("dispute_overdue", None), ("webhook_disabled", "acme")]
    go_on(runtime, days=2)
    assert (None, "dispute_overdue", "escalated", 2) in changes(runtime, ours=True)
    # What fires follows from what happened: whoever tampers with it is found.
    assert unlike(runtime) == []
    with psycopg.connect(database_url) as owner:
        owner.execute("delete from open_alerts where rule = 'webhook_disabled'")
        owner.execute("update open_alerts set severity = 'info' where rule = 'dispute_overdue'")
    assert sorted(unlike(runtime)) == ["is missing, and its events say that it fires", "is not as its events say"]
    with psycopg.connect(database_url) as owner:
        owner.execute("update open_alerts set severity = 'critical' where rule = 'dispute_overdue'")
        owner.execute("update disputes set state = 'withdrawn', decided_at = now()")
    assert (None, "dispute_overdue", "resolved", 2) in changes(runtime, ours=True)


def test_what_is_not_there_is_refused_by_name(runtime: Runtime) -> None:
    for call in (
        lambda: show_alert(runtime, "al_none"),
        lambda: silence_alert(runtime, "al_none", {"for": "1h", "reason": "x", "author": "a"}),
        lambda: end_silence(runtime, "sl_none", "ann"),
        lambda: silence_rule(runtime, {"org_id": "none", "for": "1h", "reason": "x", "author": "a"}),
    ):
        with pytest.raises(NotFound):
            call()
    for raw in (
        {"for": "1h", "until": "2027-01-01", "reason": "x", "author": "a"},
        {"reason": "x", "author": "a"},
        {"until": "2026-01-01", "reason": "x", "author": "a"},
        {"for": "90w", "reason": "x", "author": "a"},
        {"subject": "s", "for": "1h", "reason": "x", "author": "a"},
        {"rule": "spend_spikes", "for": "1h", "reason": "x", "author": "a"},
    ):
        with pytest.raises(BadInput):
            silence_rule(runtime, raw)
    assert list_silences(runtime) == []
