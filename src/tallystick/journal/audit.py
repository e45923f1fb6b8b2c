"""The trail of administrative acts in the database.

Each act is a row in the act's own transaction: there is none without it, and no row of what did not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.journal.acting import current_actor
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.acts import Act, Actor, act_of, is_act
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Operation, Recorded

_SQL = load_queries("audit")
_encode = msgspec.json.Encoder(order="deterministic", enc_hook=str).encode


class ActRow(NamedTuple):
    """An act as it is stored; `before` and `after` are JSON."""

    n: int
    at: datetime
    org_id: str | None
    act: str
    subject: str
    seq: int | None
    actor_kind: str
    actor: str
    via: str
    request_id: str | None
    author: str | None
    reason: str | None
    before: str | None
    after: str | None


def record_act(connection: Connection, act: Act, by: Actor | None = None) -> None:
    """Write an act down, as the last thing in its transaction: other locks are taken before the register's.

    Args:
        connection: in the transaction of the act.
        act: what was done.
        by: who did it; None for who acts now.
    """
    record_acts(connection, [(act, by or current_actor())])


def record_acts(connection: Connection, acts: Sequence[tuple[Act, Actor]]) -> None:
    """Write several down, in their order, as `record_act`."""
    if acts:
        rows = [_values(act, by) for act, by in acts]
        connection.execute(_SQL["add"], {name: [row[name] for row in rows] for name in rows[0]}, prepare=True)


def record_operations(connection: Connection, operations: Sequence[tuple[Operation, Recorded]], at: datetime) -> None:
    """Write down which of a group's new entries are acts, in the group's transaction.

    Args:
        operations: what was asked for, with who asked, and what it became; in the order of the group.
        at: the machine's clock.
    """
    acts = [
        (entry_act(done.kind, done.request, org_id=done.org_id, seq=done.seq, at=at), asked.by)
        for asked, done in operations
        if asked.by is not None
    ]
    record_acts(connection, acts)


def record_entries(
    connection: Connection, org_id: str, entries: Sequence[tuple[str, Any, int]], at: datetime, by: Actor | None = None
) -> None:
    """Write down entries that are acts, in their transaction, where they have not come through the group writer.

    Args:
        entries: of each its kind, what its body says was asked for, and its place.
        at: the machine's clock.
    """
    actor = by or current_actor()
    acts = [entry_act(kind, request, org_id=org_id, seq=seq, at=at) for kind, request, seq in entries]
    record_acts(connection, [(act, actor) for act in acts])


def entry_act(kind: str, request: Any, *, org_id: str, seq: int, at: datetime) -> Act:
    """The act that an entry is; see `ledger.acts.act_of`."""
    return act_of(kind, request, org_id=org_id, seq=seq, entry_id=operation_id(kind, seq), at=at)


def with_actor(operation: Operation) -> Operation:
    """The operation with who asks for it, where its entry will be an act of somebody's."""
    if operation.by is not None or not is_act(operation.kind, operation.request):
        return operation
    actor = current_actor()
    if actor.kind == "job":  # what follows by itself is in the ledger, and nobody's act
        return operation
    return msgspec.structs.replace(operation, by=actor)


def acts_after(
    connection: Connection,
    *,
    place: tuple[datetime, int] | None,
    begin: datetime,
    until: datetime,
    limit: int,
    org_id: str | None = None,
    act: str | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> list[ActRow]:
    """Acts of a half-open time after a place in the list, the oldest first.

    Args:
        place: `at` and `n` of the act before; None for the last ones of all, the newest first.
        act: only these: an act's name, or what it begins with up to a dot.
        actor: only this one's: a key's id or login name, or the author that the act names.
    """
    values: dict[str, Any] = {"begin": begin, "until": until, "limit": limit}
    values |= {"org": org_id, "act": act, "actor": actor, "subject": subject}
    if place is None:
        return [ActRow(*row) for row in connection.execute(_SQL["newest"], values)]
    values |= {"after_at": place[0], "after_n": place[1]}
    return [ActRow(*row) for row in connection.execute(_SQL["page"], values)]


def find_act(connection: Connection, n: int) -> ActRow | None:
    """One act."""
    row = connection.execute(_SQL["one"], {"n": n}).fetchone()
    return None if row is None else ActRow(*row)


def said_before(connection: Connection, row: ActRow, *, by_subject: bool) -> str | None:
    """What the org's act of the same kind before this one said, as JSON; `by_subject`: of the same subject."""
    values = {"org": row.org_id, "act": row.act, "n": row.n, "by_subject": by_subject, "subject": row.subject}
    found = connection.execute(_SQL["said_before"], values).fetchone()
    return None if found is None else found[0]


def _values(act: Act, by: Actor) -> dict[str, Any]:
    return {
        "at": act.at,
        "org_id": act.org_id,
        "act": act.act,
        "subject": act.subject,
        "seq": act.seq,
        "actor_kind": by.kind,
        "actor": by.name,
        "via": by.via,
        "request_id": by.request_id,
        "author": act.author,
        "reason": act.reason,
        "before": None if act.before is None else _encode(act.before).decode(),
        "after": None if act.after is None else _encode(act.after).decode(),
    }
