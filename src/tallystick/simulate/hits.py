"""Who would hit what: the reasons that a contract would give, the limits that would be passed, when and how often."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from tallystick.contract.decision import Decision, LimitLooked, ReasonCode, Verdict

Kind = Literal["hard", "soft"]


class Hit(msgspec.Struct, kw_only=True):
    """One reason, limit or budget that one org met.

    Attributes:
        code: the reason to deny; None of a soft limit, which is passed and denies nothing.
        limit: the limit or budget; None for a reason that is of none.
        requests: how many authorized requests met it.
        events: how many events that were recorded without asking.
        first, last: when the first and the last did.
    """

    plan: str
    code: ReasonCode | None
    limit: str | None
    kind: Kind
    requests: int = 0
    events: int = 0
    first: datetime
    last: datetime


class Hits:
    """A fold over decisions; it grows with the reasons and limits that there are."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ReasonCode | None, str | None, Kind], Hit] = {}

    def add(self, decision: Decision, at: datetime, *, asked: bool) -> None:
        """A decision. In shadow mode, what enforcement would have answered is what counts."""
        verdict: Decision | Verdict = decision if decision.enforced is None else decision.enforced
        if not verdict.allow:
            limit = _passed(decision, verdict.code)
            self._count(decision.plan, verdict.code, limit, "hard", at, asked)
        for one in decision.limits:
            if one.kind == "soft" and one.exceeded:
                self._count(decision.plan, None, one.name, "soft", at, asked)

    def all(self) -> list[Hit]:
        """What was met, the most often met first."""
        return sorted(
            self._found.values(),
            key=lambda hit: (-hit.requests - hit.events, hit.plan, hit.code or "", hit.limit or ""),
        )

    def _count(
        self, plan: str, code: ReasonCode | None, limit: str | None, kind: Kind, at: datetime, asked: bool
    ) -> None:
        key = (plan, code, limit, kind)
        hit = self._found.get(key)
        if hit is None:
            hit = Hit(plan=plan, code=code, limit=limit, kind=kind, first=at, last=at)
            self._found[key] = hit
        hit.first, hit.last = min(hit.first, at), max(hit.last, at)
        hit.requests += asked
        hit.events += not asked


def _passed(decision: Decision, code: ReasonCode) -> str | None:
    """The first hard limit or budget that is passed, when that is the reason."""
    what = {"hard_limit_reached": "limit", "budget_exceeded": "budget"}.get(code)
    passed: list[LimitLooked] = [one for one in decision.limits if one.what == what and one.exceeded]
    return next((one.name for one in passed if one.kind == "hard"), None)
