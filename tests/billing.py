"""What the tests of invoices' lives share: an org with a closed month, and what is done about it."""

from __future__ import annotations

from typing import Any

from invoicing import CONTRACT, apply, event, record, subscribe
from tallystick.app.invoice_life import InvoiceLife, finalize_month
from tallystick.app.runtime import Runtime
from tallystick.app.verify import OpenLedger, verify_ledger

OCTOBER = "2026-10"
SELLER = (
    CONTRACT
    + """
invoicing: {late_window: 24h, payment_terms: 14d}
seller:
  name: Acme Analytics Inc.
  address: [548 Market Street, San Francisco]
  number_prefix: ACME
"""
)


def billed_org(runtime: Runtime, *orgs: str, contract: str = SELLER) -> list[InvoiceLife]:
    """Orgs on a plan whose October is invoiced: 10 USD base fee each, and a little usage."""
    names = orgs or ("globex",)
    apply(runtime, contract)
    for org_id in names:
        subscribe(runtime, org_id)
        record(runtime, [event("r1", org_id)])
    lives = []
    for result in finalize_month(runtime, OCTOBER, names):
        assert result.life is not None, result.error
        lives.append(result.life)
    return lives


def payment(request_id: str, amount_usd: str, **more: Any) -> dict[str, Any]:
    """A payment as it is sent."""
    return {"request_id": request_id, "amount_usd": amount_usd, "author": "ann@seller.example", **more}


def note(request_id: str, amount_usd: str, **more: Any) -> dict[str, Any]:
    """A credit note as it is sent."""
    return {**payment(request_id, amount_usd), "reason": "agreed", **more}


VOID = {"author": "ann@seller.example", "reason": "billed twice"}


def findings(runtime: OpenLedger | Runtime) -> list[str]:
    """What `tally verify` finds."""
    return [one.sentence() for one in verify_ledger(runtime, processes=1).findings.kept]


def money(runtime: Runtime, org_id: str = "globex") -> dict[str, int]:
    """Balances in cents by account: debits less credits."""
    with runtime.database.operator() as connection:
        rows = connection.execute(
            "select account, debit_pico - credit_pico from account_balances where org_id = %s and asset = 'USD' "
            "and account not like 'provider%%'",
            [org_id],
        ).fetchall()
    return {account: int(balance) // 10**10 for account, balance in rows}
