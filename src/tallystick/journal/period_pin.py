"""What an invoice pins of the ledger: the hash over the period's entries, and the root of the org's Merkle tree."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg.types.numeric import Int8

from tallystick.invoice.digest import EntriesHash
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Span
from tallystick.ledger.merkle import HASH_BYTES, Frontier

_SQL = load_queries("period")
_STEP_ENTRIES = 32768  # in one query: 1.3 MB of marks


def pin_entries(connection: Connection, span: Span) -> tuple[Frontier, str]:
    """What an invoice pins: the org's tree up to the span's `through_seq` (`tree_at`), and `hash_entries`.

    Entries that both are made of are read once.
    """
    org_id, through_seq = span.scope.org_id, span.scope.through_seq
    tree = sealed_tree(connection, org_id, through_seq)
    if tree.size + 1 >= span.bound_seq:  # there is none that both are made of
        return _grown(connection, org_id, tree, through_seq), hash_entries(connection, span)
    running = EntriesHash()
    parameters = span.parameters() | {"sealed_seq": Int8(tree.size)}
    for bounds in _steps(min(tree.size + 1, span.first_seq), through_seq + 1):
        query = connection.execute(_SQL["leaves_and_marks"], parameters | bounds, binary=True, prepare=True)
        ((leaves, marks),) = query.fetchall()
        tree.extend(_leaves(leaves))
        running.add_block(marks)
    _add_late(connection, span, running)
    return tree, running.hexdigest()


def hash_entries(connection: Connection, span: Span) -> str:
    """The hash over the period's entries as `invoice.digest` defines it, from the leaves that are stored."""
    running = EntriesHash()
    for bounds in _steps(span.first_seq, span.bound_seq):
        query = connection.execute(_SQL["marks_in_order"], span.parameters() | bounds, binary=True, prepare=True)
        ((marks,),) = query.fetchall()
        running.add_block(marks)
    _add_late(connection, span, running)
    return running.hexdigest()


def _add_late(connection: Connection, span: Span, running: EntriesHash) -> None:
    if span.bound_seq > span.scope.through_seq:
        return
    with connection.cursor() as cursor:  # row by row, each a third of a megabyte
        for (marks,) in cursor.stream(_SQL["marks_late"], span.parameters(), binary=True):
            running.add_block(marks)


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
    return _grown(connection, org_id, tree, through_seq)


def _grown(connection: Connection, org_id: str, tree: Frontier, through_seq: int) -> Frontier:
    for bounds in _steps(tree.size + 1, through_seq + 1):
        query = connection.execute(_SQL["leaves"], {"org": org_id, **bounds}, binary=True, prepare=True)
        ((leaves,),) = query.fetchall()
        tree.extend(_leaves(leaves))
    return tree


def _steps(first_seq: int, until_seq: int) -> Iterator[dict[str, Int8]]:
    """The sequence numbers from the one up to but not including the other, as many as one query reads at a time."""
    for start in range(first_seq, until_seq, _STEP_ENTRIES):
        yield {"from_seq": Int8(start), "until_seq": Int8(min(start + _STEP_ENTRIES, until_seq))}


def _leaves(joined: bytes) -> Iterator[bytes]:
    return (joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


def sealed_tree(connection: Connection, org_id: str, through_seq: int) -> Frontier:
    """The largest tree of the org's that was sealed at a size up to `through_seq`; empty when there is none."""
    row = connection.execute(
        _SQL["sealed_tree"], {"org": org_id, "through_seq": Int8(through_seq)}, binary=True, prepare=True
    ).fetchone()
    if row is None:
        return Frontier()
    try:
        return Frontier.from_bytes(*row)
    except ValueError:  # changed from outside: `tally verify` names it, and the leaves themselves say what is right
        return Frontier()
