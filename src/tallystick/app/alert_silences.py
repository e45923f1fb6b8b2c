"""Silences: times for which nobody is told of some alerts. What happens is written down all the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tallystick.app.alert_list import alert_events, check_rule
from tallystick.app.audit import Act, record_act
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant, parse_duration, parse_instant
from tallystick.journal.alerts import SilenceRow, add_silence, find_silence, silences_after
from tallystick.ledger.members import Members
from tallystick.usage.event_problems import check_text

SILENCE_MAX = timedelta(days=366)
SILENCE_MEMBERS = ("org_id", "rule", "subject", "until", "for", "reason", "author")


def silence_alert(runtime: Runtime, alert_id: str, raw: object) -> dict[str, Any]:
    """Tell nobody of an alert for a while, whether it goes on, grows, ends or begins anew.

    Args:
        raw: the decoded JSON value: `until` or `for`, `reason` and `author`.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_silence`.
        NotFound: `unknown_alert`.
    """
    last = alert_events(runtime, alert_id)[-1]
    members = Members(raw, ("until", "for", "reason", "author"), "a silence")
    return _silence(runtime, members, last.org_id, last.rule, last.subject)


def silence_rule(runtime: Runtime, raw: object) -> dict[str, Any]:
    """Tell nobody of an org's alerts, or of the operator's own, for a while: of all, of a rule, or of a subject of it.

    Args:
        raw: the decoded JSON value, with the members `SILENCE_MEMBERS`; without `org_id`: the operator's own.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_silence`, `not_a_choice`.
        NotFound: `unknown_org`.
    """
    members = Members(raw, SILENCE_MEMBERS, "a silence")
    org_id, rule, subject = (members.text_or_none(name) for name in ("org_id", "rule", "subject"))
    members.raise_faults()
    check_rule(rule)
    if subject is not None and rule is None:
        raise _invalid("a subject is one of a rule's", "name the rule, too", "subject")
    if org_id is not None:
        existing_org(runtime, org_id)
    return _silence(runtime, members, org_id, rule, subject)


def end_silence(runtime: Runtime, silence_id: str, author: str) -> dict[str, Any]:
    """End a silence now. What still fires and nobody was told of is told at the next look. Again, nothing changes.

    Raises:
        NotFound: `unknown_silence`.
    """
    check_text("author", author)
    with runtime.database.operator() as connection:
        row = find_silence(connection, silence_id)
        if row is None:
            raise NotFound(
                "unknown_silence",
                f"there is no silence {silence_id[:60]!r}",
                next_step="`tally alerts silences` has their ids",
                where="silence_id",
            )
        now = _now(runtime, row.org_id)
        if now < row.ends_at:
            before, row = row, row._replace(ends_at=max(now, row.starts_at), author=author, recorded_at=runtime.clock())
            add_silence(connection, row)
            ends = {"ends_at": format_instant(before.ends_at)}
            after = {"ends_at": format_instant(row.ends_at)}
            act = Act("alert.unsilence", silence_id, runtime.clock(), row.org_id, author, None, ends, after)
            record_act(connection, act)
    return silence_members(row, now)


def list_silences(runtime: Runtime, org_id: str | None = None, *, own: bool = False) -> list[dict[str, Any]]:
    """Silences that are not over: of an org, of the operator's own, or of everybody."""
    everybodys = org_id is None and not own
    with runtime.database.operator() as connection:
        rows = silences_after(connection, None, org_id=org_id, everybodys=everybodys)
    shown = ((row, _now(runtime, row.org_id)) for row in rows)
    return [silence_members(row, now) for row, now in shown if now < row.ends_at]


def silence_members(row: SilenceRow, now: datetime) -> dict[str, Any]:
    """A silence as plain JSON members."""
    return {
        "silence_id": row.silence_id,
        "org_id": row.org_id,
        "rule": row.rule,
        "subject": row.subject,
        "starts_at": format_instant(row.starts_at),
        "ends_at": format_instant(row.ends_at),
        "silent": row.starts_at <= now < row.ends_at,
        "reason": row.reason,
        "author": row.author,
    }


def _silence(
    runtime: Runtime, members: Members, org_id: str | None, rule: str | None, subject: str | None
) -> dict[str, Any]:
    reason, author = members.text("reason"), members.text("author")
    until, length = members.text_or_none("until"), members.text_or_none("for")
    members.raise_faults()
    now = _now(runtime, org_id)
    row = SilenceRow(
        silence_id=f"sl_{runtime.random_bytes(12).hex()}",
        org_id=org_id,
        rule=rule,
        subject=subject,
        starts_at=now,
        ends_at=_end(now, until, length),
        reason=reason,
        author=author,
        recorded_at=runtime.clock(),
    )
    with runtime.database.operator() as connection:
        add_silence(connection, row)
        after = {"rule": rule, "subject": subject, "ends_at": format_instant(row.ends_at)}
        act = Act("alert.silence", row.silence_id, runtime.clock(), org_id, author, reason, None, after)
        record_act(connection, act)
    return silence_members(row, now)


def _end(now: datetime, until: str | None, length: str | None) -> datetime:
    if (until is None) == (length is None):
        raise _invalid("it says not once when it ends", "send until, an instant, or for, such as 4h", "until")
    if until is not None:
        end = parse_instant(until, where="until")
    else:
        end = now + min(parse_duration(length or "", where="for"), 2 * SILENCE_MAX)
    where = "until" if until is not None else "for"
    if end <= now:
        raise _invalid(f"it would end at {format_instant(end)}, which is over", "let it end later", where)
    if end - now > SILENCE_MAX:
        what = f"it would last longer than {SILENCE_MAX.days} days"
        raise _invalid(what, "make it shorter, or switch the rule off in the preferences", where)
    return end


def _now(runtime: Runtime, org_id: str | None) -> datetime:
    return runtime.clock() if org_id is None else runtime.now(org_id)


def _invalid(detail: str, next_step: str, where: str) -> BadInput:
    return BadInput("invalid_silence", detail, next_step=next_step, where=where)
