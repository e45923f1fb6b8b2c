"""What a check of orgs' accounts reads: operations, transfers of credits, and the tables of state. An operator's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.accounts import CREDIT_ACCOUNTS, CREDIT_ASSET
from tallystick.ledger.operations import OperationKind

_SQL = load_queries("verify")
_FETCH_ROWS = 2000


class StoredOperation(NamedTuple):
    """What a check needs of an operation's entry.

    Attributes:
        texts: feature, environment, provider, model, api_key_id and action.
    """

    seq: int
    kind: OperationKind
    recorded_at: datetime
    refers_to_seq: int | None
    user_id: str | None
    body: str
    request_id: str
    texts: tuple[str | None, ...]


class CreditTransfer(NamedTuple):
    """A transfer of credits; the amount is pico-credits."""

    seq: int
    first_seq: int
    debit_account: str
    credit_account: str
    amount_pico: int
    recorded_at: datetime


class AccountState(NamedTuple):
    """What the tables of state say of an org.

    Attributes:
        grants: by sequence: source, priority, granted_at, expires_at, amount and what is available.
        holds: by sequence, when each open one expires.
        finished: by action and key of the work: when it was charged, and by which entry.
        reserved: by counter, what open holds reserve.
        state, progress: the JSON of `org_states`.
        balances: account, debits and credits, in pico-credits.
    """

    grants: dict[Any, Any]
    holds: dict[Any, Any]
    finished: dict[Any, Any]
    reserved: dict[Any, Any]
    state: str
    progress: str
    counted_through_seq: int
    balances: list[tuple[str, int, int]]


def orgs_with_accounts(connection: Connection, org_id: str | None) -> set[str]:
    """The orgs of all, or of the one, with transfers of credits or rows of state."""
    return {org for (org,) in connection.execute(_SQL["account_orgs"], {"org": org_id, "asset": CREDIT_ASSET})}


def odd_accounts(connection: Connection, org_id: str | None) -> list[tuple[str, list[str]]]:
    """Orgs that do not have the accounts of credits that they should have, with those that they have."""
    parameters = {"org": org_id, "asset": CREDIT_ASSET, "accounts": sorted(CREDIT_ACCOUNTS)}
    return connection.execute(_SQL["credit_accounts"], parameters).fetchall()


def stream_operations(connection: Connection, org_id: str) -> Iterator[StoredOperation]:
    """The org's operations that are in the database, in their order; memory does not grow with their number."""
    with connection.cursor("operations") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["operations"], {"org": org_id}, binary=True)
        for seq, kind, recorded_at, refers_to_seq, user_id, body, request_id, *texts in cursor:
            at = recorded_at.astimezone(UTC)
            yield StoredOperation(seq, kind, at, refers_to_seq, user_id, body, request_id, tuple(texts))


def stream_credit_transfers(connection: Connection, org_id: str) -> Iterator[CreditTransfer]:
    """The org's transfers of credits, in their order."""
    with connection.cursor("credit_transfers") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["credit_transfers"], {"org": org_id, "asset": CREDIT_ASSET})
        for seq, first_seq, debit, credit, amount, recorded_at in cursor:
            yield CreditTransfer(seq, first_seq, debit, credit, int(amount), recorded_at)


def read_account_state(connection: Connection, org_id: str) -> AccountState:
    """What the tables of state say of the org."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(_SQL[query], {"org": org_id, "asset": CREDIT_ASSET}).fetchall()

    state = rows("org_state")
    return AccountState(
        {
            seq: (source, priority, _utc(granted_at), _utc(expires_at), amount, available)
            for seq, source, priority, granted_at, expires_at, amount, available in rows("grants")
        },
        {seq: _utc(expires_at) for seq, expires_at in rows("open_holds")},
        {(action, key): (_utc(charged_at), seq) for action, key, charged_at, seq in rows("finished_work")},
        {counter: int(used) for counter, used in rows("reserved")},
        state[0][1] if state else "{}",
        state[0][2] if state else "{}",
        state[0][0] if state else 0,
        [(account, int(debit), int(credit)) for account, debit, credit in rows("credit_balances")],
    )


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)
