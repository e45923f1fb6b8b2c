"""Disputes as the database holds them, read for one org or for all; and the evidence of each, kept by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tallystick.dispute.model import DisputeAccount, DisputeEvent
from tallystick.journal.database import Connection
from tallystick.journal.disputes_group import dispute_of
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("disputes")


class OrgDispute(NamedTuple):
    """A dispute, and whose it is."""

    org_id: str
    account: DisputeAccount


class KeptEvidence(NamedTuple):
    """A document: of which dispute, the hash that it is kept under, and the one that it has."""

    dispute_seq: int
    sha256: str
    found_sha256: str


class After(NamedTuple):
    """The last of a page: what comes after it was opened before."""

    at: datetime
    org_id: str
    seq: int


def find_dispute_row(connection: Connection, org_id: str, seq: int) -> DisputeAccount | None:
    """The dispute that was opened by that entry."""
    row = connection.execute(_SQL["columns"], {"org": org_id, "seq": seq}).fetchone()
    return None if row is None else dispute_of(row[1:])


def dispute_by_request(connection: Connection, org_id: str, request_id: str) -> DisputeAccount | None:
    """The dispute that was opened under that request id."""
    row = connection.execute(_SQL["by_request"], {"org": org_id, "request": request_id}).fetchone()
    return None if row is None else dispute_of(row[1:])


def list_dispute_rows(
    connection: Connection,
    org_id: str | None = None,
    *,
    states: Sequence[str] | None = None,
    invoice_id: str | None = None,
    after: After | None = None,
    limit: int | None = None,
) -> list[OrgDispute]:
    """Disputes, those first that were opened last, of one org or of all."""
    at, after_org, after_seq = after or (None, None, None)
    values = {
        "org": org_id,
        "states": None if states is None else list(states),
        "invoice": invoice_id,
        "after_at": at,
        "after_org": after_org,
        "after_seq": after_seq,
        "limit": limit,
    }
    return [OrgDispute(row[0], dispute_of(row[1:])) for row in connection.execute(_SQL["list"], values)]


def unproved_disputes(connection: Connection, org_id: str | None) -> list[tuple[str, int]]:
    """Disputes that no evidence is attached to yet, the oldest first, each with its org."""
    return connection.execute(_SQL["unproved"], {"org": org_id}).fetchall()


def dispute_events(connection: Connection, org_id: str, seq: int) -> list[DisputeEvent]:
    """The steps of a dispute, in order."""
    return [DisputeEvent(*row) for row in connection.execute(_SQL["events_of"], {"org": org_id, "seq": seq})]


def all_dispute_events(connection: Connection, org_id: str) -> list[DisputeEvent]:
    """The steps of all disputes of the org, in order."""
    return [DisputeEvent(*row) for row in connection.execute(_SQL["events_of_org"], {"org": org_id})]


def orgs_with_disputes(connection: Connection, org_id: str | None) -> list[str]:
    """Orgs of which disputes are kept."""
    return [org for (org,) in connection.execute(_SQL["orgs_with_disputes"], {"org": org_id})]


def add_evidence(connection: Connection, org_id: str, seq: int, sha256: str, document: str) -> None:
    """Keep a document; it is there once."""
    values = {"org": org_id, "seq": seq, "sha256": sha256, "document": document}
    connection.execute(_SQL["add_evidence"], values)


def read_evidence(connection: Connection, org_id: str, seq: int, sha256: str) -> str | None:
    """The document with that hash; None when it is not kept."""
    row = connection.execute(_SQL["evidence"], {"org": org_id, "seq": seq, "sha256": sha256}).fetchone()
    return None if row is None else row[0]


def evidence_of_org(connection: Connection, org_id: str) -> list[KeptEvidence]:
    """All documents of the org."""
    return [KeptEvidence(*row) for row in connection.execute(_SQL["evidence_of_org"], {"org": org_id})]


def orgs_of_dispute(connection: Connection, seq: int) -> list[str]:
    """Orgs of which an entry at that place has opened a dispute, three at most. An operator's transaction."""
    return [org for (org,) in connection.execute(_SQL["orgs_of_seq"], {"seq": seq})]
