"""What a check of invoices reads besides their accounts: transfers and balances of money, numbers, profiles. An
operator's transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.journal.account_rows import CreditTransfer
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.accounts import MONEY_ACCOUNTS

_SQL = load_queries("billing")
_ACCOUNTS = list(MONEY_ACCOUNTS)


class ProfiledOrg(NamedTuple):
    """An org with billing profiles; `erased` are the versions whose text was erased."""

    org_id: str
    erased: frozenset[int]


def money_transfers(connection: Connection, org_id: str) -> list[CreditTransfer]:
    """The org's transfers of money for its invoices, in order; amounts are pico-USD."""
    rows = connection.execute(_SQL["money_transfers"], {"org": org_id, "accounts": _ACCOUNTS})
    return [
        CreditTransfer(seq, first_seq, debit, credit, int(amount), at)
        for seq, first_seq, debit, credit, amount, at in rows
    ]


def money_balances(connection: Connection, org_id: str) -> dict[str, tuple[int, int]]:
    """By account, what was debited and credited to it, in pico-USD."""
    rows = connection.execute(_SQL["money_balances"], {"org": org_id, "accounts": _ACCOUNTS})
    return {account: (int(debit), int(credit)) for account, debit, credit in rows}


def stored_invoices(connection: Connection, org_id: str) -> dict[str, tuple[str, int, str]]:
    """By invoice, the digest, the total in cents and the month of what is stored."""
    rows = connection.execute(_SQL["stored_invoices"], {"org": org_id})
    return {invoice_id: (digest, total_cents, period) for invoice_id, digest, total_cents, period in rows}


def numbers_given(connection: Connection) -> list[tuple[str, int, int]]:
    """Series of numbers, how many places were given in each, and how many documents bear one."""
    return connection.execute(_SQL["numbers_given"]).fetchall()


def orgs_with_profiles(connection: Connection, org_id: str | None) -> list[ProfiledOrg]:
    """Orgs that have billing profiles."""
    rows = connection.execute(_SQL["orgs_with_profiles"], {"org": org_id})
    return [ProfiledOrg(org, frozenset(erased)) for org, erased in rows]
