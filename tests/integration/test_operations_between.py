"""Operations stand between an org's usage and count as usage nowhere; what the customer's own key paid is no cost."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invoicing import apply, event, record, subscribe
from journal_helpers import append_in_the_past, query
from sealed_ledger import NEW_MODEL, publish_price
from tallystick.app.close_month import close_month
from tallystick.app.entries import stream_entries
from tallystick.app.export import export_invoice
from tallystick.app.hold_expiry import expire_due
from tallystick.app.invoices import requests_behind, show_invoice
from tallystick.app.org_events import list_org_events
from tallystick.app.proof_files import write_proof
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.app.replay_history import replay_history
from tallystick.app.reprice import reprice
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.verify import verify_ledger
from tallystick.core.money import pico_to_usd
from tallystick.invoice.model import Invoice
from workshop import budgeted, excepted, granted, held, refunded, released, settled, standing

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
DAY = datetime(2026, 10, 15, 12, tzinfo=UTC)


def at(runtime: Runtime, moment: datetime) -> Runtime:
    settings = runtime.settings.model_copy(update={"block_entries_max": 8})
    return replace(runtime, clock=lambda: moment, settings=settings)


def used(runtime: Runtime, org_id: str, *, between: bool) -> None:
    """Nine requests of October and one of November; with operations of every kind between them."""
    then = at(runtime, DAY)
    common = {"org_id": org_id, "action": None}
    if between:
        granted(then, 100, org_id=org_id)
        budgeted(then, org_id=org_id)
        excepted(then, org_id=org_id)
    record(then, [event("before", org_id, time=DAY - timedelta(days=3))])
    if between:
        hold = held(then, meters={"tokens_in": 10}, **common)
        done = settled(then, hold, "settled")
        released(then, held(then, **common))
        standing(then, "unpaid", org_id=org_id)
        held(then, **common)
        standing(then, org_id=org_id)
        with pytest.raises(Exception, match=r".+"):  # nothing was charged that could go back
            refunded(then, done)
    else:
        record(then, [event("settled", org_id, time=DAY)])
    record(then, [event("unknown", org_id, model=NEW_MODEL), event("failed", org_id, outcome="failure")])
    record(then, [event(f"own-{n}", org_id, payer="customer", model=model) for n, model in OWN])
    record(then, [event("staged", org_id, environment="development"), event("late", org_id, time=DAY)])
    record(at(runtime, DAY + timedelta(days=18)), [event("november", org_id, time=DAY + timedelta(days=18))])
    if between:
        held(at(runtime, DAY + timedelta(days=18)), **common)


OWN = ((1, "gpt-4o-mini"), (2, NEW_MODEL))


@pytest.fixture
def closed(runtime: Runtime) -> tuple[Runtime, dict[str, Invoice]]:
    """The same usage of two orgs whose plan charges a share of our cost, one of which has operations; closed."""
    apply(runtime)
    for org_id in ("globex", "plain"):
        subscribe(runtime, org_id, "resale")
        used(runtime, org_id, between=org_id == "globex")
    publish_price(runtime)
    reprice(runtime)
    now = at(runtime, datetime(2026, 11, 3, tzinfo=UTC))
    results = close_month(now, "2026-10")
    assert [result.error for result in results] == [None, None]
    return now, {result.org_id: result.invoice for result in results if result.invoice is not None}


def test_what_is_billed_is_the_same_with_operations_between(closed: tuple[Runtime, dict[str, Invoice]]) -> None:
    _, invoices = closed
    one, other = invoices["globex"], invoices["plain"]
    assert one.lines == other.lines
    assert one.total_cents == other.total_cents
    assert one.ledger.events == other.ledger.events == 8
    assert one.ledger.through_seq > other.ledger.through_seq
    internal = [{**invoice.document()["internal"]} for invoice in (one, other)]
    assert internal[0] == internal[1]


def test_requests_are_listed_exported_and_explained_without_operations(
    closed: tuple[Runtime, dict[str, Invoice]],
) -> None:
    runtime, _ = closed
    listed = {org: list_org_events(runtime, org)["events"] for org in ("globex", "plain")}
    assert [one["request_id"] for one in listed["globex"]] == [one["request_id"] for one in listed["plain"]]
    assert {one["payer"] for one in listed["globex"]} == {"seller", "customer"}
    rows = {}
    for org in ("globex", "plain"):
        text = "".join(export_invoice(runtime, f"{org}/2026-10"))
        rows[org] = [
            {name: cell for name, cell in row.items() if name not in _PLACES}
            for row in csv.DictReader(io.StringIO(text))
        ]
        assert [fact.entry.kind for fact in requests_behind(runtime, f"{org}/2026-10", 1)] == ["usage"] * 6
        assert show_invoice(runtime, f"{org}/2026-10").late == ()
    assert rows["globex"] == rows["plain"]
    assert len(rows["globex"]) == 8
    assert [row["payer"] for row in rows["globex"]].count("customer") == 2


_PLACES = ("seq", "org_id", "correction_seq", "fingerprint", "recorded_at")


def test_an_invoice_is_replayed_and_proved_with_the_operations_of_its_month(
    closed: tuple[Runtime, dict[str, Invoice]], tmp_path: Path
) -> None:
    runtime, invoices = closed
    for org_id, invoice in invoices.items():
        again = replay_invoice(runtime, invoice.invoice_id)
        assert (again.differences, again.events) == ([], 8), org_id
    seal_once(runtime, everything=True)
    for org_id, invoice in invoices.items():
        checked = write_proof(proof_pieces(runtime, invoice.invoice_id), tmp_path / f"{org_id}.json")
        assert checked.problems == [], org_id
    assert verify_ledger(runtime).findings.kept == []


def test_a_replay_of_blocks_says_how_many_entries_have_no_price(closed: tuple[Runtime, dict[str, Invoice]]) -> None:
    runtime, invoices = closed
    seal_once(runtime, everything=True)
    kinds = query(runtime, "select count(*), count(body) from ledger_entries where time >= '2026-10-01'")
    report = replay_history(runtime, OCTOBER, OCTOBER + timedelta(days=90))
    assert report.identical
    assert [(report.entries, report.operations)] == kinds
    assert replay_history(runtime, OCTOBER, OCTOBER + timedelta(days=90), "plain").operations == 0
    first, second = (invoice.internal for invoice in invoices.values())
    assert first == second
    ((cost_pico,),) = query(
        runtime,
        "select sum(cost_pico)::bigint from ledger_entries where org_id = 'plain' and payer is null"
        " and time < '2026-11-01'",
    )
    assert first.cost_usd == pico_to_usd(cost_pico)


def test_what_the_customer_paid_is_recorded_and_none_of_our_cost(closed: tuple[Runtime, dict[str, Invoice]]) -> None:
    runtime, _ = closed
    costs = query(
        runtime,
        "select sum(cost_pico), sum(cost_pico) filter (where payer is null) from ledger_entries"
        " where org_id = 'globex'",
    )
    moved = query(
        runtime,
        "select sum(amount_pico) from transfers where org_id = 'globex' and asset = 'USD'",
    )
    assert costs[0][0] > costs[0][1] == moved[0][0]
    corrected = query(runtime, "select request_id, payer from ledger_entries where kind = 'correction' order by seq")
    assert corrected == [("unknown", None), ("own-2", "customer")] * 2


def test_closed_months_hold_after_their_entries_have_left(runtime: Runtime) -> None:
    ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=80)
    then = at(runtime, ago)
    apply(then)
    subscribe(then, "globex", "resale")
    granted(then, 5)
    record(then, [event(f"r{n}", time=ago + timedelta(minutes=n)) for n in range(5)])
    held(then, action=None)
    append_in_the_past(then, [event("r9", time=ago)])
    month = f"{ago:%Y-%m}"
    later = at(runtime, ago + timedelta(days=40))
    (result,) = close_month(later, month)
    assert result.invoice is not None, result.error
    seal_once(later, everything=True)
    now = at(runtime, datetime.now(UTC))
    now = replace(now, settings=now.settings.model_copy(update={"retention_days": 45}))
    expire_due(now)  # a hold stays until it is ended
    run_retention(now)
    assert query(runtime, "select count(*) from ledger_entries where kind = 'grant'") == [(0,)]
    again = replay_invoice(now, result.invoice.invoice_id)
    assert (again.differences, again.events) == ([], 6)
    assert {entry.kind for entry in stream_entries(now, "globex", 1, 8)} == {"grant", "usage", "hold"}
