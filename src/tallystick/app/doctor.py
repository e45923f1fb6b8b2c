"""`tally doctor`: everything that an operator would ask of a place, each with a reason and the next step.

    this machine     data directory, disk, queues, keys, the gateway's file, time zones, the last backup; always
    the database     that it answers, its schema, its settings and clock, the walls between tenants
    the ledger       rate cards, contracts, plans, prices, sealing, holds, keys, jobs, rollups; where the schema is ours

What `/readyz` looks at is looked at by the same functions. A check that cannot be made is named, and is no failure of
its own: what keeps it from being made is. Nothing is changed; a schema that is behind is not brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg

from tallystick.app.health import Check, Figures
from tallystick.app.runtime import Runtime, utc_now
from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError
from tallystick.core.instants import Clock, format_instant

Level = Literal["ok", "warn", "fail"]
_LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the check.
        level: `ok`; `warn`: it works, and somebody should see to it; `fail`: something does not work, or is in danger.
        detail: what was found, in a sentence.
        next_step: what to do about it; None where there is nothing to do.
        figures: what was measured.
    """

    name: str
    level: Level
    detail: str
    next_step: str | None = None
    figures: Figures = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            "name": self.name,
            "level": self.level,
            "detail": self.detail,
            "next_step": self.next_step,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found: every finding in the order of looking, and the checks that could not be made."""

    at: str
    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        return max((one.level for one in self.findings), key=_LEVELS.index, default="ok")

    def count(self, level: Level) -> int:
        """How many findings are of that level."""
        return sum(one.level == level for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            "at": self.at,
            "level": self.level,
            "ok": self.count("ok"),
            "warn": self.count("warn"),
            "fail": self.count("fail"),
            "checks": [one.as_dict() for one in self.findings],
            "not_checked": list(self.not_checked),
        }


Look = Callable[[], Finding | Sequence[Finding]]


class Examination:
    """Findings as they are gathered: a check that goes wrong is a finding, and never the end of the examination."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.not_checked: list[str] = []

    def look(self, name: str, look: Look) -> bool:
        """Make a check; whether nothing failed in it."""
        try:
            found = look()
        except TallyError as error:
            found = Finding(name, "fail", f"{error} [{error.code}]", error.next_step)
        except OSError as error:
            found = Finding(name, "fail", f"it could not be looked at: {error}", "see to the file or the disk")
        except psycopg.Error as error:  # a page that cannot be read, a right that was taken away
            said = " ".join(str(error).split())
            found = Finding(name, "fail", f"the database cannot say: {said}", "see to the server, and its log")
        ones = [found] if isinstance(found, Finding) else list(found)
        self.findings += ones
        return all(one.level != "fail" for one in ones)


def from_check(check: Check, next_step: str, *, level: Level = "fail") -> Finding:
    """A check of readiness as a finding; `level` and `next_step` are for when it is not as it should be."""
    if check.ok:
        return Finding(check.name, "ok", check.detail, figures=check.figures)
    return Finding(check.name, level, check.detail, next_step, check.figures)


def examine(settings: Settings, clock: Clock = utc_now, *, backup_days_max: int = 7) -> Diagnosis:
    """Look at everything that can be looked at.

    Args:
        settings: of the place.
        clock: the present instant.
        backup_days_max: how old the last backup may be before it is worth a warning.
    """
    from tallystick.app import doctor_database, doctor_ledger, doctor_machine

    found = Examination()
    with ExitStack() as stack:
        doctor_machine.examine(found, settings, clock(), backup_days_max)
        database = doctor_database.examine(found, settings, clock, stack)
        runtime: Runtime | None = None
        if database is not None:
            runtime = doctor_database.open_as_it_is(found, settings, clock, database, stack)
        if runtime is not None:
            doctor_ledger.examine(found, runtime)
        else:
            found.not_checked += doctor_ledger.NAMES
    return Diagnosis(format_instant(clock()), tuple(found.findings), tuple(found.not_checked))
