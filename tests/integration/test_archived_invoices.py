"""An invoice outlives its entries' stay in the database: it is replayed and exported from blocks to the same result."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from invoicing import CONTRACT, apply, event, record, subscribe
from journal_helpers import append_in_the_past, query, tamper
from tallystick.app.close_month import close_month, orgs_to_close, preview_invoice
from tallystick.app.erase import erase_person
from tallystick.app.export import export_invoice
from tallystick.app.invoices import requests_behind, show_invoice
from tallystick.app.orgs import leave_org
from tallystick.app.replay import replay_invoice
from tallystick.app.reprice import reprice
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once

# Long enough ago that the database's own clock lets the entries go.
MARCH = datetime(2025, 3, 1, tzinfo=UTC)
CLOSED = datetime(2025, 4, 2, tzinfo=UTC)
INVOICE = "globex/2025-03"


def at(runtime: Runtime, moment: datetime, **settings: object) -> Runtime:
    """The same Tallystick as of a moment."""
    return replace(runtime, clock=lambda: moment, settings=runtime.settings.model_copy(update=settings))


@pytest.fixture
def closed(runtime: Runtime) -> Runtime:
    """March is closed: five requests before it, forty in it (three of them corrected), and later ones."""
    then = at(runtime, CLOSED)
    apply(then, CONTRACT.replace("2026-01-01", "2025-01-01"))
    subscribe(then, "globex", effective_from=MARCH)
    record(then, [event(f"feb-{n}", time=MARCH - timedelta(hours=9 - n)) for n in range(5)])
    for n in range(37):
        record(then, [event(f"r{n}", time=MARCH + timedelta(hours=19 * n), user_id=f"user-{n % 3}")])
    unknown = [event(f"u{n}", time=MARCH, model="gpt-4o-audio-preview") for n in range(3)]
    append_in_the_past(then, unknown)
    record(then, [event("april-1", time=MARCH + timedelta(days=31, hours=1))])
    reprice(then)
    (result,) = close_month(then, "2025-03")
    assert result.status == "closed", result.error
    record(then, [event("late", time=MARCH + timedelta(days=3)), event("april-2", time=MARCH + timedelta(days=32))])
    return then


def leave(runtime: Runtime) -> Runtime:
    """Seal everything in small blocks, and let go what may go."""
    seal_once(at(runtime, CLOSED, block_entries_max=20), everything=True)
    later = at(runtime, CLOSED + timedelta(days=60), retention_days=45)
    assert run_retention(later).entries > 0
    return later


def csv_of(runtime: Runtime) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(export_invoice(runtime, INVOICE)), newline="")))


def test_replay_and_exports_say_the_same_once_the_entries_have_left(closed: Runtime) -> None:
    before = (csv_of(closed), list(requests_behind(closed, INVOICE, 2)), replay_invoice(closed, INVOICE).as_dict())
    shown = show_invoice(closed, INVOICE)
    assert [one.request_id for one in shown.late] == ["late"]
    assert before[2]["identical"], before[2]["differences"]
    assert before[2]["events"] == 40
    assert sum(row["correction_seq"] != "" for row in before[0]) == 3

    later = leave(closed)
    assert query(later, "select count(*) from ledger_entries where org_id = 'globex'") == [(0,)]
    after = (csv_of(later), list(requests_behind(later, INVOICE, 2)), replay_invoice(later, INVOICE).as_dict())
    assert after[2] == before[2]
    assert after[0] == before[0]
    assert [fact.entry.seq for fact in after[1]] == [fact.entry.seq for fact in before[1]]
    assert len(list(requests_behind(later, INVOICE, 2, limit=7))) == 7
    assert show_invoice(later, INVOICE) == shown


def test_an_invoice_whose_entries_have_left_in_part_is_read_from_both(closed: Runtime) -> None:
    seal_once(at(closed, CLOSED, block_entries_max=20), everything=False)
    before = csv_of(closed)
    first = at(closed, CLOSED, block_entries_max=20)
    seal_once(first, everything=True)
    # What is recorded later is of the next seal, and stays.
    record(at(closed, CLOSED + timedelta(days=59)), [event("may", time=CLOSED + timedelta(days=59))])
    later = at(closed, CLOSED + timedelta(days=60), retention_days=45)
    run_retention(later)
    assert query(later, "select count(*) from ledger_entries where org_id = 'globex'") == [(1,)]
    assert csv_of(later) == before
    assert replay_invoice(later, INVOICE).identical


def test_an_erasure_after_the_entries_left_is_told_and_hinders_no_replay(closed: Runtime) -> None:
    later = leave(closed)
    erase_person(later, "globex", "user-1")
    report = replay_invoice(later, INVOICE)
    assert report.identical, report.differences
    # user-1 of user-0, user-1 and user-2 in turn, and the one of the three that were unpriced at first.
    assert report.erased == 12 + 3


def test_a_month_whose_entries_may_have_left_is_not_closed(closed: Runtime) -> None:
    later = leave(closed)
    (result,) = close_month(later, "2025-04")
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "period_archived"


def test_a_month_after_all_that_left_is_closed(closed: Runtime) -> None:
    later = leave(closed)
    record(later, [event("may", time=CLOSED + timedelta(days=45))])
    (result,) = close_month(later, "2025-05", before_late_window=True)
    assert result.invoice is not None, result.error
    ledger = result.invoice.ledger
    assert (ledger.events, ledger.first_seq, ledger.tree_size) == (1, ledger.through_seq, ledger.through_seq)
    assert replay_invoice(later, "globex/2025-05").identical


def test_what_came_late_and_has_left_with_its_month_is_adjusted_from_blocks(closed: Runtime) -> None:
    preview = preview_invoice(closed, "globex", "2025-05")  # while all of it is in the database
    (there,) = preview.adjustments
    assert (there.period.label, there.ledger.events) == ("2025-03", 1)
    later = leave(closed)
    (result,) = close_month(later, "2025-05", before_late_window=True)
    assert result.invoice is not None, result.error
    assert result.invoice.adjustments == preview.adjustments
    assert result.invoice.lines == preview.lines
    assert [line.kind for line in result.invoice.lines].count("adjustment") == 2
    line = result.invoice.lines[-1]
    behind = requests_behind(later, "globex/2025-05", line.number)
    assert [fact.entry.request_id for fact in behind] == ["late"]
    rows = csv.DictReader(io.StringIO("".join(export_invoice(later, "globex/2025-05")), newline=""))
    assert [(row["month"], row["request_id"]) for row in rows] == [("2025-03", "late")]
    assert replay_invoice(later, "globex/2025-05").identical
    shown = show_invoice(later, INVOICE)
    assert [one.billed_on for one in shown.late] == [result.invoice.invoice_id]


def test_an_org_that_has_left_is_billed_for_what_came_late_and_has_left_the_database(closed: Runtime) -> None:
    leave_org(closed, "globex", at=MARCH + timedelta(days=31))
    later = leave(closed)
    assert orgs_to_close(later, "2025-06") == ["globex"]
    (result,) = close_month(later, "2025-06", before_late_window=True, orgs=["globex"])
    assert result.error is not None  # it is not over yet
    july = at(later, datetime(2025, 7, 5, tzinfo=UTC))
    (result,) = close_month(july, "2025-06")
    assert result.invoice is not None, result.error
    assert {one.period.label for one in result.invoice.adjustments} == {"2025-03"}
    assert replay_invoice(july, "globex/2025-06").identical
    record(july, [event("on-time", time=datetime(2025, 7, 4, tzinfo=UTC), org_id="other")])
    assert "globex" not in orgs_to_close(july, "2025-07")


def test_an_entry_that_is_in_no_block_and_no_table_is_missed(closed: Runtime, database_url: str) -> None:
    later = leave(closed)
    tamper(database_url, "delete from block_orgs where first_seq = 21")
    report = replay_invoice(later, INVOICE)
    assert not report.identical
    assert any(one.field == "ledger" and one.where.startswith("entry ") for one in report.differences)
