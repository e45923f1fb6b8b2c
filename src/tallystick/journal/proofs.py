"""What a proof of an invoice is made of, as the database holds it. Connections are an operator's."""

from __future__ import annotations

from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.merkle import Frontier
from tallystick.ledger.statements import OrgStatement

_SQL = load_queries("proofs")


class SealedRange(NamedTuple):
    """The block in which an org's entries up to `last_seq` were sealed."""

    block: int
    last_seq: int


def sealed_range(connection: Connection, org_id: str, seq: int) -> SealedRange | None:
    """The first block after which the org's sealed entries include `seq`; None while it is not sealed."""
    row = connection.execute(_SQL["sealed_range"], {"org": org_id, "seq": seq}).fetchone()
    return None if row is None else SealedRange(*row)


def sealed_tree(connection: Connection, org_id: str, seq: int) -> Frontier:
    """The org's tree as it was last sealed at a size up to `seq`: from there on leaves are to be added."""
    row = connection.execute(_SQL["frontier"], {"org": org_id, "seq": seq}).fetchone()
    try:
        return Frontier() if row is None else Frontier.from_bytes(row[0], bytes(row[1]))
    except ValueError:  # changed from outside, as `tally verify` says; the leaves themselves say what is right
        return Frontier()


def org_statements(connection: Connection, block: int) -> list[OrgStatement]:
    """What a block states of each org, in the order of their ids."""
    rows = connection.execute(_SQL["orgs_of_block"], {"block": block})
    return [OrgStatement(org_id, first, last, bytes(root)) for org_id, first, last, root in rows]


def block_statements(connection: Connection, size: int) -> list[str]:
    """The statements of the first `size` blocks: the leaves of the log, byte for byte."""
    return [text for (text,) in connection.execute(_SQL["statements"], {"size": size})]


def checkpoint_sizes(connection: Connection, size: int) -> list[int]:
    """The sizes of the checkpoints over fewer than `size` blocks, ascending."""
    return [found for (found,) in connection.execute(_SQL["checkpoint_sizes"], {"size": size})]
