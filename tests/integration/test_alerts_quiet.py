"""What is no news is no alert: a pause of everything, what somebody switched off, credits that are held a moment."""

from __future__ import annotations

from datetime import timedelta

from accounts import end, give, hold, open_shop
from billing import findings
from tallystick.app.alert_list import AlertQuestion, find_alerts
from tallystick.app.alerts import evaluate
from tallystick.app.job_list import find_job
from tallystick.app.jobs import run_job
from tallystick.app.rollup import roll_up
from tallystick.app.runtime import Runtime
from tallystick.app.webhook_endpoints import change, create_endpoint
from tallystick.journal.webhook_deliveries import note_unwell


def go_on(runtime: Runtime, **by: int) -> None:
    now = runtime.clock() + timedelta(**by)
    runtime.clock = lambda: now


def changes(runtime: Runtime) -> list[tuple[str, str, str]]:
    done = evaluate(runtime)
    assert done.error is None
    return sorted((one.transition.rule, one.transition.subject, one.transition.change) for one in done.changes)


def test_after_a_pause_of_everything_one_alert_says_so_and_jobs_that_stay_late_have_their_own(runtime: Runtime) -> None:
    names = ("rates", "close", "disputes", "alerts", "payments")
    for name in names:
        run_job(runtime, find_job(runtime.settings, name), by="test")
    assert changes(runtime) == []
    go_on(runtime, days=3)
    done = run_job(runtime, find_job(runtime.settings, "alerts"), by="test")
    assert done is not None
    assert done.detail == "1 alerts began to fire, 0 were resolved"
    (told,) = find_alerts(runtime, AlertQuestion(own=True)).alerts
    assert (told["subject"], told["severity"]) == ("jobs", "warning")
    assert told["figures"] == {"stood_still_seconds": 259200, "jobs": ["close", "disputes", "payments", "rates"]}
    for name in ("rates", "disputes", "payments"):
        run_job(runtime, find_job(runtime.settings, name), by="test")
    for minutes in (0, 5, 5):
        go_on(runtime, minutes=minutes)
        assert changes(runtime) == [], "jobs may catch up"
    go_on(runtime, minutes=6)
    for name in ("rates", "disputes", "payments"):
        run_job(runtime, find_job(runtime.settings, name), by="test")
    assert changes(runtime) == [("failed_job", "close", "firing"), ("failed_job", "jobs", "resolved")]
    go_on(runtime, days=1)  # what fires for itself goes on doing so
    assert changes(runtime) == [("failed_job", "jobs", "firing")]
    for name in names:
        if name != "alerts":
            run_job(runtime, find_job(runtime.settings, name), by="test")
    assert changes(runtime) == [("failed_job", "close", "resolved"), ("failed_job", "jobs", "resolved")]
    assert find_alerts(runtime, AlertQuestion(own=True)).alerts == []
    assert findings(runtime) == []


def test_an_endpoint_that_somebody_switched_off_is_no_alert_however_it_failed(runtime: Runtime) -> None:
    made = create_endpoint(runtime, url="https://hooks.example.com/", types=["*"], author="ann")
    with runtime.database.writer() as connection:
        note_unwell(connection, made.endpoint.endpoint_id, runtime.clock())
    change(runtime, made.endpoint.endpoint_id, enabled=False, author="ann")
    assert changes(runtime) == []


def test_credits_that_holds_keep_are_not_gone(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet")
    give(runtime, "50")
    end(runtime, hold(runtime, "first")["hold"]["hold_id"])  # 5 credits on a day, 45 are left: 9 days
    roll_up(runtime)
    assert changes(runtime) == []
    place = 0
    while hold(runtime, f"a{place}")["decision"]["allow"]:
        place += 1
    assert place > 0
    assert changes(runtime) == [], "all of it is held, and comes back or is spent"
