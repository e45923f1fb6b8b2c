"""What an org used and what it cost: by month, by day, by model or feature, down to the one request.

Answers come from rollups, which are brought up to date first as far as that takes a moment; `complete` says whether
every entry of the org was added up by then. The requests of a day come from the ledger itself, or from blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from tallystick.app.entries import stream_entries
from tallystick.app.history import first_seq_since
from tallystick.app.rollup import ENTRIES_AT_ONCE, require_org, roll_up
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.invoice.tables import csv_table, text_cell
from tallystick.journal import rollup_read as journal
from tallystick.journal.period_scope import Scope, begin_reading, find_span, read_head
from tallystick.journal.rollup_read import SLICES, MeterRow, RequestRow, UsageRow, Wanted
from tallystick.ledger.entry import Entry
from tallystick.rollup.model import OPEN_FOR, end_of, start_of

ROWS_MAX = 10_000
"""Most rows in one answer."""
PAGE_REQUESTS_MAX = 1000
DAYS_MAX = 3660
PERIODS = ("all", "month", "day")
BY = (*SLICES, "meter")
"""What usage may be told apart by."""
_SLACK = timedelta(hours=1)
_NEVER_BY = "narrow the days, or tell it apart by less"


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What is asked of an org's usage.

    Attributes:
        first, last: UTC days, both included.
        period: a row for each `day` or `month`, or for `all` of it.
        by: what else rows are told apart by, of `BY`.
        filters: only what has this of `BY`; '' for what names none.
    """

    org_id: str
    first: date
    last: date
    period: str = "all"
    by: tuple[str, ...] = ()
    filters: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """What was found.

    Attributes:
        rows: requests, without meters.
        meters: quantities, where they were asked for.
        operations: what happened to the account; of all of it, whatever `by` and `filters` say.
        reopened: days that changed after they were over.
        rolled_through_seq, last_seq: how far the entries are added up, and how many there are.
    """

    question: UsageQuestion
    rows: Sequence[UsageRow]
    meters: Sequence[MeterRow]
    operations: Sequence[journal.OperationRow]
    reopened: Sequence[journal.ReopenedRow]
    rolled_through_seq: int
    last_seq: int

    @property
    def complete(self) -> bool:
        """Whether every entry of the org is in it."""
        return self.rolled_through_seq >= self.last_seq


def show_usage(runtime: Runtime, question: UsageQuestion) -> UsageAnswer:
    """What the org used in those days.

    Raises:
        NotFound: `unknown_org`.
        BadInput: `invalid_range`, `invalid_usage_question`, `too_many_rows`.
        Unavailable: `database_unreachable`.
    """
    _check(question)
    require_org(runtime, question.org_id)
    roll_up(runtime, org_id=question.org_id, entries_max=ENTRIES_AT_ONCE)
    filters = dict(question.filters or {})
    wanted = Wanted(question.org_id, question.first, question.last, filters)
    of_requests = wanted._replace(filters={name: one for name, one in filters.items() if name != "meter"})
    names = [name for name in question.by if name != "meter"]
    with runtime.database.org(question.org_id) as connection:
        begin_reading(connection)
        rows = journal.usage_by(connection, of_requests, question.period, names, ROWS_MAX + 1)
        meters = []
        if "meter" in (*question.by, *filters):
            meters = journal.meters_by(connection, wanted, question.period, names, ROWS_MAX + 1)
        operations = journal.operations_by(connection, wanted, question.period, ROWS_MAX + 1)
        reopened = journal.reopened_days(connection, wanted, ROWS_MAX + 1)
        rolled, last = journal.rolled_through(connection, question.org_id)
    if max(len(rows), len(meters), len(operations), len(reopened)) > ROWS_MAX:
        raise BadInput("too_many_rows", f"the answer has more than {ROWS_MAX:,} rows", next_step=_NEVER_BY)
    return UsageAnswer(question, rows, meters, operations, reopened, rolled, last)


def usage_dict(answer: UsageAnswer, *, with_costs: bool = True) -> dict[str, Any]:
    """As plain JSON members; amounts are decimal strings. Without costs, what requests cost us is left out."""
    question = answer.question
    names = [name for name in question.by if name != "meter"]
    drop = () if with_costs else ("cost_usd", "customer_cost_usd")
    return {
        "org_id": question.org_id,
        "from": question.first.isoformat(),
        "to": question.last.isoformat(),
        "period": question.period,
        "by": list(question.by),
        "filters": dict(question.filters or {}),
        "rows": [_without(_request_sums(row, names, question.period), drop) for row in answer.rows],
        "meters": [_without(_meter_sums(row, names, question.period), drop) for row in answer.meters],
        "account": [
            _period(row.period, question.period)
            | {"kind": row.kind, "reason": row.reason or None, "operations": row.operations}
            | {"credits": pico_to_usd(row.credits_pico)}
            for row in answer.operations
        ],
        "reopened": [
            _without(
                {
                    "day": row.day.isoformat(),
                    "recorded_on": row.recorded_on.isoformat(),
                    "entries": row.entries,
                    "first_seq": row.first_seq,
                    "last_seq": row.last_seq,
                    "requests": row.requests,
                    "unpriced": row.unpriced,
                    "cost_usd": pico_to_usd(row.cost_pico),
                },
                drop,
            )
            for row in answer.reopened
        ],
        "rolled_through_seq": answer.rolled_through_seq,
        "last_seq": answer.last_seq,
        "complete": answer.complete,
    }


def usage_csv(answer: UsageAnswer) -> Iterable[str]:
    """The rows as CSV (RFC 4180), a record a piece: of meters where they were asked for, else of requests."""
    names = [name for name in answer.question.by if name != "meter"]
    if answer.meters or "meter" in answer.question.by:
        header = ("period", *names, "meter", "requests", "quantity", "cost_usd", "customer_cost_usd")
        return csv_table(
            header,
            (
                (
                    row.period, *map(text_cell, row.names), text_cell(row.meter), str(row.requests), str(row.quantity),
                    pico_to_usd(row.cost_pico), pico_to_usd(row.customer_cost_pico),
                )
                for row in answer.meters
            ),
        )  # fmt: skip
    header = (
        "period", *names, "requests", "failures", "empty", "unfinished", "unpriced", "cost_usd", "customer_cost_usd",
        "latency_ms_sum", "latency_requests",
    )  # fmt: skip
    return csv_table(
        header,
        (
            (
                row.period, *map(text_cell, row.names), str(row.requests), str(row.failures), str(row.empty),
                str(row.unfinished), str(row.unpriced), pico_to_usd(row.cost_pico), pico_to_usd(row.customer_cost_pico),
                str(row.latency_ms), str(row.latency_requests),
            )
            for row in answer.rows
        ),
    )  # fmt: skip


def list_day_requests(
    runtime: Runtime,
    org_id: str,
    day: date,
    *,
    filters: Mapping[str, str] | None = None,
    cursor: str | None = None,
    limit: int = 100,
    with_costs: bool = True,
) -> dict[str, Any]:
    """A page of the requests of a UTC day: `{"requests": [...], "next_cursor"}`, by their place in the ledger.

    Following the cursor misses nothing and repeats nothing. Days whose entries have left the database are read from
    blocks, as far as `tally usage` knows entries of the day.

    Raises:
        NotFound: `unknown_org`.
        BadInput: `invalid_cursor`, `invalid_limit`, `invalid_usage_question`; `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    question = UsageQuestion(org_id, day, day, filters=filters)
    _check(question)
    if not 1 <= limit <= PAGE_REQUESTS_MAX:
        raise BadInput(
            "invalid_limit",
            f"a page has 1 to {PAGE_REQUESTS_MAX} requests, not {limit}",
            next_step="ask for fewer, and follow next_cursor",
            where="limit",
        )
    after = _cursor_seq(cursor)
    require_org(runtime, org_id)
    rows = _requests(runtime, question, after, limit + 1)
    drop = () if with_costs else ("cost_usd",)
    page = [_without(_request(row), drop) for row in rows[:limit]]
    return {"requests": page, "next_cursor": str(page[-1]["seq"]) if len(rows) > limit else None}


def _requests(runtime: Runtime, question: UsageQuestion, after: int, limit: int) -> list[RequestRow]:
    org_id, filters = question.org_id, dict(question.filters or {})
    start = start_of(question.first)
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head = read_head(connection, org_id)
        scope = Scope(org_id, start, end_of(question.first), head.last_seq)
        if not head.has_left(start):
            return journal.requests_of_span(connection, find_span(connection, scope), filters, after, limit)
        first_seq = first_seq_since(connection, org_id, head, start)
        wanted = Wanted(org_id, question.first, question.first, {})
        late = max((row.last_seq for row in journal.reopened_days(connection, wanted, ROWS_MAX)), default=0)
    found: list[RequestRow] = []
    for row in _archived(runtime, scope, first_seq, late):
        if row.seq > after and _has(row, filters):
            found.append(row)
            if len(found) == limit:
                break
    return found


def _archived(runtime: Runtime, scope: Scope, first_seq: int, late_seq: int) -> Iterator[RequestRow]:
    """The day's requests, wherever they are: to where the ledger was past the day, and to what reopened it."""
    waiting: dict[int, RequestRow] = {}
    for entry in stream_entries(runtime, scope.org_id, first_seq, scope.through_seq):
        if entry.seq > late_seq and entry.time_max >= scope.end + OPEN_FOR + _SLACK:
            break
        if not scope.start <= entry.time < scope.end:
            continue
        if entry.kind == "usage":
            waiting[entry.seq] = _row_of(entry)
        elif entry.kind == "correction" and entry.refers_to_seq in waiting:
            before = waiting[entry.refers_to_seq]
            waiting[before.seq] = before._replace(
                status=entry.status, cost_pico=entry.cost_pico, correction_seq=entry.seq
            )
    yield from waiting.values()


def _row_of(entry: Entry) -> RequestRow:
    return RequestRow(
        entry.seq, entry.request_id, entry.time, entry.recorded_at, entry.environment or "", entry.feature or "",
        entry.action, entry.provider, entry.model or "", entry.payer or "seller", entry.outcome or "",
        entry.usage_status or "", entry.latency_ms, list(entry.meter_names or ()), list(entry.meter_quantities or ()),
        entry.status, entry.cost_pico, None,
    )  # fmt: skip


def _has(row: RequestRow, filters: Mapping[str, str]) -> bool:
    for name, wanted in filters.items():
        if name == "meter":
            if not dict(zip(row.meter_names, row.meter_quantities, strict=True)).get(wanted):
                return False
        elif (getattr(row, name) or "") != wanted:
            return False
    return True


def _check(question: UsageQuestion) -> None:
    if question.last < question.first or (question.last - question.first).days >= DAYS_MAX:
        raise BadInput(
            "invalid_range",
            f"{question.first} to {question.last} is no range of 1 to {DAYS_MAX} days",
            next_step="give the first day and the last one, such as 2026-10-01 and 2026-10-31",
            where="--from",
        )
    asked = (*question.by, *(question.filters or {}))
    unknown = [name for name in asked if name not in BY]
    if unknown or question.period not in PERIODS or len(set(question.by)) < len(question.by):
        raise BadInput(
            "invalid_usage_question",
            f"usage cannot be told apart by {unknown[0]!r}" if unknown else "it is told apart by the same thing twice",
            next_step=f"use one or more of {', '.join(BY)}, each once, by {', '.join(PERIODS)}",
            where="--by",
        )


def _cursor_seq(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise BadInput(
            "invalid_cursor",
            f"{cursor[:40]!r} is not a cursor",
            next_step="use the next_cursor of the page before, or none for the first page",
            where="cursor",
        )
    return int(cursor)


def _request(row: RequestRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "request_id": row.request_id,
        "time": format_instant(row.time),
        "recorded_at": format_instant(row.recorded_at),
        "environment": row.environment,
        "feature": row.feature,
        "action": row.action,
        "provider": row.provider,
        "model": row.model,
        "payer": row.payer,
        "outcome": row.outcome,
        "usage_status": row.usage_status,
        "latency_ms": row.latency_ms,
        "meters": dict(zip(row.meter_names, row.meter_quantities, strict=True)),
        "cost_status": row.status,
        "cost_usd": None if row.cost_pico is None else pico_to_usd(row.cost_pico),
        "correction_seq": row.correction_seq,
    }


def _request_sums(row: UsageRow, names: Sequence[str], period: str) -> dict[str, Any]:
    return _period(row.period, period) | {
        **{name: value or None for name, value in zip(names, row.names, strict=True)},
        "requests": row.requests,
        "failures": row.failures,
        "empty": row.empty,
        "unfinished": row.unfinished,
        "unpriced": row.unpriced,
        "cost_usd": pico_to_usd(row.cost_pico),
        "customer_cost_usd": pico_to_usd(row.customer_cost_pico),
        "latency_ms_mean": row.latency_ms // row.latency_requests if row.latency_requests else None,
    }


def _meter_sums(row: MeterRow, names: Sequence[str], period: str) -> dict[str, Any]:
    return _period(row.period, period) | {
        **{name: value or None for name, value in zip(names, row.names, strict=True)},
        "meter": row.meter,
        "requests": row.requests,
        "quantity": str(row.quantity),
        "cost_usd": pico_to_usd(row.cost_pico),
        "customer_cost_usd": pico_to_usd(row.customer_cost_pico),
    }


def _period(value: str, period: str) -> dict[str, str]:
    return {} if period == "all" else {period: value}


def _without(members: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}
