"""Usage that was stored before settlements name it: what it costs by now, and which settlement's work it is.

An event is the work of one settlement: of the one that stored it, or of the first that names it. One that a settlement
has stored stands before it with no other operation between them; for one that was there before, the settlement leaves
a row in `settled_usage`. So an event that is new, as nearly all are, needs neither a row nor a look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.operations_load import Place, places
from tallystick.journal.operations_script import Script
from tallystick.journal.writer import Stored
from tallystick.ledger.operation_body import read_body


class NamedUsage(NamedTuple):
    """An event that a settlement names, and the hold that it settles."""

    org_id: str
    request_id: str
    hold_seq: int


class FoundUsage(NamedTuple):
    """An entry of usage.

    Attributes:
        stored: what its receipt said.
        cost_pico: what it cost, by its correction where that gave it a price; None where it has none yet.
        claimed_by: the settlement that named it after it was stored.
        settled_by: the settlement whose work it is; None while it is nobody's. Not told to the settlement itself,
            sent again.
    """

    stored: Stored
    cost_pico: int | None
    claimed_by: int | None = None
    settled_by: int | None = None


def found_usage(
    connection: Connection, named: Sequence[NamedUsage], rows: Iterable[Sequence[Any]]
) -> dict[tuple[str, str], FoundUsage]:
    """What the query `usage_of` has found of these, by org and request id.

    It asks the database once more, where the operation after an event is another hold's settlement, for what that
    names: whether it has stored the event, or only follows it.
    """
    found: dict[tuple[str, str], FoundUsage] = {}
    followed: dict[Place, set[tuple[str, str]]] = {}
    for place, *columns, claimed_by, next_seq, next_hold_seq, corrected_pico in rows:
        org_id, request_id, hold_seq = named[place - 1]
        stored = Stored(*columns)
        cost_pico = stored.cost_pico if corrected_pico is None else corrected_pico
        found[org_id, request_id] = FoundUsage(stored, cost_pico, claimed_by, claimed_by)
        if claimed_by is None and next_seq is not None and next_hold_seq != hold_seq:
            followed.setdefault((org_id, next_seq), set()).add((org_id, request_id))
    if followed:
        script = Script()
        script.call("settlements", *places(followed))
        for org_id, seq, body in script.run(connection)["settlements"]:
            names = {(org_id, name) for name in read_body("settlement", body)[0].events}
            for key in followed[org_id, seq] & names:
                found[key] = found[key]._replace(settled_by=seq)
    return found
