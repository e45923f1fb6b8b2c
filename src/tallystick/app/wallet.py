"""An org's wallet: what is available and held, by grant, and what happened to it, operation by operation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

from tallystick.app.answer_parts import pico_to_credits
from tallystick.app.entries import stream_entries
from tallystick.app.explain_operation import operation_summary
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import Decision
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.journal.accounts import (
    available_lots,
    credit_balances,
    first_kept_seq,
    one_moment,
    open_holds,
    operations_after,
    operations_before,
)
from tallystick.ledger.accounts import WALLET_HELD
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Held

PAGE_ENTRIES_MAX = 1000
_CURSOR_MAX = 2**63 - 1
Order = Literal["oldest", "newest"]


def show_wallet(runtime: Runtime, org_id: str) -> dict[str, Any]:
    """What the org has: available and held credits, each grant with something left, and what goes next.

    What is over by now is ended first, and the month's included credits are given, as before a decision; then all is
    read at one moment.

    Raises:
        BadInput: the id cannot be one.
        NotFound: `unknown_org`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    existing_org(runtime, org_id)
    runtime.operations.keep_up(org_id).result()
    now = runtime.now(org_id)
    with runtime.database.org(org_id) as connection:
        one_moment(connection)
        lots = [lot for lot in available_lots(connection, org_id) if lot.expires_at is None or lot.expires_at > now]
        balances = credit_balances(connection, org_id)
    held_pico = sum(one.credit_pico - one.debit_pico for one in balances if one.account == WALLET_HELD)
    ending = next((lot for lot in lots if lot.expires_at is not None), None)
    return {
        "org_id": org_id,
        "available": pico_to_credits(sum(lot.available_pico for lot in lots)),
        "held": pico_to_credits(held_pico),
        "grants": [
            {
                "grant_id": operation_id("grant", lot.seq),
                "source": lot.source,
                "priority": lot.priority,
                "granted_at": format_instant(lot.granted_at),
                "expires_at": None if lot.expires_at is None else format_instant(lot.expires_at),
                "granted": pico_to_credits(lot.amount_pico),
                "available": pico_to_credits(lot.available_pico),
            }
            for lot in lots
        ],
        "next_to_expire": None
        if ending is None or ending.expires_at is None
        else {
            "grant_id": operation_id("grant", ending.seq),
            "expires_at": format_instant(ending.expires_at),
            "available": pico_to_credits(ending.available_pico),
        },
        "accounts": [
            {
                "account": one.account,
                "debit": pico_to_credits(one.debit_pico),
                "credit": pico_to_credits(one.credit_pico),
            }
            for one in balances
        ],
        "at": format_instant(now),
    }


def list_holds(runtime: Runtime, org_id: str, *, cursor: str | None = None, limit: int = 100) -> dict[str, Any]:
    """The org's open holds, oldest first: `{"holds": [...], "next_cursor"}`.

    Raises:
        BadInput: `invalid_cursor`, `invalid_limit`; the id cannot be one.
        NotFound: `unknown_org`.
    """
    _check_limit(limit)
    after_seq = _parse_cursor(cursor) or 0
    existing_org(runtime, org_id)
    with runtime.database.org(org_id) as connection:
        found = open_holds(connection, org_id, after_seq=after_seq, limit=limit + 1)
    page = found[:limit]
    return {
        "holds": [_hold(entry) for entry in page],
        "next_cursor": str(page[-1].seq) if len(found) > limit else None,
    }


def wallet_entries(
    runtime: Runtime, org_id: str, *, cursor: str | None = None, limit: int = 100, order: Order = "oldest"
) -> dict[str, Any]:
    """What happened to the org's account: `{"entries": [...], "next_cursor"}`, every operation and denial.

    Following the cursor misses nothing and repeats nothing, whatever is added meanwhile. Entries that have left the
    database are read from their blocks.

    Raises:
        BadInput: `invalid_cursor`, `invalid_limit`; the id cannot be one; of a block: `missing_block`, `broken_block`.
        NotFound: `unknown_org`.
        Conflict: `entries_missing`.
    """
    _check_limit(limit)
    at = _parse_cursor(cursor)
    existing_org(runtime, org_id)
    if order == "newest":
        found = _newest(runtime, org_id, at or _CURSOR_MAX, limit + 1)
    else:
        found = _oldest(runtime, org_id, at or 0, limit + 1)
    page = found[:limit]
    return {
        "entries": [operation_summary(entry) for entry in page],
        "next_cursor": str(page[-1].seq) if len(found) > limit else None,
    }


def _oldest(runtime: Runtime, org_id: str, after_seq: int, count: int) -> list[Entry]:
    found: list[Entry] = []
    with runtime.database.org(org_id) as connection:
        kept_seq = first_kept_seq(connection, org_id)
    if after_seq + 1 < kept_seq:
        for entry in _archived_operations(runtime, org_id, after_seq + 1, kept_seq - 1):
            found.append(entry)
            if len(found) == count:
                return found
    with runtime.database.org(org_id) as connection:
        after_seq = max(after_seq, kept_seq - 1)
        return found + operations_after(connection, org_id, after_seq, count - len(found))


def _newest(runtime: Runtime, org_id: str, before_seq: int, count: int) -> list[Entry]:
    with runtime.database.org(org_id) as connection:
        one_moment(connection)
        found = operations_before(connection, org_id, before_seq, count)
        kept_seq = first_kept_seq(connection, org_id)
    last_seq = min(before_seq, kept_seq) - 1
    if len(found) < count and last_seq >= 1:
        older = deque(_archived_operations(runtime, org_id, 1, last_seq), maxlen=count - len(found))
        found += reversed(older)
    return found


def _archived_operations(runtime: Runtime, org_id: str, first_seq: int, last_seq: int) -> Iterator[Entry]:
    return (entry for entry in stream_entries(runtime, org_id, first_seq, last_seq) if entry.body is not None)


def _hold(entry: Entry) -> dict[str, Any]:
    request, result = read_body(entry.kind, entry.body or "")
    assert isinstance(result, Held)  # noqa: S101 - of a hold
    decision: Decision = result.decision
    return {
        "hold_id": operation_id("hold", entry.seq),
        "request_id": entry.request_id,
        "made_at": format_instant(entry.recorded_at),
        "expires_at": format_instant(result.expires_at),
        "credits": pico_to_credits(sum(lot.amount_pico for lot in result.lots)),
        "feature": entry.feature,
        "environment": entry.environment,
        "action": entry.action,
        "model": entry.model,
        "user_id": entry.user_id,
        "work_key": request.work_key,
        "plan": decision.plan,
    }


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= PAGE_ENTRIES_MAX:
        raise BadInput(
            "invalid_limit",
            f"a page has 1 to {PAGE_ENTRIES_MAX} entries, not {limit}",
            next_step="ask for fewer, and follow next_cursor",
            where="limit",
        )


def _parse_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 19 and 0 < int(cursor) <= _CURSOR_MAX):
        raise BadInput(
            "invalid_cursor",
            f"{cursor[:40]!r} is not a cursor",
            next_step="use the next_cursor of the page before, or none for the first page",
            where="cursor",
        )
    return int(cursor)
