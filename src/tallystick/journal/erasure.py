"""Erasing a person's data from the ledger's rows. The database records which entries it was, and never whose."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("erasure")


def erase_person(connection: Connection, org_id: str, user_id: str) -> int:
    """Erase what the database holds of the person in the org's entries: how many entries those were."""
    row = connection.execute(_SQL["erase_person"], {"org": org_id, "person": user_id}).fetchone()
    return int(row[0]) if row else 0


def record_erasures(connection: Connection, org_id: str, seqs: Sequence[int]) -> int:
    """Record the erasure of entries that are only in blocks: how many were not recorded before."""
    row = connection.execute(_SQL["record_erasures"], {"org": org_id, "seqs": list(seqs)}).fetchone()
    return int(row[0]) if row else 0


def erased_seqs(connection: Connection, org_id: str, first_seq: int, last_seq: int) -> list[int]:
    """Which of the org's entries first_seq to last_seq were erased, in order."""
    parameters = {"org": org_id, "first_seq": first_seq, "last_seq": last_seq}
    return [seq for (seq,) in connection.execute(_SQL["erased"], parameters)]
