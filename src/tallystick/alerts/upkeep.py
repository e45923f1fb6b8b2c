"""What the operator is to look at: sums, prices, jobs, sealing, the check of the ledger, disputes, endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from tallystick.alerts.model import Condition, counted
from tallystick.core.instants import format_instant
from tallystick.core.key_shapes import without_secrets
from tallystick.core.money import cents_to_usd

_DAY = timedelta(days=1)
_FAILURES_CRITICAL = 3
_DISPUTE_CRITICAL_DAYS = 3
_STOOD_STILL = timedelta(minutes=15)
"""After so long without a look, what is late is late because nothing ran; a look is due every 5 minutes. For so long
after that, jobs may catch up before each that is late is told."""
STOOD_STILL_SUBJECT = "jobs"
_LOOKING = "alerts"
"""The job that looks: while it does, it is not late."""
_DISPUTED = {"invoice": "an invoice", "line": "a line of an invoice"}


class JobFacts(NamedTuple):
    """How a job fares: failures in a row, and whether none went well for longer than it may."""

    name: str
    failures: int
    late: bool
    lag_seconds: float
    error: str | None
    error_at: datetime | None


def stopped_for(*, looked_at: datetime | None, told_at: datetime | None, now: datetime, by_job: bool) -> timedelta:
    """For how long nothing ran that could have caught up: what waited meanwhile is not late for that.

    Args:
        looked_at: when was looked last; None: never.
        told_at: since when an alert says that everything stood still; jobs catch up for a while then.
        by_job: whether it is the job that looks: at its very first look, the others have just begun, too.
    """
    if told_at is not None and now - told_at <= _STOOD_STILL:
        return timedelta.max
    if looked_at is None:
        return timedelta.max if by_job else timedelta(0)
    gap = now - looked_at
    return gap if gap > _STOOD_STILL else timedelta(0)


def rollup_condition(
    entries: int,
    orgs: int,
    lag_seconds: float,
    missing: list[tuple[str, date]],
    *,
    late_after: timedelta,
    stopped: timedelta = timedelta(0),
) -> Condition | None:
    """Entries wait to be added up for longer than they may; level 0 for half of that, and while jobs had no chance."""
    late = late_after.total_seconds()
    if lag_seconds <= late / 2:
        return None
    level = 0 if lag_seconds - stopped.total_seconds() <= late else 2 if missing else 1
    days = sorted({day for _, day in missing})
    over = f"; days that are over lack some: {len(days):,}, the first {days[0]}" if days else ""
    return _ours(
        "missing_rollup",
        "rollups",
        level,
        "critical" if level > 1 else "warning",
        f"{counted(entries, 'entry', 'entries')} of {counted(orgs, 'org')} not added up, "
        f"some for {_hours(lag_seconds)}{over}",
        {"entries": entries, "orgs": orgs, "lag_seconds": int(lag_seconds), "missing_days": len(days)},
        "see why with tally jobs runs rollups; then tally rollup run",
    )


def unpriced_condition(provider: str | None, model: str, requests: int, orgs: int, since: datetime) -> Condition:
    """Requests of a model have no price."""
    named = f"{provider or 'no provider'}/{model}"
    return _ours(
        "unpriced_usage",
        named,
        1,
        "warning",
        f"no price for {counted(requests, 'request')} of {named}, since {format_instant(since)}: the cost is not known",
        {"provider": provider, "model": model, "requests": requests, "orgs": orgs, "since": format_instant(since)},
        "add a rate (docs/rates.md); the job rates gives them their price",
    )


def job_conditions(
    jobs: Iterable[JobFacts], *, looked_at: datetime | None, told_at: datetime | None, now: datetime
) -> Iterator[Condition]:
    """Jobs that failed or are late. Where everything stood still, one alert says so, and not one for each that is late:
    those that do not catch up are told for themselves.

    Args:
        looked_at: when was looked last; None: never.
        told_at: since when an alert says that everything stood still; None where none does.
    """
    stood_still = looked_at is not None and now - looked_at > _STOOD_STILL
    stood_still |= told_at is not None and now - told_at <= _STOOD_STILL
    late = []
    for job in jobs:
        found = job_condition(**job._replace(late=job.late and job.name != _LOOKING)._asdict())
        if found is None:
            continue
        if stood_still and not job.failures:
            late.append(job.name)
            found = msgspec.structs.replace(found, level=0)
        yield found
    if late and looked_at is not None:
        seconds = (now - looked_at).total_seconds()
        yield _ours(
            "failed_job",
            STOOD_STILL_SUBJECT,
            1,
            "warning",
            f"no alerts were looked at for {_hours(seconds)}, and {counted(len(late), 'job')} "
            f"{'is' if len(late) == 1 else 'are'} late: {', '.join(late)}",
            {"stood_still_seconds": int(seconds), "jobs": late},
            "if the service was stopped on purpose, nothing: the jobs catch up; else see that tally serve or a tally "
            "worker runs",
        )


def job_condition(
    name: str, *, failures: int, late: bool, lag_seconds: float, error: str | None, error_at: datetime | None
) -> Condition | None:
    """A job's last run failed, or none went well for longer than it may."""
    if not failures and not late:
        return None
    level = 2 if failures >= _FAILURES_CRITICAL else 1
    if failures:
        times = "once" if failures == 1 else f"{failures:,} times in a row"
        said = f"the job {name} failed {times}" + (f": {_cut(error)}" if error else "")
    else:
        said = f"the job {name} is late by {_hours(lag_seconds)}"
    return _ours(
        "failed_job",
        name,
        level,
        "critical" if level > 1 else "warning",
        said,
        {
            "job": name,
            "failures": failures,
            "lag_seconds": int(lag_seconds),
            "error_at": None if error_at is None else format_instant(error_at),
        },
        f"see tally jobs runs {name}; mend what it names, then tally jobs run {name}",
    )


def verification_condition(error: str, at: datetime) -> Condition:
    """The last check of the ledger has found that something is not as it was written."""
    return _ours(
        "verification_failure",
        "ledger",
        1,
        "critical",
        f"the check of the ledger of {format_instant(at)} did not go well: {_cut(error)}",
        {"checked_at": format_instant(at)},
        "run tally verify, which names what was changed; then docs/runbooks/billing-incident.md",
    )


def seal_condition(
    entries: int, oldest_at: datetime | None, now: datetime, lag_minutes: int, *, stopped: timedelta = timedelta(0)
) -> Condition | None:
    """Entries wait to be sealed for longer than they may; level 0 for half of that, and while sealing had no chance."""
    lag = timedelta(0) if oldest_at is None else now - oldest_at
    allowed = timedelta(minutes=lag_minutes)
    if lag <= allowed / 2:
        return None
    seconds = lag.total_seconds()
    counts = max(lag, stopped) - stopped
    level = 0 if counts <= allowed else 2 if counts > 24 * allowed else 1
    return _ours(
        "seal_lag",
        "seal",
        level,
        "critical" if level > 1 else "warning",
        f"{counted(entries, 'entry', 'entries')} not sealed, some for {_hours(seconds)}",
        {"entries": entries, "lag_seconds": int(seconds)},
        "see tally jobs runs seal; then tally seal",
    )


def dispute_condition(org_id: str, seq: int, what: str, due_at: datetime, cents: int, now: datetime) -> Condition:
    """A dispute should have been answered."""
    days = max(0, (now - due_at) // _DAY)
    late = f"{counted(days, 'day')} ago" if days else "by now"
    level = 2 if days >= _DISPUTE_CRITICAL_DAYS else 1
    return _ours(
        "dispute_overdue",
        f"{org_id} {seq}",
        level,
        "critical" if level > 1 else "warning",
        f"the dispute of {org_id} on {_DISPUTED.get(what, what)} was to be answered {late}",
        {
            "org": org_id,
            "dispute_seq": seq,
            "disputed_usd": cents_to_usd(cents),
            "answer_due_at": format_instant(due_at),
            "overdue_days": days,
        },
        f"see tally dispute show {org_id}; docs/runbooks/disputed-invoice.md says how to decide",
    )


def endpoint_condition(
    endpoint_id: str, org_id: str | None, reason: str, failures: int, since: datetime, *, is_test: bool
) -> Condition:
    """A webhook endpoint gets nothing any more."""
    return Condition(
        org_id=org_id,
        rule="webhook_disabled",
        subject=endpoint_id,
        level=1,
        severity="warning",
        summary=f"the webhook endpoint {endpoint_id} is switched off since {format_instant(since)}: {_cut(reason)}",
        figures={"endpoint_id": endpoint_id, "failures": failures, "since": format_instant(since)},
        next_step="mend the receiver, then enable the endpoint again; what it missed can be replayed",
        is_test=is_test,
    )


def _ours(
    rule: str, subject: str, level: int, severity: Any, summary: str, figures: dict[str, Any], next_step: str
) -> Condition:
    return Condition(
        org_id=None, rule=rule, subject=subject, level=level, severity=severity, summary=summary, figures=figures,
        next_step=next_step,
    )  # fmt: skip


def _hours(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 120:
        return counted(minutes, "minute")
    return counted(minutes // 60, "hour") if minutes < 48 * 60 else counted(minutes // 1440, "day")


def _cut(text: str | None) -> str:
    said = without_secrets(" ".join((text or "").split()))
    return said if len(said) <= 300 else f"{said[:299]}…"
