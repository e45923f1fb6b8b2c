"""The books after a year, in a form that can be compared: nothing in it depends on the order in which things came."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from typing import Any

from account_operations import wrongs
from hledger_reader import read_journal
from tallystick.app.hledger import export_books
from tallystick.app.replay import replay_invoice
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.billing.books import org_prefix
from tallystick.invoice.model import parse_invoice

CENT_PICO = 10**10
Books = dict[str, Any]


def books_of(runtime: Runtime) -> Books:
    """Balances, invoices line by line and what became of them, and what is left of grants: by org."""
    return {
        "balances": _grouped(
            runtime, "select org_id, account, asset, debit_pico, credit_pico from account_balances order by 1, 2, 3"
        ),
        "invoices": _grouped(
            runtime,
            "select org_id, period, total_cents, paid_cents, credited_cents, applied_cents, carried_cents, voided "
            "from invoice_accounts order by 1, 2",
        ),
        "lines": _lines(runtime),
        "wallets": _grouped(
            runtime,
            "select org_id, source, expires_at::text, amount_pico, available_pico from grants order by 1, 2, 3, 4, 5",
        ),
        "disputes": _grouped(
            runtime,
            "select org_id, request_id, what, state, disputed_cents, upheld_cents from disputes order by 1, 2",
        ),
        "credits": _grouped(
            runtime,
            "select org_id, source, code, amount_cents, left_cents, invoices_left "
            "from invoice_credit_lots order by 1, seq",
        ),
        "numbers": sorted(
            row[0] for row in _rows(runtime, "select number from invoice_events where number is not null")
        ),
    }


def faults(runtime: Runtime, *, replayed: int) -> list[str]:
    """What does not add up: what `tally verify` finds, balances against transfers, replays, what is due.

    Args:
        replayed: how many invoices are replayed.
    """
    found = [one.sentence() for one in verify_ledger(runtime, processes=1).findings.kept]
    found += wrongs(runtime)
    stored = [row[0] for row in _rows(runtime, "select invoice_id from invoices order by digest")]
    for invoice_id in stored[:replayed]:
        report = replay_invoice(runtime, invoice_id)
        found += [f"{invoice_id}: {one}" for one in report.differences]
    found += [f"due of {row}" for row in _rows(runtime, _DUE)]
    return found + _other_books(runtime)


def _other_books(runtime: Runtime) -> list[str]:
    """What a journal of all that was moved comes to, read without the product, and by hledger where it is installed."""
    journal = "".join(export_books(runtime))
    balances, _ = read_journal(journal)
    rows = _rows(runtime, "select org_id, account, asset, (debit_pico - credit_pico)::text from account_balances")
    kept = {(f"{org_prefix(org, is_test=False)}:{name}", asset): int(pico) for org, name, asset, pico in rows}
    found = [
        f"{key}: {balances.get(key, 0)} in the journal, {kept.get(key, 0)} in the accounts"
        for key in balances.keys() | kept.keys()
        if balances.get(key, 0) != kept.get(key, 0)
    ]
    if shutil.which("hledger") is not None:
        done = subprocess.run(
            ["hledger", "-f", "-", "check", "-s"], input=journal, capture_output=True, text=True, check=False
        )
        found += [f"hledger: {done.stderr[:500]}"] if done.returncode else []
    return found


_DUE = """
    select org_id, sum(total_cents - paid_cents - credited_cents - applied_cents), max(balance)
    from invoice_accounts join (
        select org_id, (debit_pico - credit_pico) / 10000000000 as balance from account_balances
        where account = 'receivable' and asset = 'USD'
    ) as balances using (org_id)
    group by org_id having sum(total_cents - paid_cents - credited_cents - applied_cents) <> max(balance)
"""
"""Receivables are invoices less credits less payments, org by org."""


def _lines(runtime: Runtime) -> dict[str, list[Any]]:
    """Every line of every invoice, without the places in the ledger."""
    lines: dict[str, list[Any]] = defaultdict(list)
    for org_id, document in _rows(runtime, "select org_id, document from invoices order by org_id, period"):
        invoice = parse_invoice(document)
        for line in invoice.lines:
            said = (invoice.period.label, invoice.month_of(line), line.kind, line.meter, str(line.quantity))
            lines[org_id].append((*said, line.amount_usd, line.exact_usd))
    return dict(lines)


def _grouped(runtime: Runtime, sql: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for org_id, *row in _rows(runtime, sql):
        found[org_id].append([str(value) for value in row])
    return dict(found)


def _rows(runtime: Runtime, sql: str) -> list[tuple[Any, ...]]:
    with runtime.database.operator() as connection:
        return connection.execute(sql).fetchall()
