"""The books as hledger's journal: all that was moved, and to the last pico what the accounts have."""

from __future__ import annotations

import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from billing import VOID, billed_org, note, payment
from hledger_reader import read_journal
from journal_helpers import query
from tallystick.app.hledger import export_books
from tallystick.app.invoice_actions import credit_invoice, record_payment
from tallystick.app.runtime import Runtime
from tallystick.billing.books import org_prefix

def hledger(text: str, path: Path, *arguments: str) -> str:
    """What hledger says of a journal."""
    found = shutil.which("hledger")
    if found is None:
        pytest.skip("hledger is not installed here; the journal was read without it")
    path.write_text(text)
    done = subprocess.run([found, *arguments, "-f", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(runtime: Runtime) -> dict[tuple[str, str], int]:
    rows = query(runtime, "select org_id, account, asset, debit_pico - credit_pico from account_balances")
    return {(f"{org_prefix(org, is_test=False)}:{account}", asset): int(pico) for org, account, asset, pico in rows}


def nonzero(balances: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    return {key: pico for key, pico in balances.items() if pico}


def test_the_journal_has_what_the_accounts_have(runtime: Runtime, tmp_path: Path) -> None:
    billed_org(runtime, "globex", "a:b  c;(é)")
    record_payment(runtime, "ACME-2026-000001", payment("p1", "4.50"))
    record_payment(runtime, "ACME-2026-000001", payment("p2", "0.50", returned=True))
    credit_invoice(runtime, "ACME-2026-000001", note("n1", "1.25"))
    text = "".join(export_books(runtime))
    balances, kinds = read_journal(text)
    assert nonzero(balances) == nonzero(kept(runtime))
    assert sorted(kinds) == ["closing"] * 2 + ["credit_note", "invoice", "invoice", "payment", "payment", "usage", "usage"]
    only = "".join(export_books(runtime, "globex"))
    assert "a%3Ab" not in only and "a%3Ab%20%20c%3B%28%C3%A9%29" in text
    hledger(text, tmp_path / "books.journal", "check", "-s")
    said = hledger(text, tmp_path / "books.journal", "balance", "--flat", "-O", "csv")
    assert '"org:globex:cash","4.000000000000 USD"' in said
