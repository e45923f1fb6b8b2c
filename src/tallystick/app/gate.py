"""`tally gate`: does a call cost more than it did? A candidate is compared with a baseline before it is deployed.

Requests are read from the database, grouped there by what they have cost; where some have left it for sealed blocks,
they are read from those, one by one. Nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import chain
from typing import Any, Literal

from tallystick.app.entries import stream_entries
from tallystick.app.gate_compare import Comparison, Terms, compare, percent
from tallystick.app.gate_sample import Request, Sample
from tallystick.app.history import FOR_EVER, SINCE_EVER, checked_time, first_seq_since, history_orgs
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_instant
from tallystick.journal.gate import Wanted, read_calls, read_requests, read_settlements
from tallystick.journal.period_scope import Scope, begin_reading, find_span, read_head
from tallystick.ledger.operation_body import read_body

__all__ = ["GateReport", "Wanted", "candidate_of", "read_attributes", "read_increase", "read_range", "run_gate"]

By = Literal["feature", "action"]
Progress = Callable[[int], object]

CANDIDATE_TIME = timedelta(days=1)
"""How far back a candidate goes that names no time, no session and no attribute."""
MIN_SAMPLE = 30
"""How many calls each side of a group must have, unless told."""
SETTLED_WITHIN = timedelta(days=2)
_SPAN = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class GateReport:
    """What was compared with what, by which groups, under which terms, and what came of it."""

    candidate: Wanted
    baseline: Wanted
    by: By
    terms: Terms
    result: Comparison

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        increase, alike, mix = self.result.total
        return {
            "passed": self.result.passed,
            "by": self.by,
            "max_increase": percent(self.terms.max_increase),
            "min_sample": self.terms.min_sample,
            "candidate": _wanted_dict(self.candidate),
            "baseline": _wanted_dict(self.baseline),
            "total": {
                "increase": None if increase is None else percent(increase),
                "like_for_like": None if alike is None else percent(alike),
                "mix_shift": None if mix is None else percent(mix),
            },
            "groups": [row.as_dict() for row in self.result.rows],
            "reasons": [reason.as_dict() for reason in self.result.reasons],
            "notes": list(self.result.notes),
        }


def run_gate(
    runtime: Runtime,
    candidate: Wanted,
    baseline: Wanted,
    terms: Terms,
    *,
    by: By = "feature",
    org_id: str | None = None,
    progress: Progress = lambda _: None,
) -> GateReport:
    """Compare what calls of two environments, or two times, have cost.

    Args:
        candidate: what is to be judged.
        baseline: what it is compared with; of one environment, what is the candidate's is not the baseline's.
        terms: what the candidate must keep.
        by: groups; by action, requests that were settled together are one call.
        org_id: only this org's.
        progress: called with 1 after each org of each side.

    Raises:
        NotFound: `unknown_org`.
        BadInput: `missing_block`, `broken_block`.
        Conflict: `entries_missing`.
        Unavailable: `database_unreachable`.
    """
    ours, theirs = Sample(), Sample()
    for one in history_orgs(runtime, org_id):
        for sample, wanted, minus in ((ours, candidate, None), (theirs, baseline, candidate)):
            _take(runtime, one, sample, wanted, minus, by)
            progress(1)
    return GateReport(candidate, baseline, by, terms, compare(ours, theirs, terms))


def candidate_of(
    now: datetime,
    environment: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    sessions: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
) -> Wanted:
    """The candidate's requests. Without a time, sessions and attributes are looked for in all time, all else in a day.

    Raises:
        BadInput: `invalid_period`.
    """
    named = bool(sessions or attributes)
    if start is None and end is None and not named:
        start, end = now - CANDIDATE_TIME, now
    since, until = checked_time(start, end)
    return Wanted(since, until, environment, tuple(sessions) or None, dict(attributes) if attributes else None)


def read_range(text: str, now: datetime) -> tuple[datetime, datetime]:
    """A half-open time from `7d` (the last seven days), `12h`, `4w`, or `FROM..TO`.

    Raises:
        BadInput: `invalid_against`, `invalid_period`, `invalid_time`.
    """
    back = _SPAN.fullmatch(text)
    if back is not None:
        length = int(back[1]) * _UNITS[back[2]]
        if length > now - datetime(1970, 1, 1, tzinfo=UTC):
            raise _invalid_range(text)
        return now - length, now
    since, dots, until = text.partition("..")
    if not dots:
        raise _invalid_range(text)
    return checked_time(parse_instant(since, where="--against"), parse_instant(until, where="--against"))


def read_increase(text: str) -> Fraction:
    """A part from per cent: `10%` is 1/10. It may be 0, and may not be below.

    Raises:
        BadInput: `invalid_increase`.
    """
    number = text.strip().removesuffix("%").strip()
    try:
        value = Decimal(number)
        if text.strip() == number or not value.is_finite() or value < 0 or value > 10**6:
            raise InvalidOperation
    except InvalidOperation:
        raise BadInput(
            "invalid_increase",
            f"{text!r} is not by how many per cent a cost may grow",
            next_step="write it as 10%, or 2.5%",
            where="--max-increase",
        ) from None
    return Fraction(value) / 100


def read_attributes(given: Sequence[str]) -> dict[str, str]:
    """Attributes from `KEY=VALUE`.

    Raises:
        BadInput: `invalid_attribute`.
    """
    found = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise BadInput(
                "invalid_attribute",
                f"{text!r} is no attribute",
                next_step="write it as KEY=VALUE, as the events have it",
                where="--attribute",
            )
        found[key] = value
    return found


def _take(runtime: Runtime, org_id: str, sample: Sample, wanted: Wanted, minus: Wanted | None, by: By) -> None:
    """Add an org's requests to a sample."""
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head = read_head(connection, org_id)
        if not head.has_left(wanted.start):
            span = find_span(connection, Scope(org_id, wanted.start, wanted.end, head.last_seq))
            if by == "feature":
                for row in read_calls(connection, span, wanted, minus):
                    sample.add(
                        Request(row.feature, row.provider, row.model, row.silent, row.cost_pico, calls=row.calls)
                    )
                return
            found = (
                Request(action, provider, model, silent, cost, request_id)
                for request_id, action, provider, model, silent, cost in read_requests(connection, span, wanted, minus)
            )
            if (first := next(found, None)) is not None:
                sample.add_org(chain((first,), found), map(_events_of, read_settlements(connection, span)))
            return
        first_seq = first_seq_since(connection, org_id, head, wanted.start)
    requests, works = _from_entries(runtime, org_id, (first_seq, head.last_seq), wanted, minus, by)
    sample.add_org(requests, works if by == "action" else ())


def _from_entries(
    runtime: Runtime, org_id: str, seqs: tuple[int, int], wanted: Wanted, minus: Wanted | None, by: By
) -> tuple[list[Request], list[tuple[str, ...]]]:
    """The same one entry at a time, where some of them have left the database for blocks."""
    found: dict[int, Request] = {}
    works: list[tuple[str, ...]] = []
    settled_by = min(wanted.end, FOR_EVER) + SETTLED_WITHIN
    for entry in stream_entries(runtime, org_id, *seqs):
        if entry.kind == "usage":
            about = (entry.time, entry.environment, entry.session_id, entry.attributes)
            if wanted.has(*about) and not (minus is not None and minus.has(*about)):
                name = entry.feature if by == "feature" else entry.action
                silent = entry.outcome == "failure" and not any(entry.meter_quantities or ())
                found[entry.seq] = Request(name, entry.provider, entry.model, silent, entry.cost_pico, entry.request_id)
        elif entry.kind == "correction" and entry.refers_to_seq in found:
            found[entry.refers_to_seq] = found[entry.refers_to_seq]._replace(cost_pico=entry.cost_pico)
        elif entry.kind == "settlement" and entry.body is not None and entry.time < settled_by:
            works.append(_events_of(entry.body))
    return list(found.values()), works


def _events_of(body: str) -> tuple[str, ...]:
    events: tuple[str, ...] = read_body("settlement", body)[0].events
    return events


def _wanted_dict(wanted: Wanted) -> dict[str, Any]:
    return {
        "environment": wanted.environment,
        "from": None if wanted.start == SINCE_EVER else format_instant(wanted.start),
        "to": None if wanted.end == FOR_EVER else format_instant(wanted.end),
        "sessions": None if wanted.sessions is None else list(wanted.sessions),
        "attributes": None if wanted.attributes is None else dict(wanted.attributes),
    }


def _invalid_range(text: str) -> BadInput:
    return BadInput(
        "invalid_against",
        f"{text!r} is no range of time",
        next_step="write it as 7d, 12h, 4w, or 2026-10-01..2026-10-08: the first instant, and the first one after",
        where="--against",
    )
