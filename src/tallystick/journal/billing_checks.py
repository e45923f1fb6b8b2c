"""What a check of invoices reads besides their accounts: transfers and balances of money, numbers, profiles. An
operator's transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.billing.model import InvoiceEvent
from tallystick.journal.account_rows import CreditTransfer
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.accounts import MONEY_ACCOUNTS

_SQL = load_queries("billing")
_ACCOUNTS = list(MONEY_ACCOUNTS)


class ProfiledOrg(NamedTuple):
    """An org with billing profiles, and which versions are what.

    Attributes:
        erased: their text was erased.
        unsaid: there is a text of them, and no record that it was said.
        named: issued invoices name them.
    """

    org_id: str
    erased: frozenset[int]
    unsaid: frozenset[int]
    named: frozenset[int]


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


def all_invoice_events(connection: Connection, org_id: str) -> list[InvoiceEvent]:
    """What has happened to all of the org's issued invoices, in order."""
    return [InvoiceEvent(*row) for row in connection.execute(_SQL["events_of_org"], {"org": org_id})]


def orgs_with_invoices(connection: Connection, org_id: str | None) -> list[str]:
    """Orgs of which issued invoices are kept."""
    return [org for (org,) in connection.execute(_SQL["orgs_with_invoices"], {"org": org_id})]


def billed_to(connection: Connection, org_id: str) -> dict[str, int | None]:
    """By issued invoice of the org, the version of the billing profile that it names."""
    return dict(connection.execute(_SQL["billed_to"], {"org": org_id}).fetchall())


def numbers_given(connection: Connection) -> list[tuple[str, int, int, int]]:
    """Series of numbers: how many places were given in each, how many documents bear one, and the last one borne."""
    return connection.execute(_SQL["numbers_given"]).fetchall()


def orgs_with_profiles(connection: Connection, org_id: str | None) -> list[ProfiledOrg]:
    """Orgs that have billing profiles."""
    rows = connection.execute(_SQL["orgs_with_profiles"], {"org": org_id})
    return [ProfiledOrg(org, *map(frozenset, versions)) for org, *versions in rows]
