"""An unknown price is never zero, and once it is known a correction says so."""

from __future__ import annotations

from journal_helpers import publish_price, query, raw_event
from tallystick.app.ingest import ingest_events
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.core.instants import parse_instant
from tallystick.ledger.entry import ENTRY_COLUMNS, Entry, entry_leaf


def test_what_had_no_price_gets_a_correction_and_stays_as_it_was_itself(runtime: Runtime) -> None:
    raws = [raw_event(f"r{n}", model="newest", meters={"tokens_in": n}) for n in range(1, 4)]
    unknown = raw_event("x", model="never-heard-of")
    results = ingest_events(runtime, [*raws, unknown, raw_event("priced")])
    assert [result.receipt.cost_status for result in results] == ["unpriced"] * 4 + ["final"]
    assert results[0].receipt.cost_pico is None
    nothing_yet = reprice(runtime)
    assert nothing_yet.corrected == 0
    assert {(one.model, one.requests) for one in nothing_yet.still_unpriced} == {("newest", 3), ("never-heard-of", 1)}
    entries = query(runtime, "select * from ledger_entries order by seq")
    publish_price(runtime)
    done = reprice(runtime)
    assert (done.corrected, done.corrected_pico, done.rate_version) == (3, 7 * (1 + 2 + 3), "new")
    assert [(one.model, one.requests) for one in done.still_unpriced] == [("never-heard-of", 1)]
    assert query(runtime, "select * from ledger_entries where seq <= 5 order by seq") == entries
    corrections = query(
        runtime,
        "select seq, kind, request_id, cost_pico, status, rate_version, refers_to_seq, line_amount_pico,"
        " time = '2026-10-15T12:00Z'"
        " from ledger_entries where seq > 5 order by seq",
    )
    assert corrections == [(5 + n, "correction", f"r{n}", 7 * n, "final", "new", n, [7 * n], True) for n in range(1, 4)]
    assert query(runtime, "select last_seq from org_heads") == [(8,)]


def test_a_correction_is_an_entry_like_any_other_with_a_leaf_and_a_transfer(runtime: Runtime) -> None:
    sent = [raw_event("late", time="2026-10-20T00:00:00Z"), raw_event(model="newest", meters={"tokens_in": 5})]
    paid = sum(result.receipt.cost_pico or 0 for result in ingest_events(runtime, sent))
    publish_price(runtime)
    reprice(runtime)
    (row,) = query(runtime, f"select {', '.join(ENTRY_COLUMNS)} from ledger_entries where kind = 'correction'")
    entry = Entry(*row)
    assert entry.leaf == entry_leaf(entry)
    assert entry.time_max == parse_instant("2026-10-20T00:00:00Z") > entry.time
    assert query(runtime, "select first_seq, seq, amount_pico from transfers order by seq") == [
        (1, 2, paid),
        (3, 3, 35),
    ]
    assert set(query(runtime, "select debit_pico + credit_pico from account_balances")) == {(paid + 35,)}
    (next_one,) = ingest_events(runtime, [raw_event("after")])
    assert next_one.receipt.seq == 4


def test_repricing_again_corrects_nothing_twice(runtime: Runtime) -> None:
    ingest_events(runtime, [raw_event(model="newest", meters={"tokens_in": 5})])
    publish_price(runtime)
    assert reprice(runtime).corrected == 1
    assert reprice(runtime).corrected == 0
    (again,) = ingest_events(runtime, [raw_event(model="newest", meters={"tokens_in": 5})])
    assert (again.status, again.receipt.cost_status) == ("duplicate", "unpriced")


def test_a_cost_that_no_entry_can_hold_is_rejected_and_harms_no_other(runtime: Runtime) -> None:
    absurd = raw_event("absurd", model="gpt-4", meters={"tokens_out": 10**12})
    results = ingest_events(runtime, [raw_event("a"), absurd, raw_event("b")])
    assert [result.status for result in results] == ["accepted", "rejected", "accepted"]
    assert results[1].error.code == "cost_out_of_range"
    assert [result.receipt.seq for result in results] == [1, None, 2]
