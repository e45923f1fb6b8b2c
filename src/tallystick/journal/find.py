"""Finding the entries that an id has to do with, by probes of indexes alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.entry import OPERATION_KINDS, Entry

_SQL = load_queries("find")
DENIALS_MAX = 20
"""Of denials under one id, which claim none, so many of the newest are found."""
FOUND_MAX = 100
NAMED_KINDS = sorted(OPERATION_KINDS - {"denial", "settlement", "release", "expiry"})
"""Those whose request ids somebody has given. What ends a hold bears the hold's id, and denials are found apart."""

Place = tuple[str, int]
"""Org and sequence number."""


class LeftBlock(NamedTuple):
    """A block that holds entries which are no longer in the database."""

    block: int
    path: str
    entries: int


def named(connection: Connection, orgs: Sequence[str], ids: Iterable[str]) -> list[Place]:
    """Where entries of these orgs are that were sent under one of these request ids."""
    parameters = {"orgs": list(orgs), "ids": list(ids), "kinds": NAMED_KINDS, "denials": DENIALS_MAX}
    return [(org, int(seq)) for org, seq in connection.execute(_SQL["named"], parameters)]


def provider_named(connection: Connection, org_id: str | None, provider_request_id: str) -> list[Place]:
    """Where usage of calls is that the provider knows under this id; at most `FOUND_MAX`."""
    parameters = {"org": org_id, "id": provider_request_id, "limit": FOUND_MAX}
    return [(org, int(seq)) for org, seq in connection.execute(_SQL["provider_named"], parameters)]


def worked_on(connection: Connection, orgs: Sequence[str], work_key: str) -> list[Place]:
    """Where the last settlement of each action is that charged for this work, and the open holds that are for it."""
    member = '"work_key":' + msgspec.json.encode(work_key).decode()
    parameters = {"orgs": list(orgs), "key": work_key, "member": member, "limit": FOUND_MAX}
    return [(org, int(seq)) for org, seq in connection.execute(_SQL["worked_on"], parameters)]


def entries_at(connection: Connection, org_id: str, seqs: Collection[int]) -> list[Entry]:
    """These entries, as far as they are in the database."""
    rows = connection.execute(_SQL["entries"], {"org": org_id, "seqs": list(seqs)}, binary=True)
    return [Entry._make(row) for row in rows]


def settlements_of(connection: Connection, org_id: str, seqs: Collection[int]) -> dict[int, tuple[int | None, bool]]:
    """The settlement that each entry of usage may be the work of, and whether that is certain.

    It is where the settlement has claimed it; else it is the next operation after it, if that is a settlement, and
    what that names has to be looked at.
    """
    rows = connection.execute(_SQL["settlements_of"], {"org": org_id, "seqs": list(seqs)})
    return {seq: (claimed or following, claimed is not None) for seq, claimed, following in rows}


def blocks_left(connection: Connection, org_id: str | None, since: datetime, until: datetime) -> list[LeftBlock]:
    """The blocks that hold entries of the org, or of any, with times in [since, until), that have left the database."""
    rows = connection.execute(_SQL["blocks_left"], {"org": org_id, "since": since, "until": until})
    return [LeftBlock(*row) for row in rows]


def head_of(connection: Connection, org_id: str) -> tuple[int, int]:
    """How many entries the org has, and from which on they are in the database."""
    row = connection.execute(_SQL["head"], {"org": org_id}).fetchone()
    return (0, 1) if row is None else (int(row[0]), int(row[1]))
