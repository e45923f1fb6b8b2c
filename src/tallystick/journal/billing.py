"""Issued invoices and billing profiles as the database holds them, read for one org or for all."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from tallystick.billing.model import InvoiceAccount, InvoiceEvent
from tallystick.journal.database import Connection
from tallystick.journal.invoice_group import account_of
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("billing")


class IssuedInvoice(NamedTuple):
    """An issued invoice, and whose it is."""

    org_id: str
    account: InvoiceAccount


class ProfileRow(NamedTuple):
    """A version of a billing profile; `salt` and `profile` (canonical JSON) are None once it is erased."""

    version: int
    sha256: bytes
    author: str
    request_id: str | None
    recorded_at: datetime
    salt: bytes | None
    profile: str | None


def list_issued(
    connection: Connection,
    org_id: str | None = None,
    *,
    period: str | None = None,
    invoice_id: str | None = None,
    number: str | None = None,
) -> list[IssuedInvoice]:
    """Issued invoices, those first that were issued last."""
    values = {"org": org_id, "period": period, "invoice": invoice_id, "number": number}
    return [IssuedInvoice(row[0], account_of(row[1:])) for row in connection.execute(_SQL["list_accounts"], values)]


def list_due(connection: Connection, org_id: str | None = None, *, tests: bool = False) -> list[IssuedInvoice]:
    """What is still to be paid, what is due first coming first; of test orgs only with `tests`."""
    rows = connection.execute(_SQL["list_due"], {"org": org_id, "tests": tests})
    return [IssuedInvoice(row[0], account_of(row[1:])) for row in rows]


def invoice_events(connection: Connection, org_id: str, invoice_id: str) -> list[InvoiceEvent]:
    """What has happened to an issued invoice, in order."""
    rows = connection.execute(_SQL["events_of"], {"org": org_id, "invoice": invoice_id})
    return [InvoiceEvent(*row) for row in rows]


def bill_to_of(connection: Connection, org_id: str, invoice_id: str) -> int | None:
    """The version of the billing profile that an issued invoice names."""
    row = connection.execute(_SQL["bill_to_of"], {"org": org_id, "invoice": invoice_id}).fetchone()
    return None if row is None else row[0]


def bill_to_names(connection: Connection, org_id: str | None = None) -> dict[tuple[str, str], str]:
    """By org and invoice, the name of who is billed."""
    rows = connection.execute(_SQL["bill_to_names"], {"org": org_id})
    return {(org, invoice_id): name for org, invoice_id, name in rows}


def lock_profiles(connection: Connection, org_id: str) -> None:
    """Keep others from adding profiles of the org until this transaction ends."""
    connection.execute(_SQL["lock_profiles"], {"org": org_id})


def list_profiles(connection: Connection, org_id: str) -> list[ProfileRow]:
    """Every version of the org's profile, the first one first."""
    return [ProfileRow(*row) for row in connection.execute(_SQL["profiles"], {"org": org_id})]


def add_profile(connection: Connection, org_id: str, row: ProfileRow) -> None:
    """Append a version; they are locked."""
    values = {**row._asdict(), "org": org_id}
    connection.execute(_SQL["add_profile"], values)
    connection.execute(_SQL["add_profile_text"], values)


def erase_profiles(connection: Connection, org_id: str, person: str | None, at: datetime) -> list[int]:
    """Erase what profiles say, of one person or all, but for those that issued invoices name: which versions. An
    operator's transaction.
    """
    (row,) = connection.execute(_SQL["erase_profiles"], {"org": org_id, "person": person, "at": at}).fetchall()
    return list(row[0])
