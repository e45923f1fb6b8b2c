"""The gate reads what was recorded, in the database and in blocks, of just the requests that were asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from accounts import call, end, give, hold, open_shop
from conftest import NOW
from invoicing import event, record
from leaving import let_go, open_shop_in_2025
from sealed_ledger import NEW_MODEL, publish_price
from tallystick.app.gate import By, GateReport, Wanted, candidate_of, run_gate
from tallystick.app.gate_compare import Terms
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
PRODUCTION = Wanted(*OCTOBER, "production")
STAGING = Wanted(*OCTOBER, "staging")
TERMS = Terms(Fraction(1, 10), 2)


def calls(report: GateReport) -> dict[str, tuple[int, int]]:
    return {row.group: (row.candidate.calls, row.baseline.calls) for row in report.result.rows}


def test_environments_are_compared_over_all_orgs_or_one(runtime: Runtime) -> None:
    record(runtime, [event(f"p{n}", org) for n in range(3) for org in ("globex", "acme")])
    dear = {"tokens_in": 2000, "tokens_out": 200}
    record(runtime, [event(f"s{n}", environment="staging", meters=dear) for n in range(3)])
    record(runtime, [event("other", environment="development"), event("then", time=datetime(2026, 9, 1, tzinfo=UTC))])
    report = run_gate(runtime, STAGING, PRODUCTION, TERMS)
    assert calls(report) == {"assistant": (3, 6)}
    assert report.result.rows[0].increase == 1
    assert report.result.rows[0].dearer == 1
    assert [reason.code for reason in report.result.reasons] == ["cost_grew", "cost_grew"]
    assert calls(run_gate(runtime, STAGING, PRODUCTION, TERMS, org_id="acme")) == {"assistant": (0, 3)}
    with pytest.raises(NotFound):
        run_gate(runtime, STAGING, PRODUCTION, TERMS, org_id="nobody")


def test_a_candidate_within_its_baseline_is_not_compared_with_itself(runtime: Runtime) -> None:
    record(runtime, [event(f"r{n}") for n in range(4)])
    record(runtime, [event(f"s{n}", session_id="run-7") for n in range(3)])
    record(runtime, [event(f"t{n}", attributes={"build": "9", "x": "y"}) for n in range(2)])
    for one in (
        candidate_of(NOW, "production", sessions=["run-7"]),
        candidate_of(NOW, "production", attributes={"build": "9"}),
    ):
        ours = 3 if one.sessions else 2
        for by in ("feature", "action"):
            report = run_gate(runtime, one, PRODUCTION, TERMS, by=by)  # type: ignore[arg-type]
            assert list(calls(report).values()) == [(ours, 9 - ours)]


def test_a_price_that_became_known_counts_and_one_that_is_not_fails(runtime: Runtime) -> None:
    record(runtime, [event(f"p{n}", model=NEW_MODEL) for n in range(2)])
    record(runtime, [event(f"s{n}", model=NEW_MODEL, environment="staging") for n in range(2)])
    unknown = run_gate(runtime, STAGING, PRODUCTION, TERMS)
    assert "unpriced" in {reason.code for reason in unknown.result.reasons}
    publish_price(runtime)
    reprice(runtime)
    known = run_gate(runtime, STAGING, PRODUCTION, TERMS)
    assert known.result.passed
    assert calls(known) == {"assistant": (2, 2)}


@pytest.mark.parametrize("by", ["feature", "action"])
def test_what_has_left_the_database_is_read_from_blocks(runtime: Runtime, by: By) -> None:
    then = datetime(2025, 3, 5, 12, tzinfo=UTC)
    runtime.clock = lambda: then
    open_shop_in_2025(runtime, acme="metered")
    for n in range(3):
        at = {"time": then, "action": "write", "attributes": {"build": str(n)}}
        record(runtime, [event(f"p{n}", "acme", **at), event(f"s{n}", "acme", environment="staging", **at)])
    record(runtime, [event("strange", "acme", time=then, model=NEW_MODEL, action="write")])
    publish_price(runtime)
    reprice(runtime)
    times = then - timedelta(hours=1), then + timedelta(hours=1)
    asked = [
        (Wanted(*times, "staging"), Wanted(*times, "production")),
        (Wanted(*times, "production", None, {"build": "1"}), Wanted(*times, "production")),
    ]
    before = [run_gate(runtime, *one, TERMS, by=by).as_dict() for one in asked]
    let_go(runtime, then)
    runtime.clock = lambda: NOW
    assert [run_gate(runtime, *one, TERMS, by=by).as_dict() for one in asked] == before
    assert before[0]["groups"][0]["baseline"]["calls"] == 4


def test_what_was_settled_together_is_one_action(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet")
    give(runtime)
    for n in range(2):
        held = hold(runtime, f"a{n}")
        end(runtime, held["hold"]["hold_id"], events=[call(f"c{n}-1"), call(f"c{n}-2")])
    november = Wanted(NOW - timedelta(days=1), NOW + timedelta(days=1), "production")
    report = run_gate(runtime, Wanted(*OCTOBER, "staging"), november, TERMS, by="action")
    (row,) = report.result.rows
    assert (row.group, row.baseline.calls, row.baseline.mean) == ("tailor", 2, 7_000_000_000)
