"""What somebody may try with invoices: rows that nobody looks at, texts of any kind, and times beyond all calendars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, VOID, billed_org, findings, money, note, payment
from conftest import NOW
from invoicing import apply, subscribe
from sealed_ledger import copied, copyable
from tallystick.api.app import create_app
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.invoice_due import finalize_due, finalize_due_of
from tallystick.app.invoice_life import finalize_month
from tallystick.app.invoices import list_invoices
from tallystick.app.parties import set_profile
from tallystick.app.replay import replay_invoice
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.core.errors import BadInput, NotFound, TallyError
from tallystick.core.instants import parse_instant

PROFILE = {"name": "Ann Globex", "author": "ann"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("delete from number_series where series = 'ACME-2026'", "ACME-2026"),
        ("update number_series set series = 'ACMF-2026' where series = 'ACME-2026'", "ACME-2026"),
        ("update invoice_accounts set bill_to = null", "billing profile"),
        ("update invoice_accounts set bill_to = 2", "billing profile"),
        ("delete from billing_profiles where version = 2", "register"),
        ("delete from billing_profiles where version = 1", "register"),
        ("update test_clocks set at = at + interval '1 day'", "register"),
        ("delete from test_clocks", "register"),
        ("insert into test_clocks values ('globex', 1, now(), 'x', now())", "register"),
        ("insert into billing_profile_erasures values ('globex', 2, now())", "register"),
        (
            "insert into billing_profile_texts select org_id, 7, salt, profile from billing_profile_texts limit 1",
            "version 7",
        ),
        (
            "insert into invoice_accounts select 'ghost', invoice_id, seq, 'X-2026-000001', period, digest, issued_at, "
            "due_at, total_cents, paid_cents, credited_cents, voided, is_test, line_credits, "
            "applied, applied_cents, carried, carried_cents, bill_to from invoice_accounts limit 1",
            "ghost",
        ),
        ("insert into invoice_events values ('globex', 99, 'inv_x', 'payment', now(), 5, null, 'x')", "invoice_events"),
        ("insert into invoice_events values ('ghost', 99, 'inv_x', 'payment', now(), 5, null, 'x')", "ghost"),
        (
            "insert into account_balances (org_id, account, asset, debit_pico, credit_pico) "
            "values ('ghost', 'receivable', 'USD', 7, 0)", "ghost",
        ),
        (
            "insert into transfers (org_id, seq, first_seq, debit_account, credit_account, asset, amount_pico, "
            "recorded_at) values ('ghost', 1, 1, 'cash', 'receivable', 'USD', 7, now())", "ghost",
        ),
    ],
)  # fmt: skip
def test_rows_that_the_owner_writes_are_found(
    server_url: str, written: tuple[str, Path], tmp_path: Path, change: str, found: str
) -> None:
    with copied(server_url, *written, tmp_path / "data") as ledger:
        with psycopg.connect(ledger.database.url) as connection:
            tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
            for (table,) in tables:
                connection.execute(f"alter table {table} disable trigger all".encode())
            assert connection.execute(change.encode()).rowcount >= 1
        told = findings(ledger)
        assert any(found in sentence for sentence in told), told


@pytest.fixture(scope="module")
def written(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A sound ledger with an invoice paid in part, a profile that was changed, and a test org."""

    def fill(runtime: Runtime) -> None:
        apply(runtime, SELLER)
        subscribe(runtime, "globex")
        set_profile(runtime, "globex", PROFILE)
        (life,) = billed_org(runtime)
        set_profile(runtime, "globex", {**PROFILE, "name": "Moved"})
        make_test_org(runtime, "sandbox", datetime(2026, 10, 1, tzinfo=UTC), author="ann")
        record_payment(runtime, life.invoice_id, payment("p1", "3"))
        assert findings(runtime) == []

    folder = tmp_path_factory.mktemp("written")
    with copyable(server_url, folder, NOW, fill) as name:
        yield name, folder


AMOUNTS: list[Any] = [
    "0", "-1", "1e3", "0.001", "1" + "0" * 30, 5, 5.5, None, "", " 5", "5 ", "٥", "1_000", "NaN", "0x10", "1" * 5000,
    True, [], {},
]  # fmt: skip
BAD: list[tuple[str, dict[str, Any]]] = [
    *[("pay", {"amount_usd": each}) for each in AMOUNTS],
    *[("pay", {"currency": each}) for each in ("EUR", "usd", 5, "", [])],
    *[("pay", {"provider": each}) for each in ("", "   ", "a:b", 5, "x" * 600, "a\x00b", "a\nb")],
    *[("pay", {"request_id": each}) for each in ("", None, 5, "x" * 513, "a\x00", "\ud800")],
    *[("pay", {"returned": each}) for each in ("yes", 1)],
    *[("pay", {"author": each}) for each in ("", None, "x" * 10**6)],
    *[("pay", {"reference": each}) for each in (5, "x" * 10**6)],
    *[("pay", {"nonsense": 1})],
    *[("note", {"account": each}) for each in ("cash", "receivable", "", 5, [])],
    *[("note", {"line": each}) for each in (0, -1, 99, "1", 1.0, True, 10**30)],
    *[("note", {"reason": each}) for each in ("", None, "x" * 10**6, "\x00")],
    *[("note", {"amount_usd": each}) for each in ("10.01", "0", "-0.01", "0.005")],
    *[("void", {"reason": each}) for each in ("x" * 10**6, None, "")],
    *[("void", {"request_id": each}) for each in ("", "x" * 513)],
]  # fmt: skip


def test_what_makes_no_sense_is_refused_and_moves_nothing(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    ways = {
        "pay": (record_payment, payment("p", "1")),
        "note": (credit_invoice, note("n", "1")),
        "void": (void_invoice, dict(VOID)),
    }
    for way, changed in BAD:
        do, said = ways[way]
        with pytest.raises(TallyError):
            do(runtime, life.invoice_id, {**said, **changed})
    assert money(runtime) == {"receivable": 1000, "revenue": -1000}
    assert findings(runtime) == []


@pytest.mark.parametrize("start", ["9999-12-31T23:59:59Z", "9000-01-01T00:00:01Z", "1999-12-31T00:00:00Z"])
def test_no_clock_stands_beyond_all_calendars(runtime: Runtime, start: str) -> None:
    with pytest.raises(BadInput) as refused:
        make_test_org(runtime, "sandbox", parse_instant(start), author="ann")
    assert refused.value.code == "invalid_time"


@pytest.mark.parametrize("by", ["9999y", "9999mo", "9999w", "9999h", "1h"])
def test_no_clock_goes_beyond_all_calendars(runtime: Runtime, by: str) -> None:
    last = parse_instant("9000-01-01T00:00:00Z")
    apply(runtime, SELLER)
    make_test_org(runtime, "sandbox", last, author="ann")
    subscribe(runtime, "sandbox", effective_from=last)
    with pytest.raises(BadInput) as refused:
        advance_clock(runtime, "sandbox", by=by, author="ann")
    assert refused.value.code == "invalid_advance"
    assert advance_clock(runtime, "sandbox", to=last, author="ann").at == last


@pytest.fixture(scope="module")
def client(module_runtime: Runtime) -> Iterator[TestClient]:
    """An org was billed."""
    billed_org(module_runtime)
    with TestClient(create_app(module_runtime), raise_server_exceptions=False) as opened:
        yield opened


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "0000-01", "10000-01", "now", "2026-10' or 1=1", ""])
def test_what_is_no_month_is_said_and_no_empty_list(client: TestClient, month: str) -> None:
    for answer in (
        client.get("/v1/billing/invoices", params={"month": month}),
        client.get("/v1/billing/invoices", params={"month": month, "state": "draft"}),
        client.post("/v1/billing/finalize", json={"month": month}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_month")


@pytest.mark.parametrize("org_id", ["", "a\x00", "x" * 600, "\ud800"])
def test_what_can_be_no_org_is_refused_and_not_passed_over(client: TestClient, org_id: str) -> None:
    body = json.dumps({"orgs": [org_id]}).encode()
    for sent in (body, json.dumps({"orgs": [org_id], "month": OCTOBER}).encode()):
        answer = client.post("/v1/billing/finalize", content=sent, headers={"content-type": "application/json"})
        assert answer.status_code in (207, 400, 422), answer.text  # 207: of a month, each org says why


def test_an_org_that_is_not_there_has_nothing_to_finalize(runtime: Runtime) -> None:
    billed_org(runtime)
    (failed,) = finalize_month(runtime, OCTOBER, ["ghost"])
    assert failed.error is not None
    assert failed.error.code == "unknown_org"
    assert finalize_due(runtime, "ghost") == []
    runtime.clock = lambda: datetime(2026, 12, 3, tzinfo=UTC)  # globex's November is due
    with pytest.raises(NotFound, match="there is no org 'ghost'"):
        finalize_due_of(runtime, ["globex", "ghost"])
    assert [row.period for row in list_invoices(runtime)] == [OCTOBER]  # nothing was done for the other one
    done = finalize_due_of(runtime, ["globex", "globex"])
    # Months before one that is closed already are closed all the same, the oldest first, and are what they come to.
    assert [one.period for one in done] == [f"2026-{month:02}" for month in range(1, 12) if month != 10]
    assert replay_invoice(runtime, "globex/2026-09").identical
    assert replay_invoice(runtime, "globex/2026-10").identical
    assert findings(runtime) == []
