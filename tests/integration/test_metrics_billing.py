"""Figures of billing: what is owed and late, and none that rules and the page of figures do not know."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from accounts import give, hold, open_shop
from billing import billed_org, payment
from conftest import NOW
from invoicing import event, record
from tallystick.api.app import create_app
from tallystick.app.billing_health import check_billing
from tallystick.app.billing_metrics import backup_metrics
from tallystick.app.invoice_actions import record_payment
from tallystick.app.metrics import metrics_text
from tallystick.app.runtime import Runtime
from unit.test_deploy import FAMILIES


def figures(runtime: Runtime) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(value for name, value in sample.labels.items() if name != "process")): sample.value
        for family in text_string_to_metric_families(metrics_text(runtime).decode())
        for sample in family.samples
    }


def test_what_is_owed_is_told_by_whether_it_is_late(runtime: Runtime) -> None:
    billed_org(runtime, "globex", "initech")
    record_payment(runtime, "globex/2026-10", payment("p1", "4"))
    found = figures(runtime)
    assert found["tallystick_invoices_unpaid", ("open",)] == 2
    assert found["tallystick_receivable_usd", ("open",)] == 16
    assert found["tallystick_invoices_unpaid", ("overdue",)] == 0
    runtime.clock = lambda: NOW + timedelta(days=60)
    found = figures(runtime)
    assert found["tallystick_receivable_usd", ("overdue",)] == 16
    assert found["tallystick_invoices_unpaid", ("open",)] == 0
    record_payment(runtime, "globex/2026-10", payment("p2", "6"))
    assert figures(runtime)["tallystick_receivable_usd", ("overdue",)] == 10


def test_every_figure_is_one_that_rules_and_the_page_can_know(runtime: Runtime) -> None:
    billed_org(runtime)
    for (name, labels), _ in figures(runtime).items():
        assert len(labels) == len(FAMILIES[name] - {"process"}), name
    assert list(backup_metrics(runtime)) == []
    (runtime.settings.data_dir / "last-backup.json").write_text('{"at": "2026-11-01T00:00:00Z"}')
    assert figures(runtime)["tallystick_last_backup_timestamp_seconds", ()] == 1793491200
    (runtime.settings.data_dir / "last-backup.json").write_text("cut of")
    assert list(backup_metrics(runtime)) == []


def test_a_request_without_a_price_and_a_hold_that_does_not_end_degrade_and_stop_nothing(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet")
    give(runtime)
    hold(runtime, "a1")
    assert [(one.name, one.ok) for one in check_billing(runtime)] == [("holds", True), ("prices", True)]
    record(runtime, [event("r1", "acme", model="newest")])
    runtime.clock = lambda: NOW + timedelta(hours=1)
    holds, prices = check_billing(runtime)
    assert (holds.ok, holds.figures, prices.ok, prices.figures) == (False, {"overdue": 1}, False, {"unpriced": 1})
    with TestClient(create_app(runtime), base_url="http://localhost") as client:
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["degraded"]) == (200, True)
