"""Service credits: what was down is credited once, on the month's own invoice, and what is recorded later as well."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from billing import OCTOBER, SELLER, VOID, findings
from invoicing import apply, event, record, subscribe
from journal_helpers import query, tamper
from leaving import let_go
from tallystick.app.grants import grant
from tallystick.app.incidents import list_incidents, record_incident, withdraw_incident
from tallystick.app.invoice_actions import void_invoice
from tallystick.app.invoice_credits import give_credit_asked
from tallystick.app.invoice_life import finalize_month, list_life
from tallystick.app.job_list import find_job
from tallystick.app.jobs import run_job
from tallystick.app.runtime import Runtime
from tallystick.app.sla import given_for, show_sla
from tallystick.app.sla_credits import credit_late_incidents
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.core.errors import TallyError
from tallystick.core.instants import parse_instant

PROMISE = """
sla:
  availability: [{below: "99.9", credit: "0.10"}, {below: "99.0", credit: "0.25"}]
  latency: [{over_ms: 2000, share: "0.25", credit: "0.05"}, {minutes: 60, credit: "0.20"}]
  cap: "0.40"
"""


def incident(request_id: str, begin: str, end: str, **more: Any) -> dict[str, Any]:
    whom = {} if "orgs" in more else {"all": True}
    said = {"kind": "downtime", "reason": "a switch failed", "author": "ann"}
    return {"request_id": request_id, "from": f"2026-10-{begin}Z", "to": f"2026-10-{end}Z", **said, **whom, **more}


@pytest.fixture
def promised(runtime: Runtime) -> Runtime:
    apply(runtime, SELLER + PROMISE)
    subscribe(runtime, "globex")
    subscribe(runtime, "initech")
    return runtime


def cents(runtime: Runtime, org_id: str = "globex") -> list[int]:
    return [one.amount_cents for one in given_for(runtime, org_id, OCTOBER)]


def test_downtime_is_credited_once_on_the_months_own_invoice(promised: Runtime) -> None:
    record_incident(promised, incident("i1", "10T10:00:00", "10T10:40:00"))
    record_incident(promised, incident("i2", "10T10:30:00", "10T11:00:00", orgs=["globex"]))
    # an hour of October's 744 for globex: 99.8656 % of the time, below the first bound
    (result,) = finalize_month(promised, OCTOBER, ["globex"])
    assert result.life is not None
    assert result.life.account is not None
    assert result.life.account.due_cents == 900
    assert cents(promised) == [100]
    (again,) = finalize_month(promised, OCTOBER, ["globex"])
    assert again.status == "already_issued"
    assert cents(promised) == [100]
    # 40 minutes of 44,640 for initech: 99.91 %
    (other,) = finalize_month(promised, OCTOBER, ["initech"])
    assert other.life is not None
    assert other.life.account is not None
    assert other.life.account.due_cents == 1000
    assert cents(promised, "initech") == []
    assert findings(promised) == []


def test_what_is_recorded_after_the_issue_is_given_as_a_difference_and_nothing_is_taken_back(promised: Runtime) -> None:
    first = record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00"))
    finalize_month(promised, OCTOBER, ["globex", "initech"])
    assert cents(promised) == cents(promised, "initech") == [100]
    # 29 hours more are 96 %: the second step, 25 %, of which 10 % was given
    record_incident(promised, incident("i2", "11T00:00:00", "12T05:00:00", orgs=["globex"]))
    assert credit_late_incidents(promised) == [("globex", OCTOBER, 150)]
    assert credit_late_incidents(promised) == []
    assert [one.request_id for one in given_for(promised, "globex", OCTOBER)] == ["sla:2026-10", "sla:2026-10:2"]
    # a record that was wrong comes to less, and leaves what was given
    withdrawn = withdraw_incident(
        promised, first["incident_id"], {"request_id": "w1", "reason": "not us", "author": "ann"}
    )
    assert withdrawn["replaces"] == first["incident_id"]
    assert credit_late_incidents(promised) == [("globex", OCTOBER, 0), ("initech", OCTOBER, 0)]
    shown = show_sla(promised, "initech", OCTOBER)
    assert (shown["credit_usd"], shown["given_usd"], shown["to_give_usd"]) == ("0.00", "1.00", "0.00")
    # what was wrongly announced as maintenance comes to more once it is withdrawn
    announced = record_incident(promised, incident("m1", "20T00:00:00", "21T00:00:00", kind="maintenance"))
    record_incident(promised, incident("i3", "20T00:00:00", "21T00:00:00"))
    assert credit_late_incidents(promised) == [("globex", OCTOBER, 0), ("initech", OCTOBER, 0)]
    record_incident(
        promised,
        incident("m2", "20T00:00:00", "20T00:30:00", kind="maintenance", replaces=announced["incident_id"]),
    )
    assert credit_late_incidents(promised) == [("globex", OCTOBER, 0), ("initech", OCTOBER, 150)]
    assert cents(promised, "initech") == [100, 150]
    assert findings(promised) == []


def test_slow_requests_are_counted_from_the_ledger_wherever_they_are(promised: Runtime) -> None:
    times = {"time": datetime(2026, 10, 20, 12, tzinfo=UTC)}
    sent = [event(f"fast{n}", latency_ms=2000, **times) for n in range(6)]
    sent += [event(f"slow{n}", latency_ms=2001, **times) for n in range(3)]
    # neither failures, nor what is not charged, nor what took nobody knows how long, nor other months
    sent += [event("failed", latency_ms=9000, outcome="failure", **times), event("unknown", **times)]
    sent += [event("free", latency_ms=9000, environment="development", **times)]
    sent += [event("later", latency_ms=9000, time=datetime(2026, 11, 1, tzinfo=UTC))]
    record(promised, sent)
    shown = show_sla(promised, "globex", OCTOBER)
    assert shown["invoice_id"] is None
    assert shown["plans"][0]["requests"] == [{"over_ms": 2000, "requests": 9, "slow": 3}]
    finalize_month(promised, OCTOBER, ["globex"])
    base_cents = int(Decimal(shown["plans"][0]["base_usd"]) * 100)
    assert cents(promised) == [round(base_cents * 5 / 100)]
    # what comes after the invoice was made is not of it
    record(promised, [event("late", latency_ms=2000, **times)])
    assert show_sla(promised, "globex", OCTOBER)["plans"][0]["requests"][0]["requests"] == 9


def test_a_credit_is_computed_again_once_its_entries_have_left(runtime: Runtime) -> None:
    then = replace(runtime, clock=lambda: datetime(2025, 4, 2, tzinfo=UTC))
    apply(then, (SELLER + PROMISE).replace("2026-01-01", "2025-01-01"))
    march = datetime(2025, 3, 1, tzinfo=UTC)
    subscribe(then, "globex", effective_from=march)
    record(then, [event(f"r{n}", time=march + timedelta(days=n), latency_ms=1998 + n) for n in range(5)])
    said = incident("m1", "", "", kind="maintenance")
    record_incident(then, said | {"from": "2025-03-04T00:00:00Z", "to": "2025-03-05T00:00:00Z"})
    finalize_month(then, "2025-03", ["globex"])
    before = show_sla(then, "globex", "2025-03")
    assert before["plans"][0]["requests"] == [{"over_ms": 2000, "requests": 4, "slow": 1}]
    record_incident(then, said | {"from": "2025-03-02T00:00:00Z", "to": "2025-03-03T00:00:00Z", "request_id": "m2"})
    before = show_sla(then, "globex", "2025-03")
    assert before["plans"][0]["requests"] == [{"over_ms": 2000, "requests": 3, "slow": 1}]
    assert credit_late_incidents(then) == [("globex", "2025-03", 50)]
    let_go(then, then.clock())
    assert query(runtime, "select count(*) from ledger_entries where kind = 'usage'") == [(0,)]
    assert show_sla(then, "globex", "2025-03")["plans"] == before["plans"]
    assert findings(then) == []


def test_whoever_dies_on_the_way_gives_nothing_twice(promised: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for place in ("tallystick.app.sla_credits.add_looks", "tallystick.app.issue_invoices._submitted"):
        monkeypatch.setattr(place, die)
        with pytest.raises(KeyboardInterrupt):
            finalize_month(promised, OCTOBER, ["globex"])
        monkeypatch.undo()
        assert cents(promised) == [100], place
    (result,) = finalize_month(promised, OCTOBER, ["globex"])
    assert result.status == "issued"
    assert cents(promised) == [100]
    assert findings(promised) == []


def test_the_ids_of_these_credits_are_nobody_elses_and_a_void_month_is_credited_nothing_more(promised: Runtime) -> None:
    said = {"amount_usd": "7", "reason": "x", "author": "ann"}
    for request_id in ("sla:2026-10", "sla:", "dispute:q3"):
        with pytest.raises(TallyError) as refused:
            give_credit_asked(promised, "globex", {**said, "source": "sla", "request_id": request_id})
        assert refused.value.code == "reserved_id"
    record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00"))
    for result in finalize_month(promised, OCTOBER, ["globex", "initech"]):
        assert result.life is not None
        if result.life.org_id == "globex":
            void_invoice(promised, result.life.invoice_id, VOID)
    assert cents(promised) == cents(promised, "initech") == [100]
    record_incident(promised, incident("i2", "11T00:00:00", "12T05:00:00"))
    assert credit_late_incidents(promised) == [("initech", OCTOBER, 150)]
    assert cents(promised) == [100], "what was given stays, and nothing is charged for the month any more"
    assert findings(promised) == []


def test_what_concerns_everyone_is_over_by_the_real_clock_whatever_a_test_clock_says(promised: Runtime) -> None:
    make_test_org(promised, "sandbox", datetime(2030, 1, 1, tzinfo=UTC), author="ann")
    to_come = incident("i1", "", "") | {"from": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:00:00Z"}
    for whom in ({}, {"all": False, "orgs": ["globex", "sandbox"]}):
        with pytest.raises(TallyError) as refused:
            record_incident(promised, to_come | whom)
        assert refused.value.code == "incident_in_future"
    assert record_incident(promised, to_come | {"all": False, "orgs": ["sandbox"]})["is_new"]


def test_a_month_that_somebody_has_as_never_looked_at_is_named(promised: Runtime, database_url: str) -> None:
    finalize_month(promised, OCTOBER, ["globex", "initech"])
    assert findings(promised) == []
    tamper(database_url, "delete from sla_looks where org_id = 'globex'")
    (found,) = findings(promised)
    assert "its month was not looked at before (table sla_looks)" in found
    tamper(database_url, "delete from sla_looks")
    assert len(findings(promised)) == 2


def test_many_at_once_give_a_months_credit_once(promised: Runtime) -> None:
    record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00"))
    said = incident("i2", "11T00:00:00", "12T05:00:00")

    def run(place: int) -> None:
        if place == 3:
            record_incident(promised, said)
        elif place % 2:
            credit_late_incidents(promised)
        else:
            finalize_month(promised, OCTOBER, ["globex"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    finalize_month(promised, OCTOBER, ["globex"])
    credit_late_incidents(promised)
    assert sum(cents(promised)) == 250
    assert findings(promised) == []


def test_each_plan_of_a_month_credits_its_own_share_and_a_plan_without_promise_none(runtime: Runtime) -> None:
    contract = SELLER.replace('    base: "10"', '    base: "31"\n    sla: {availability: [{below: "99.9", credit: 1}]}')
    apply(runtime, contract)
    subscribe(runtime, "globex", "resale")
    subscribe(runtime, "globex", "pro", effective_from=datetime(2026, 10, 11, tzinfo=UTC))
    record_incident(runtime, incident("i1", "05T00:00:00", "06T00:00:00"))
    assert show_sla(runtime, "globex", OCTOBER)["credit_usd"] == "0.00", "pro was not in force when it was down"
    record_incident(runtime, incident("i2", "15T00:00:00", "16T00:00:00"))
    (plan,) = show_sla(runtime, "globex", OCTOBER)["plans"]
    assert (plan["plan"], plan["base_usd"], plan["exact_usd"]) == ("pro", "21.00", "21")
    assert plan["time_seconds"] == str(21 * 86_400)
    (result,) = finalize_month(runtime, OCTOBER, ["globex"])
    assert result.life is not None
    assert result.life.state == "paid", "nothing is left to be paid, and never less than nothing"
    assert cents(runtime) == [2100]


def test_a_contract_without_a_promise_credits_nothing_and_notes_nothing(runtime: Runtime) -> None:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record_incident(runtime, incident("i1", "10T10:00:00", "20T11:00:00"))
    finalize_month(runtime, OCTOBER, ["globex"])
    assert credit_late_incidents(runtime) == []
    assert cents(runtime) == []
    assert show_sla(runtime, "globex", OCTOBER)["plans"] == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"to": "2026-10-10T10:00:00Z"}, "invalid_range"),
        ({"from": "1999-01-01T00:00:00Z"}, "invalid_range"),
        ({"from": "10 o'clock"}, "invalid_time"),
        ({"kind": "withdrawal"}, "not_a_choice"),
        ({"all": False}, "missing_field"),
        ({"orgs": ["globex"]}, "unknown_field"),
        ({"orgs": ["nobody"], "all": False}, "unknown_org"),
        ({"to": "2027-10-10T10:00:00Z"}, "incident_in_future"),
        ({"replaces": "inc9"}, "unknown_incident"),
        ({"replaces": "nine"}, "unknown_incident"),
        ({"reason": ""}, "empty_text"),
        ({"severity": 1}, "unknown_field"),
    ],
)
def test_what_cannot_have_been_is_refused_and_nothing_is_recorded(
    promised: Runtime, changed: dict[str, Any], code: str
) -> None:
    with pytest.raises(TallyError) as refused:
        record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00") | changed)
    assert refused.value.code == code
    assert list_incidents(promised)["incidents"] == []


def test_the_same_request_is_one_record_and_a_record_is_taken_back_once(promised: Runtime) -> None:
    said = incident("i1", "10T10:00:00", "10T11:00:00")
    first = record_incident(promised, said)
    assert record_incident(promised, said) == first | {"is_new": False}
    withdrawal = {"request_id": "w1", "reason": "not us", "author": "ann"}
    withdrawn = withdraw_incident(promised, "inc1", withdrawal)
    assert withdraw_incident(promised, "inc1", withdrawal) == withdrawn | {"is_new": False}
    for code, call in [
        ("request_id_conflict", lambda: record_incident(promised, said | {"reason": "another"})),
        ("request_id_conflict", lambda: withdraw_incident(promised, "inc1", withdrawal | {"request_id": "i1"})),
        ("incident_taken_back", lambda: withdraw_incident(promised, "inc1", withdrawal | {"request_id": "w2"})),
        ("incident_taken_back", lambda: record_incident(promised, said | {"request_id": "i3", "replaces": "inc1"})),
        ("incident_is_withdrawal", lambda: withdraw_incident(promised, "inc2", withdrawal | {"request_id": "w3"})),
        ("unknown_incident", lambda: withdraw_incident(promised, "inc7", withdrawal | {"request_id": "w4"})),
    ]:
        with pytest.raises(TallyError) as refused:
            call()
        assert refused.value.code == code
    listed = list_incidents(promised, limit=1)
    assert listed["incidents"] == [{k: v for k, v in first.items() if k != "is_new"} | {"taken_back_by": "inc2"}]
    rest = list_incidents(promised, cursor=listed["next_cursor"])
    assert [one["kind"] for one in rest["incidents"]] == ["withdrawal"]
    assert rest["next_cursor"] is None


def test_what_is_changed_by_the_owners_hand_is_named(promised: Runtime, database_url: str) -> None:
    record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00"))
    finalize_month(promised, OCTOBER, ["globex"])
    record_incident(promised, incident("i2", "11T00:00:00", "12T05:00:00"))
    assert findings(promised) == []
    with psycopg.connect(database_url) as connection:
        connection.execute("alter table incidents disable trigger all")
        connection.execute("alter table sla_looks disable trigger all")
        # as if the month had been looked at with the second one, and nothing were owed
        connection.execute("insert into sla_looks select org_id, invoice_id, 2, 100 from sla_looks")
    (looked,) = findings(promised)
    assert "comes to 2.50 USD, and 1.00 is noted" in looked
    with psycopg.connect(database_url) as connection:
        connection.execute("update sla_looks set credit_cents = 250 where incidents_through = 2")
    (owed,) = findings(promised)
    assert "comes to 2.50 USD, and 1.00 was given" in owed
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from sla_looks where incidents_through = 2")
        connection.execute("update incidents set ends_at = '2026-10-10T10:05:00Z' where incident = 1")
    found = findings(promised)
    assert any("a row of incidents is gone, or was changed" in one for one in found)
    assert any("it gives 1.00 USD, and 0.00 was due with the incidents up to inc1" in one for one in found)


def test_the_job_looks_again_at_months_that_were_issued(promised: Runtime) -> None:
    finalize_month(promised, OCTOBER, ["globex", "initech"])
    record_incident(promised, incident("i1", "10T10:00:00", "10T11:00:00", orgs=["initech"]))
    done = run_job(promised, find_job(promised.settings, "close"), by="me")
    assert done is not None
    assert "1 months were credited" in done.detail
    assert cents(promised, "initech") == [100]
    assert cents(promised) == []


def test_what_comes_late_is_on_the_invoice_that_is_issued_next(runtime: Runtime) -> None:
    apply(runtime, SELLER + PROMISE)
    make_test_org(runtime, "sandbox", datetime(2026, 9, 1, tzinfo=UTC), author="ann")
    subscribe(runtime, "sandbox", effective_from=datetime(2026, 9, 1, tzinfo=UTC))
    advance_clock(runtime, "sandbox", to=parse_instant("2026-10-05T00:00:00Z"), author="ann")
    said = incident("i1", "", "", orgs=["sandbox"])
    record_incident(runtime, said | {"from": "2026-09-10T10:00:00Z", "to": "2026-09-10T11:00:00Z"})
    advance_clock(runtime, "sandbox", to=parse_instant("2027-01-05T00:00:00Z"), author="ann")
    # on its own clock it is over
    record_incident(runtime, said | {"from": "2026-12-10T10:00:00Z", "to": "2026-12-10T11:00:00Z", "request_id": "i2"})
    advance_clock(runtime, "sandbox", to=parse_instant("2027-02-05T00:00:00Z"), author="ann")
    lives = {one.period: one for one in list_life(runtime, org_id="sandbox") if one.account is not None}
    due = {month: life.account.due_cents for month, life in lives.items() if life.account is not None}
    assert due == {"2026-09": 1000, "2026-10": 900, "2026-11": 1000, "2026-12": 1000, "2027-01": 900}
    assert [one.request_id for one in given_for(runtime, "sandbox", "2026-12")] == ["sla:2026-12"]
    assert findings(runtime) == []


def test_on_a_wallet_the_base_is_the_fee_and_what_was_topped_up(runtime: Runtime) -> None:
    terms = 'kind: credits, base: "20", included_credits: 5, top_up: true'
    fee = "sla: {latency: [{minutes: 0, credit: 1}], base: base_fee}"
    plans = f"plans:\n  all: {{{terms}}}\n  fee: {{{terms}, {fee}}}\n"
    head = 'contract: acme\nversion: "1"\neffective_from: 2026-01-01T00:00:00Z\ncredit: {name: credit, usd: "0.01"}\n'
    apply(runtime, head + plans + PROMISE)
    for org_id, plan, credit in (("globex", "all", "3.00"), ("initech", "fee", "20.00")):
        subscribe(runtime, org_id, plan)
        top_up = {"request_id": "t1", "source": "top_up", "credits": "1000", "author": "ann", "reason": "more"}
        grant(runtime, org_id, top_up)
        times = {"from": "2026-11-01T10:00:00Z", "to": "2026-11-01T11:00:00Z"}
        record_incident(runtime, incident(f"d-{org_id}", "", "", orgs=[org_id]) | times)
        slow = {"from": "2026-11-01T12:00:00Z", "to": "2026-11-01T12:30:00Z", "kind": "latency"}
        record_incident(runtime, incident(f"s-{org_id}", "", "", orgs=[org_id]) | slow)
        shown = show_sla(runtime, org_id, "2026-11")
        assert (shown["plans"][0]["base_usd"], shown["credit_usd"]) == ("30.00" if plan == "all" else "20.00", credit)
