"""What an invoice pins of the ledger: the hash over the period's entries, and the root of the org's Merkle tree."""

from __future__ import annotations

from tallystick.invoice.digest import EntriesHash
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Span
from tallystick.ledger.merkle import HASH_BYTES, Frontier

_SQL = load_queries("period")
_STEP_ENTRIES = 32768  # in one query: 1.3 MB of marks


def hash_entries(connection: Connection, span: Span) -> str:
    """The hash over the period's entries as `invoice.digest` defines it, from the leaves that are stored."""
    running = EntriesHash()
    parameters = span.parameters()
    for start in range(span.first_seq, span.bound_seq, _STEP_ENTRIES):
        bounds = {"from_seq": start, "until_seq": min(start + _STEP_ENTRIES, span.bound_seq)}
        ((marks,),) = connection.execute(_SQL["marks_in_order"], parameters | bounds, binary=True).fetchall()
        running.add_block(marks or b"")
    with connection.cursor() as cursor:  # row by row, each a third of a megabyte
        for (marks,) in cursor.stream(_SQL["marks_late"], parameters, binary=True):
            running.add_block(marks)
    return running.hexdigest()


def tree_at(connection: Connection, org_id: str, through_seq: int, *, sealed_until: int | None = None) -> Frontier:
    """The org's tree over the stored leaves 1 to `through_seq`.

    It grows from what was sealed last, so that only the leaves after that are read, some thousands at a time. Where
    leaves are missing from the ledger, the tree is smaller than `through_seq`.

    Args:
        connection: the org's, in one snapshot.
        org_id: whose tree.
        through_seq: its size.
        sealed_until: take no sealed tree larger than this; None for any.
    """
    tree = sealed_tree(connection, org_id, through_seq if sealed_until is None else min(sealed_until, through_seq))
    for start in range(tree.size + 1, through_seq + 1, _STEP_ENTRIES):
        until = min(start + _STEP_ENTRIES, through_seq + 1)
        parameters = {"org": org_id, "from_seq": start, "until_seq": until}
        ((leaves,),) = connection.execute(_SQL["leaves"], parameters, binary=True).fetchall()
        tree.extend(leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES))
    return tree


def sealed_tree(connection: Connection, org_id: str, through_seq: int) -> Frontier:
    """The largest tree of the org's that was sealed at a size up to `through_seq`; empty when there is none."""
    row = connection.execute(_SQL["sealed_tree"], {"org": org_id, "through_seq": through_seq}, binary=True).fetchone()
    if row is None:
        return Frontier()
    try:
        return Frontier.from_bytes(*row)
    except ValueError:  # changed from outside: `tally verify` names it, and the leaves themselves say what is right
        return Frontier()
