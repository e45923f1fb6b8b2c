"""The accounts that transfers move amounts between.

Each has debits and credits that only ever grow. What a wallet has is its credits less its debits, and the database
refuses that it fall below nothing; the other accounts tell where it came from and went.
"""

from __future__ import annotations

from tallystick.ledger.operations import GrantSource

# ── what providers cost us ──────────────────────────────────────────────────────────────────────────────────────────

PROVIDER_USAGE_COST = "provider_usage_cost"
"""What an org's use of providers has cost us: debited by every priced entry."""
PROVIDER_PAYABLE = "provider_payable"
"""What we owe providers for it: credited by the same."""

USD = "USD"
"""The asset of both; amounts are integers of pico-USD (10**-12)."""

ORG_ACCOUNTS = (PROVIDER_USAGE_COST, PROVIDER_PAYABLE)
"""The accounts that every org has from its first entry on."""

# ── credits ─────────────────────────────────────────────────────────────────────────────────────────────────────────

WALLET_AVAILABLE = "wallet_available"
"""Credits that the org may spend: credited by grants and by what holds give back."""
WALLET_HELD = "wallet_held"
"""Credits that open holds have reserved."""
RECEIVABLE = "receivable"
"""Credits that the org pays us for in money: topped up, or charged beyond its wallet."""
REVENUE = "revenue"
"""Credits charged for work, without what was only rounding up."""
ROUNDING = "rounding"
"""What rounding up to whole credits has added to charges."""
EXPIRED = "expired"
"""Credits that came to their end unspent."""
INCLUDED_ALLOWANCE = "included_allowance"
"""Credits that plans include."""
PROMO_EXPENSE = "promo_expense"
"""Credits given to please: promotions and goodwill."""
SLA_EXPENSE = "sla_expense"
"""Credits given because a promised level of service was missed."""
DISPUTE_EXPENSE = "dispute_expense"
"""Credits given to settle disputes."""

CASH = "cash"
"""Money that came in for invoices, less what went back; of asset USD."""

CREDIT_ASSET = "CREDIT"
"""The asset of these; amounts are integers of pico-credits (10**-12)."""

CREDIT_ACCOUNTS = (
    WALLET_AVAILABLE, WALLET_HELD, RECEIVABLE, REVENUE, ROUNDING, EXPIRED, INCLUDED_ALLOWANCE, PROMO_EXPENSE,
    SLA_EXPENSE, DISPUTE_EXPENSE,
)  # fmt: skip
WALLET_ACCOUNTS = (WALLET_AVAILABLE, WALLET_HELD)
"""Those whose credits less debits are never below nothing."""

MONEY_ACCOUNTS = (CASH, RECEIVABLE, REVENUE, PROMO_EXPENSE, SLA_EXPENSE, DISPUTE_EXPENSE)
"""The accounts of invoices, of asset USD, which an org has once an invoice of it is issued: what is owed in money, what
was invoiced, and at whose expense some of it was taken back."""

GRANTED_FROM: dict[GrantSource, str] = {
    "top_up": RECEIVABLE,
    "included": INCLUDED_ALLOWANCE,
    "promo": PROMO_EXPENSE,
    "goodwill": PROMO_EXPENSE,
    "sla": SLA_EXPENSE,
    "dispute": DISPUTE_EXPENSE,
    "refund": EXPIRED,
}
"""Which account a grant of each source debits."""
