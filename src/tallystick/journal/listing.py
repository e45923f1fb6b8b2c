"""Reading an org's requests in the order in which they were stored."""

from __future__ import annotations

from typing import Any

from tallystick.core.errors import NotFound
from tallystick.invoice.facts import Corrections, StoredFact
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.entry import Entry

_SQL = load_queries("listing")


def requests_after(connection: Connection, org_id: str, after_seq: int, limit: int) -> list[StoredFact]:
    """At most `limit` requests with seq > `after_seq`, ascending, with their corrections."""
    found = _entries(connection, "requests_after", {"org": org_id, "after": after_seq, "limit": limit})
    seqs = [entry.seq for entry in found if entry.status == "unpriced"]  # nothing else is corrected
    corrections = Corrections(_entries(connection, "corrections_of", {"org": org_id, "seqs": seqs}) if seqs else [])
    return [StoredFact(entry, corrections.of(entry.seq)) for entry in found]


def knows_org(connection: Connection, org_id: str) -> bool:
    """Whether the org has an event or a subscription."""
    row = connection.execute(_SQL["knows_org"], {"org": org_id}).fetchone()
    return row is not None and bool(row[0])


def require_known(connection: Connection, org_id: str) -> None:
    """Refuse an org that has neither an event nor a subscription.

    Raises:
        NotFound: `unknown_org`.
    """
    if not knows_org(connection, org_id):
        raise unknown_org(org_id)


def unknown_org(org_id: str) -> NotFound:
    """The answer to a question about an org that nobody knows."""
    return NotFound(
        "unknown_org",
        f"there is no org {org_id!r}: it has neither an event nor a subscription",
        next_step="check the id; `tally orgs list` and GET /v1/orgs show those there are",
        where="org_id",
    )


def _entries(connection: Connection, query: str, parameters: dict[str, Any]) -> list[Entry]:
    return [Entry._make(row) for row in connection.execute(_SQL[query], parameters, binary=True)]
