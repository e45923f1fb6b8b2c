"""Issued invoices and billing profiles as the database holds them, read for one org or for all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from tallystick.billing.model import InvoiceAccount, InvoiceEvent
from tallystick.journal.database import Connection
from tallystick.journal.invoice_group import account_of
from tallystick.journal.invoices import InvoiceRow
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


class NewestProfile(NamedTuple):
    """The version of an org's billing profile that a new invoice names, and its salted hash."""

    version: int
    sha256: bytes


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


def issued_of(connection: Connection, invoices: Collection[tuple[str, str]]) -> dict[str, InvoiceAccount]:
    """By id, those of these invoices, each given with its org, that are issued. An operator's transaction."""
    values = {"orgs": [org_id for org_id, _ in invoices], "invoices": [invoice_id for _, invoice_id in invoices]}
    accounts = [account_of(row[1:]) for row in connection.execute(_SQL["accounts"], values)]
    return {account.invoice_id: account for account in accounts}


def unissued_rows(connection: Connection, org_id: str | None = None) -> list[InvoiceRow]:
    """Closed months whose invoices have no number, of one org or of all, the oldest first."""
    return [InvoiceRow(*row) for row in connection.execute(_SQL["unissued"], {"org": org_id})]


def invoice_rows_of(connection: Connection, invoices: Collection[tuple[str, str]]) -> dict[str, InvoiceRow]:
    """By id, these closed months, each given with its org. An operator's transaction."""
    values = {"orgs": [org_id for org_id, _ in invoices], "invoices": [invoice_id for _, invoice_id in invoices]}
    rows = [InvoiceRow(*row) for row in connection.execute(_SQL["rows_of"], values)]
    return {row.invoice_id: row for row in rows}


def newest_profiles(connection: Connection, orgs: Collection[str]) -> dict[str, NewestProfile]:
    """By org, the newest version of its billing profile that is not erased. An operator's transaction."""
    rows = connection.execute(_SQL["newest_profiles"], {"orgs": list(orgs)})
    return {org_id: NewestProfile(version, sha256) for org_id, version, sha256 in rows}


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


def erase_profiles(
    connection: Connection, org_id: str, person: str | None, at: datetime, versions: Sequence[int] | None = None
) -> list[int]:
    """Erase what profiles say, of one person or all, of these versions or any, but for those that issued invoices name:
    which versions it was. An operator's transaction.
    """
    wanted = None if versions is None else list(versions)
    values = {"org": org_id, "person": person, "at": at, "versions": wanted}
    (row,) = connection.execute(_SQL["erase_profiles"], values).fetchall()
    return list(row[0])
