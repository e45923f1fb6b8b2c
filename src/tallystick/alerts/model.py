"""What alerts are made of: rules, what is found now, what is firing, and what changes.

An alert is known by its org (None: it is the operator's), its rule and its subject: what exactly it is about, such as a
day, a limit's window or a job. It fires once, may become more severe, and is resolved once; the next time it fires it
is another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
Change = Literal["firing", "escalated", "told", "resolved"]
"""What happens to an alert. `told`: what held back its delivery is over, and it still fires."""
Scope = Literal["org", "operator"]
Key: TypeAlias = tuple[str | None, str, str]
"""Org, rule and subject."""
OURS = "our_"
"""What the figures begin with that are the operator's alone: what requests cost us."""


class Rule(NamedTuple):
    """Something that is looked out for: its name, what it is called, and whose alerts it gives."""

    name: str
    title: str
    scope: Scope


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule("spend_spike", "a day costs far more than usual", "org"),
            Rule("low_balance", "credits run out soon", "org"),
            Rule("limit", "a limit is used up to a level", "org"),
            Rule("budget", "a budget is spent up to a level", "org"),
            Rule("unpaid_invoice", "an invoice is overdue", "org"),
            Rule("missing_rollup", "usage is not added up", "operator"),
            Rule("unpriced_usage", "requests have no price", "operator"),
            Rule("failed_job", "a job failed or is late", "operator"),
            Rule("verification_failure", "the ledger is not as it was written", "operator"),
            Rule("seal_lag", "entries wait to be sealed", "operator"),
            Rule("webhook_disabled", "a webhook endpoint is switched off after failing", "org"),
            Rule("dispute_overdue", "a dispute is not answered in time", "operator"),
        )
    }
)
"""By name. `webhook_disabled` is the operator's, too, for an endpoint that belongs to no org."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule finds of one subject at one moment.

    Attributes:
        org_id: whose it is; None for the operator's.
        rule, subject: what was looked at.
        level: how far it has come, from 1 on; 0: not far enough to fire, but too near to call a firing alert resolved.
        severity: of that level.
        summary: a sentence for a person. It tells a customer nothing that is not theirs to know.
        figures: numbers, by names that end with their unit; those that begin with `our_` are the operator's alone.
        next_step: what to do now.
        is_test: whether the org is a test org.
    """

    org_id: str | None
    rule: str
    subject: str
    level: int
    severity: Severity
    summary: str
    figures: Mapping[str, Any]
    next_step: str
    is_test: bool = False

    @property
    def key(self) -> Key:
        """By which the alert is known."""
        return self.org_id, self.rule, self.subject


class Firing(NamedTuple):
    """An alert that fires.

    Attributes:
        alert_id: of this time that it fires.
        level: the highest that it has reached.
        told_level: the highest that somebody was told of; 0 when nobody was.
        changes: how many changes there were, the firing itself included.
    """

    alert_id: str
    org_id: str | None
    rule: str
    subject: str
    level: int
    told_level: int
    changes: int
    fired_at: datetime
    severity: Severity
    summary: str
    figures: Mapping[str, Any]
    next_step: str
    is_test: bool

    @property
    def key(self) -> Key:
        """By which the alert is known."""
        return self.org_id, self.rule, self.subject


class Silence(NamedTuple):
    """A time for which nobody is told of some alerts: all of an org's, of a rule, or of one subject of it.

    Attributes:
        org_id: whose alerts; None for the operator's own.
        rule, subject: which; None for all.
        starts_at, ends_at: the half-open time, by the org's clock.
    """

    silence_id: str
    org_id: str | None
    rule: str | None
    subject: str | None
    starts_at: datetime
    ends_at: datetime

    def covers(self, key: Key, now: datetime) -> bool:
        """Whether nobody is to be told of that alert now."""
        org_id, rule, subject = key
        return (
            self.org_id == org_id
            and self.rule in {None, rule}
            and self.subject in {None, subject}
            and self.starts_at <= now < self.ends_at
        )


class Transition(NamedTuple):
    """A change of an alert.

    Attributes:
        change: what happened.
        was: the alert as it fired before; None when it begins to fire.
        level, severity, summary, figures, next_step: as they are from now on; of a resolved one, as they were last.
        held_back: why nobody is told: `silence:ID`, `quiet_hours`, `min_severity` or, of a resolved one, `never_told`;
            None when it is told.
        at: when, by the org's clock.
    """

    change: Change
    was: Firing | None
    org_id: str | None
    rule: str
    subject: str
    level: int
    severity: Severity
    summary: str
    figures: Mapping[str, Any]
    next_step: str
    is_test: bool
    held_back: str | None
    at: datetime

    @property
    def key(self) -> Key:
        """By which the alert is known."""
        return self.org_id, self.rule, self.subject


def alert_id(key: Key, time: int) -> str:
    """The id of an alert, the `time`-th time that it fires: a hash, so that nobody reads from it how many there are."""
    said = "\n".join(("tallystick alert v1", key[0] or "", key[1], key[2], str(time)))
    return "al_" + hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def customers_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are a customer's to know."""
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if not name.startswith(OURS):
            found[name] = [customers_figures(one) for one in value] if isinstance(value, list) else value
    return found


def counted(count: int, one: str, many: str | None = None) -> str:
    """So many of something, such as `1 day` and `1,000 days`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
