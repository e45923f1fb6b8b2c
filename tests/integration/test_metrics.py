"""The figures for Prometheus, rollups and jobs over HTTP: right, told to operators alone, and never in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from accounts import CONTRACT as SHOP
from conftest import NOW
from invoicing import event, record
from journal_helpers import raw_event
from tallystick.api.app import create_app
from tallystick.app.authorize import authorize as hold
from tallystick.app.contracts import apply_contract
from tallystick.app.keys import create_key
from tallystick.app.metrics import metrics_text
from tallystick.app.orgs import set_subscription
from tallystick.app.rollup import roll_up
from tallystick.app.rollup_health import LATE_AFTER, rollup_health
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import advance_clock, make_test_org


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime), base_url="http://localhost") as opened:
        yield opened


def guarded(runtime: Runtime) -> TestClient:
    """A server that asks for keys."""
    runtime.settings.require_keys = True
    return TestClient(create_app(runtime))


def figures(runtime: Runtime) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of labels but the process."""
    found = {}
    for family in text_string_to_metric_families(metrics_text(runtime).decode()):
        for sample in family.samples:
            labels = tuple(value for name, value in sample.labels.items() if name != "process")
            found[sample.name, labels] = sample.value
    return found


def test_what_is_recorded_refused_and_repeated_is_counted(runtime: Runtime, client: TestClient) -> None:
    sent = [raw_event("r1"), raw_event("r2", model="newest"), raw_event("r1"), {"org_id": "acme"}]
    assert client.post("/v1/events", json=sent).status_code == 207
    client.post("/v1/events", json=[raw_event("r1", feature="other")])
    roll_up(runtime)
    found = figures(runtime)
    assert found["tallystick_events_total", ("accepted", "")] == 2
    assert found["tallystick_events_total", ("duplicate", "")] == 1
    assert found["tallystick_events_total", ("conflict", "request_id_conflict")] == 1
    assert sum(value for (name, labels), value in found.items() if labels[:1] == ("rejected",)) == 1
    assert found["tallystick_entries_total", ()] == 2
    assert found["tallystick_requests_unpriced", ()] == 1
    assert found["tallystick_unsealed_entries", ()] == 2
    assert found["tallystick_provider_cost_usd_total", ()] == pytest.approx(0.0026)
    assert found["tallystick_database_up", ()] == 1
    assert found["tallystick_rollup_entries_behind", ()] == 0


def test_figures_are_an_operators_where_keys_are_needed(runtime: Runtime) -> None:
    operators = create_key(runtime, org_id=None, scopes=["read"], author="ann").token
    record(runtime, [event("r1", "acme")])
    orgs = create_key(runtime, org_id="acme", scopes=["read"], author="ann").token
    for address in ("/metrics", "/v1/jobs", "/v1/rollups", "/v1/jobs/rollups/runs"):
        with guarded(runtime) as client:
            assert client.get(address).status_code == 401, address
            got = client.get(address, headers={"Authorization": f"Bearer {orgs}"})
            assert got.status_code == 403, got.text
            assert client.get(address, headers={"Authorization": f"Bearer {operators}"}).status_code == 200, address


def test_an_org_sees_its_own_usage_without_what_it_costs_us(runtime: Runtime) -> None:
    record(runtime, [event("r1", "acme"), event("r2", "other")])
    token = create_key(runtime, org_id="acme", scopes=["read"], author="ann").token
    headers = {"Authorization": f"Bearer {token}"}
    days = {"from": "2026-10-01", "to": "2026-10-31", "by": "model,meter"}
    with guarded(runtime) as client:
        answer = client.get("/v1/orgs/acme/usage", params=days, headers=headers)
        listed = client.get("/v1/orgs/acme/usage/requests", params={"day": "2026-10-15"}, headers=headers)
        assert client.get("/v1/orgs/other/usage", params=days, headers=headers).status_code == 403
        table = client.get("/v1/orgs/acme/usage", params={**days, "format": "csv"}, headers=headers)
    assert answer.status_code == 200
    assert "cost_usd" not in answer.text
    assert answer.json()["rows"][0]["requests"] == 1
    assert [one["request_id"] for one in listed.json()["requests"]] == ["r1"]
    assert "cost_usd" not in listed.text
    assert table.status_code == 422


def test_usage_over_http_is_that_of_the_command_with_its_csv(runtime: Runtime, client: TestClient) -> None:
    record(runtime, [event("r1", "acme", model="newest"), event("r2", "acme")])
    days = {"from": "2026-10-01", "to": "2026-10-31", "by": "model", "period": "day"}
    said = client.get("/v1/orgs/acme/usage", params=days).json()
    assert [(row["day"], row["model"], row["unpriced"]) for row in said["rows"]] == [
        ("2026-10-15", "gpt-4o-mini", 0),
        ("2026-10-15", "newest", 1),
    ]
    assert said["complete"]
    csv = client.get("/v1/orgs/acme/usage", params={**days, "format": "csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[0].startswith("period,model,requests,")
    only = client.get("/v1/orgs/acme/usage/requests", params={"day": "2026-10-15", "model": "newest"}).json()
    assert [one["request_id"] for one in only["requests"]] == ["r1"]
    for bad in ({"by": "user_id"}, {"from": "yesterday"}, {"to": "2026-09-01"}, {"to": "0001-01-01"}):
        assert client.get("/v1/orgs/acme/usage", params={**days, **bad}).status_code == 422, bad
    assert client.get("/v1/orgs/nobody/usage", params=days).status_code == 404


def test_a_rollup_that_is_late_degrades_and_names_the_days_that_lack_entries(
    runtime: Runtime, client: TestClient
) -> None:
    record(runtime, [event("r1", time=datetime(2026, 10, 30, tzinfo=UTC)), event("r2", time=NOW)])
    assert rollup_health(runtime).ok
    runtime.clock = lambda: NOW + LATE_AFTER + timedelta(minutes=1)
    health = rollup_health(runtime)
    assert (health.ok, health.entries_behind, health.orgs_behind) == (False, 2, 1)
    assert [(one.org_id, one.day.isoformat()) for one in health.missing] == [("globex", "2026-10-30")]
    ready = client.get("/readyz").json()
    assert ready["ready"]
    (check,) = [one for one in ready["checks"] if one["name"] == "rollups"]
    assert (check["ok"], check["figures"]["missing_days"]) == (False, 1)
    roll_up(runtime)
    assert rollup_health(runtime).ok
    (check,) = [one for one in client.get("/readyz").json()["checks"] if one["name"] == "rollups"]
    assert check["ok"]


@pytest.mark.parametrize("months", [0, 4])
def test_test_orgs_raise_no_alarm_by_their_clocks_and_their_money_is_nobodys(
    runtime: Runtime, client: TestClient, months: int
) -> None:
    apply_contract(runtime, SHOP, "shop.yaml")
    make_test_org(runtime, "sandbox", datetime(2026, 10, 1, tzinfo=UTC), author="ann")
    set_subscription(runtime, "sandbox", contract="shop", plan="monthly", time_zone="UTC")
    asked = {"org_id": "sandbox", "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}
    hold(runtime, {**asked, "request_id": "a1", "action": "tailor", "work_key": "d1"})
    if months:
        advance_clock(runtime, "sandbox", by=f"{months}mo", author="ann")
    health = rollup_health(runtime)
    assert (health.ok, health.lag_seconds, health.missing) == (True, 0, ())
    assert health.entries_behind > 1
    found = figures(runtime)
    for quiet in ("overdue_holds", "sealed_lag_seconds", "invoices_total", "invoiced_usd", "credits_available"):
        assert found[f"tallystick_{quiet}", ()] == 0, quiet
    assert ("tallystick_ingest_age_seconds", ()) not in found
    record(runtime, [event("r1", time=NOW)])
    runtime.clock = lambda: NOW + timedelta(minutes=1)
    found = figures(runtime)
    for aged in ("ingest_age_seconds", "sealed_lag_seconds", "rollup_lag_seconds"):
        assert found[f"tallystick_{aged}", ()] == 60, aged


def test_jobs_are_listed_with_their_runs(runtime: Runtime, client: TestClient) -> None:
    from tallystick.app.job_list import find_job
    from tallystick.app.jobs import run_job

    run_job(replace(runtime), find_job(runtime.settings, "rollups"), by="me")
    jobs = {job["name"]: job for job in client.get("/v1/jobs").json()["jobs"]}
    assert jobs["rollups"]["last_run"]["started_by"] == "me"
    assert jobs["close"]["last_run"] is None
    assert [run["outcome"] for run in client.get("/v1/jobs/rollups/runs").json()["runs"]] == ["done"]
    assert client.get("/v1/jobs/nothing/runs").status_code == 404
