"""What an org, or the operator, wants to be told of, and from when on: read strictly, with a default for everything."""

from __future__ import annotations

import re
from datetime import datetime, time
from fractions import Fraction
from typing import Any, Final

import msgspec

from tallystick.alerts.model import RULES, SEVERITIES, Severity
from tallystick.core.errors import BadInput
from tallystick.core.money import format_decimal, parse_decimal, pico_to_usd
from tallystick.core.periods import load_zone
from tallystick.ledger.members import Members, did_you_mean, short

LEVELS: Final = (Fraction(1, 2), Fraction(4, 5), Fraction(1))
_PICO: Final = 10**12
_MEMBERS: Final = (
    "off", "min_severity", "quiet_hours", "spend_spike", "low_balance", "limits", "budgets", "unpaid_invoice",
    "seal_lag",
)  # fmt: skip
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_LEVELS_MAX: Final = 10


class QuietHours(msgspec.Struct, frozen=True, kw_only=True):
    """A time of each day, on the clocks of a zone, in which nobody is told of what is not critical.

    Attributes:
        starts, ends: minutes since midnight; it goes past midnight when it ends before it starts.
    """

    starts: int
    ends: int
    time_zone: str = "UTC"

    def covers(self, now: datetime) -> bool:
        """Whether it is quiet now."""
        here = now.astimezone(load_zone(self.time_zone))
        minute = here.hour * 60 + here.minute
        if self.starts <= self.ends:
            return self.starts <= minute < self.ends
        return minute >= self.starts or minute < self.ends


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted; see docs/alerts.md.

    Attributes:
        off: rules that are not wanted.
        min_severity: from which severity on somebody is told.
        spike_usd_pico: by how much more than usual a day costs at least, in pico-USD, before it is one.
        spike_times: how many times the usual it costs at least.
        spike_history_days: how many days there must be before any is usual.
        balance_days: for how many days the credits must last.
        balance_pico: how many must be there in any case, in pico-credits; 0 for any number.
        limit_levels, budget_levels: the shares at which somebody is told, ascending.
        unpaid_days: after how many days overdue, ascending.
        unpaid_cents: what is left to be paid at least, in cents.
        seal_lag_minutes: for how long entries may wait.
    """

    off: frozenset[str] = frozenset()
    min_severity: Severity = "info"
    quiet_hours: QuietHours | None = None
    spike_usd_pico: int = 10 * _PICO
    spike_times: Fraction = Fraction(2)
    spike_history_days: int = 7
    balance_days: int = 7
    balance_pico: int = 0
    limit_levels: tuple[Fraction, ...] = LEVELS
    budget_levels: tuple[Fraction, ...] = LEVELS
    unpaid_days: tuple[int, ...] = (1, 7, 30)
    unpaid_cents: int = 1
    seal_lag_minutes: int = 60


def read_preferences(raw: object) -> Preferences:
    """What was sent, or is stored, as preferences: what is left out is as by default.

    Raises:
        BadInput: the one fault, `where` being the member; those of `members.Members`.
        Problems: `invalid_request`, several of them.
    """
    members = Members(raw, _MEMBERS, "a set of alert preferences")
    defaults = Preferences()
    off = members.texts("off", len(RULES))
    for place, name in enumerate(off):
        if name and name not in RULES:
            what = f"there is no rule {short(name)!r}{did_you_mean(name, RULES)}"
            members.fault("not_a_choice", f"off.{place}", what, f"name some of {', '.join(RULES)}")
    spike = _part(members, "spend_spike", ("min_usd", "times", "history_days"))
    balance = _part(members, "low_balance", ("days", "credits"))
    limits, budgets = _part(members, "limits", ("levels",)), _part(members, "budgets", ("levels",))
    unpaid = _part(members, "unpaid_invoice", ("days", "min_usd"))
    seal = _part(members, "seal_lag", ("minutes",))
    unpaid_pico = unpaid.amount_pico_or_none("min_usd", "USD", smallest=0)
    usd_pico, credits_pico = (
        spike.amount_pico_or_none("min_usd", "USD", smallest=0),
        balance.amount_pico_or_none("credits", "credits", smallest=0),
    )
    found = Preferences(
        off=frozenset(off),
        min_severity=members.choice("min_severity", SEVERITIES, "info"),  # type: ignore[arg-type]
        quiet_hours=_quiet_hours(members),
        spike_usd_pico=defaults.spike_usd_pico if usd_pico is None else usd_pico,
        spike_times=_times(spike, defaults.spike_times),
        spike_history_days=spike.integer("history_days", defaults.spike_history_days, 3, 28),
        balance_days=balance.integer("days", defaults.balance_days, 1, 365),
        balance_pico=0 if credits_pico is None else credits_pico,
        limit_levels=_levels(limits),
        budget_levels=_levels(budgets),
        unpaid_days=_days(unpaid, defaults.unpaid_days),
        unpaid_cents=1 if unpaid_pico is None else max(1, -(-unpaid_pico // 10**10)),
        seal_lag_minutes=seal.integer("minutes", defaults.seal_lag_minutes, 1, 100_000),
    )
    for name, part in (
        ("spend_spike", spike), ("low_balance", balance), ("limits", limits), ("budgets", budgets),
        ("unpaid_invoice", unpaid), ("seal_lag", seal),
    ):  # fmt: skip
        for fault in part.faults:
            where = name if fault.where is None else f"{name}.{fault.where}"
            members.fault(fault.code, where, fault.detail, fault.next_step)
    members.raise_faults()
    return found


def preferences_json(found: Preferences) -> dict[str, Any]:
    """The same as JSON, whole: what `read_preferences` reads."""
    quiet = found.quiet_hours
    return {
        "off": sorted(found.off),
        "min_severity": found.min_severity,
        "quiet_hours": None
        if quiet is None
        else {"from": _clock(quiet.starts), "to": _clock(quiet.ends), "time_zone": quiet.time_zone},
        "spend_spike": {
            "min_usd": pico_to_usd(found.spike_usd_pico),
            "times": format_decimal(found.spike_times),
            "history_days": found.spike_history_days,
        },
        "low_balance": {"days": found.balance_days, "credits": pico_to_usd(found.balance_pico)},
        "limits": {"levels": [format_decimal(one) for one in found.limit_levels]},
        "budgets": {"levels": [format_decimal(one) for one in found.budget_levels]},
        "unpaid_invoice": {"days": list(found.unpaid_days), "min_usd": pico_to_usd(found.unpaid_cents * 10**10)},
        "seal_lag": {"minutes": found.seal_lag_minutes},
    }


def _part(members: Members, name: str, known: tuple[str, ...]) -> Members:
    value = members.value(name)
    return Members({} if value is None else value, known, name)


def _times(part: Members, default: Fraction) -> Fraction:
    value = part.value("times")
    if value is None:
        return default
    found = _decimal(part, "times", value)
    if found is not None and not 1 < found <= 1000:
        part.fault("invalid_number", "times", "it is not above 1, and at most 1000", 'send a number such as "2"')
    return found or default


def _levels(part: Members) -> tuple[Fraction, ...]:
    if not part.has("levels"):
        return LEVELS
    listed = part.items("levels")
    if len(listed) > _LEVELS_MAX or not listed:
        part.fault(
            "too_long" if listed else "invalid_number", "levels", f"1 to {_LEVELS_MAX} levels are due", "send so many"
        )
        return LEVELS
    found = set()
    for place, value in enumerate(listed):
        share = _decimal(part, f"levels.{place}", value)
        if share is not None and not 0 < share <= 10:
            part.fault(
                "invalid_number", f"levels.{place}", "it is not above 0, and at most 10", 'send a share such as "0.8"'
            )
        elif share is not None:
            found.add(share)
    return tuple(sorted(found)) or LEVELS


def _days(part: Members, default: tuple[int, ...]) -> tuple[int, ...]:
    if not part.has("days"):
        return default
    listed = part.items("days")
    if not 1 <= len(listed) <= _LEVELS_MAX:
        part.fault("too_long" if listed else "invalid_number", "days", f"1 to {_LEVELS_MAX} are due", "send so many")
        return default
    found = set()
    for place, value in enumerate(listed):
        if not isinstance(value, int) or isinstance(value, bool):
            part.fault("wrong_type", f"days.{place}", "it must be a whole number", "send a whole number of days")
        elif not 0 <= value <= 3650:
            part.fault("invalid_number", f"days.{place}", "it is not between 0 and 3,650", "send a number in between")
        else:
            found.add(value)
    return tuple(sorted(found)) or default


def _decimal(part: Members, where: str, value: object) -> Fraction | None:
    try:
        return parse_decimal(value, where=where)
    except BadInput as error:
        part.faults.append(error.with_traceback(None))
        return None


def _quiet_hours(members: Members) -> QuietHours | None:
    value = members.value("quiet_hours")
    if value is None:
        return None
    part = Members(value, ("from", "to", "time_zone"), "quiet_hours")
    minutes = [_minute(part, name) for name in ("from", "to")]
    zone = part.text_or_none("time_zone") or "UTC"
    try:
        load_zone(zone)
    except BadInput as error:
        part.fault(error.code, "time_zone", error.detail, error.next_step)
    for fault in part.faults:
        where = "quiet_hours" if fault.where is None else f"quiet_hours.{fault.where}"
        members.fault(fault.code, where, fault.detail, fault.next_step)
    return QuietHours(starts=minutes[0], ends=minutes[1], time_zone=zone)


def _minute(part: Members, name: str) -> int:
    text = part.text(name)
    match = _TIME.fullmatch(text)
    if text and match is None:
        part.fault("invalid_time", name, f"{short(text)!r} is not a time of day", "write it as HH:MM, such as 22:00")
    return 0 if match is None else int(match[1]) * 60 + int(match[2])


def _clock(minute: int) -> str:
    return time(minute // 60, minute % 60).strftime("%H:%M")
