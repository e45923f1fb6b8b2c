"""What usage cost, looked up by its request ids: what a check of settlements reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("settlements")


class UsageCost(NamedTuple):
    """An entry of usage: what we paid for it, in pico-USD, and whether what we pay for has a price."""

    seq: int
    cost_pico: int
    priced: bool


def usage_cost(seq: int, cost_pico: int | None, payer: str | None, status: str) -> UsageCost:
    """An entry's, from its columns; what a key of the customer's paid for is none of our cost."""
    return UsageCost(seq, cost_pico or 0, status != "unpriced") if payer is None else UsageCost(seq, 0, True)


def read_usage_costs(connection: Connection, org_id: str, request_ids: Sequence[str]) -> dict[str, UsageCost]:
    """By request id, those of the org's usage entries that are in the database."""
    rows = connection.execute(_SQL["usage_costs"], {"org": org_id, "request_ids": list(request_ids)})
    return {request_id: usage_cost(*columns) for request_id, *columns in rows}
