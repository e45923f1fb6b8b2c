"""The books as hledger's journal: all that was moved, and to the last pico what the accounts have."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from accounts import call, end, give, hold
from billing import VOID, billed_org, note, payment
from hledger_reader import read_journal
from journal_helpers import count, query, tamper
from leaving import let_go, open_shop_in_2025
from tallystick.app.hledger import export_books
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.billing.books import org_prefix
from tallystick.core.errors import BadInput, NotFound

HOSTILE = "a:b  c;(é)%"
NEEDED = pytest.mark.skipif(
    shutil.which("hledger") is None, reason="hledger is not installed here; the journal is read without it, too"
)


def hledger(text: str, path: Path, *arguments: str) -> str:
    """What hledger says of a journal."""
    path.write_text(text)
    done = subprocess.run(
        ["hledger", *arguments, "-f", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def books(runtime: Runtime, org_id: str | None = None, **more: object) -> str:
    return "".join(export_books(runtime, org_id, **more))  # type: ignore[arg-type]


def kept(runtime: Runtime, *tests: str) -> dict[tuple[str, str], int]:
    """What the accounts have, as it is kept: those that have anything."""
    rows = query(runtime, "select org_id, account, asset, (debit_pico - credit_pico)::text from account_balances")
    found = {(f"{org_prefix(org, is_test=org in tests)}:{name}", asset): int(pico) for org, name, asset, pico in rows}
    return nonzero(found)


def nonzero(balances: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    return {key: pico for key, pico in balances.items() if pico}


def a_month(runtime: Runtime) -> None:
    """Two orgs with invoices, and what becomes of them."""
    billed_org(runtime, "globex", HOSTILE)
    record_payment(runtime, "globex/2026-10", payment("p1", "4.50"))
    record_payment(runtime, "globex/2026-10", payment("p2", "0.50", returned=True))
    credit_invoice(runtime, "globex/2026-10", note("n1", "1.25"))
    void_invoice(runtime, f"{HOSTILE}/2026-10", VOID)


def test_the_journal_has_what_the_accounts_have(runtime: Runtime) -> None:
    a_month(runtime)
    text = books(runtime)
    balances, kinds = read_journal(text)
    assert nonzero(balances) == kept(runtime)
    assert balances["org:globex:cash", "USD"] == 4 * 10**12
    each = ["closing", "invoice", "usage"]
    assert sorted(kinds) == sorted([*each, "payment", "payment", "credit_note", *each, "void"])
    assert f"\n    {org_prefix(HOSTILE, is_test=False)}:receivable  " in text
    assert "a%3Ab" not in books(runtime, "globex")
    with pytest.raises(NotFound, match="nobody"):
        books(runtime, "nobody")


@NEEDED
def test_hledger_takes_the_journal_and_reads_the_same(runtime: Runtime, tmp_path: Path) -> None:
    a_month(runtime)
    path = tmp_path / "books.journal"
    hledger(books(runtime), path, "check", "-s")
    said = hledger(books(runtime), path, "balance", "--flat", "-O", "csv", "cash", "receivable")
    assert '"org:globex:cash","4.000000000000 USD"' in said
    assert '"org:globex:receivable","4.750000000000 USD"' in said
    assert '"total","8.750000000000 USD"' in said


def test_entries_that_have_left_the_database_are_in_the_books(runtime: Runtime, tmp_path: Path) -> None:
    then = datetime(2025, 3, 1, 12, tzinfo=UTC)
    runtime.clock = lambda: then
    open_shop_in_2025(runtime, acme="wallet")
    give(runtime, "100.000000000001")
    held = hold(runtime)
    end(runtime, held["hold"]["hold_id"], events=[call(time="2025-03-01T11:59:00Z")])
    hold(runtime, "a2")
    before = books(runtime)
    let_go(runtime, then)
    assert count(runtime, "ledger_entries") < 4
    assert books(runtime) == before
    balances, kinds = read_journal(before)
    assert [kind for kind in kinds if kind not in ("usage", "closing")] == ["grant", "hold", "settlement", "hold"]
    assert nonzero(balances) == kept(runtime)
    assert balances["org:acme:wallet_available", "CREDIT"] == -90_000_000_000_001
    if shutil.which("hledger"):
        hledger(before, tmp_path / "books.journal", "check", "-s")


def test_days_begin_with_what_was_there_before(runtime: Runtime, tmp_path: Path) -> None:
    a_month(runtime)
    first = runtime.clock()
    later = first + timedelta(days=3)
    runtime.clock = lambda: later
    record_payment(runtime, "globex/2026-10", payment("p3", "1.00"))
    early, late = books(runtime, last=first.date()), books(runtime, first=later.date(), last=later.date())
    assert read_journal(late)[1] == ["opening", "closing", "opening", "payment", "closing"]
    balances = {key: pico for key, pico in read_journal(late)[0].items() if "opening" not in key[0]}
    assert nonzero(balances) == kept(runtime)
    assert read_journal(early)[0]["org:globex:cash", "USD"] == 4 * 10**12
    if shutil.which("hledger"):
        for text in (early, late):
            hledger(text, tmp_path / "books.journal", "check", "-s")
    assert read_journal(books(runtime, last=date(2020, 1, 1))) == ({}, [])
    with pytest.raises(BadInput, match="2026-01-01 is before 2026-02-01"):
        books(runtime, first=date(2026, 2, 1), last=date(2026, 1, 1))


def test_orgs_with_clocks_of_their_own_are_apart(runtime: Runtime) -> None:
    billed_org(runtime)
    make_test_org(runtime, "sandbox", datetime(2026, 10, 1, tzinfo=UTC), author="ann")
    give(runtime, "7", "sandbox")
    advance_clock(runtime, "sandbox", by="1d", author="ann")
    assert "sandbox" not in books(runtime)
    for text in (books(runtime, tests=True), books(runtime, "sandbox")):
        assert read_journal(text)[0]["test:sandbox:wallet_available", "CREDIT"] == -7 * 10**12
    assert nonzero(read_journal(books(runtime, tests=True))[0]) == kept(runtime, "sandbox")


def test_a_balance_that_was_changed_by_hand_is_not_taken(runtime: Runtime, database_url: str, tmp_path: Path) -> None:
    billed_org(runtime)
    tamper(
        database_url,
        "update account_balances set debit_pico = debit_pico + 1 where account = 'receivable' and asset = 'USD'",
    )
    text = books(runtime)
    with pytest.raises(AssertionError, match="receivable"):
        read_journal(text)
    if shutil.which("hledger"):
        with pytest.raises(AssertionError, match="balance assertion"):
            hledger(text, tmp_path / "books.journal", "check")
