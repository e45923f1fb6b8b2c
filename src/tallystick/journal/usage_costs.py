"""What usage cost, looked up by its request ids: what a check of settlements reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("settlements")


class Correction(NamedTuple):
    """The entry that gave usage its price: its place, and what the usage cost, in pico-USD."""

    seq: int
    cost_pico: int | None


class UsageCost(NamedTuple):
    """An entry of usage.

    Attributes:
        cost_pico: what we paid for it, in pico-USD: nothing where a key of the customer's did; None: it had no price.
        correction: what gave it one later.
    """

    seq: int
    cost_pico: int | None
    environment: str | None
    correction: Correction | None = None

    def known_before(self, seq: int) -> int | None:
        """What it cost, as the entries before that place tell it; None: it has no price in them."""
        if self.cost_pico is None and self.correction is not None and self.correction.seq < seq:
            return self.correction.cost_pico
        return self.cost_pico


def usage_cost(seq: int, cost_pico: int | None, payer: str | None, environment: str | None) -> UsageCost:
    """An entry's, from its columns."""
    return UsageCost(seq, cost_pico if payer is None else 0, environment)


def read_usage_costs(connection: Connection, org_id: str, request_ids: Sequence[str]) -> dict[str, UsageCost]:
    """By request id, those of the org's usage entries that are in the database."""
    rows = connection.execute(_SQL["usage_costs"], {"org": org_id, "request_ids": list(request_ids)})
    found = {request_id: usage_cost(*columns) for request_id, *columns in rows}
    corrections = read_corrections(connection, org_id, [one.seq for one in found.values() if one.cost_pico is None])
    return {name: one._replace(correction=corrections.get(one.seq)) for name, one in found.items()}


def read_corrections(connection: Connection, org_id: str, seqs: Iterable[int]) -> dict[int, Correction]:
    """By the entry that they refer to, those of the org's corrections that are in the database."""
    asked = list(seqs)
    if not asked:
        return {}
    rows = connection.execute(_SQL["corrections"], {"org": org_id, "seqs": asked})
    return {refers_to_seq: Correction(seq, cost_pico) for refers_to_seq, seq, cost_pico in rows}


def read_settled_usage(connection: Connection, org_id: str) -> dict[int, int]:
    """Of usage that was stored before a settlement named it, by its place, which settlement that was."""
    return dict(connection.execute(_SQL["settled_usage"], {"org": org_id}).fetchall())
