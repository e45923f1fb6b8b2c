"""Which counters a group's decisions look at, and whose are behind.

Where what is counted for an org is what was counted for it before, its counters of limits were read together with
everything else (`hints`), or it was kept with them, and nothing more is to be asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tallystick.contract.decision import Budget
from tallystick.journal.counters import Backlog, Counting, counters_of
from tallystick.journal.operations_asked import Asked
from tallystick.journal.operations_group import OrgWork

COUNTED_AT_ONCE = 200_000
"""How many entries are added to counters in one transaction: about a second, for which the org's writers wait."""


class FarBehind(Exception):
    """An org's counters are so far behind that they are to be brought up in steps first: `journal.operations_count`."""

    def __init__(self, org_id: str) -> None:
        super().__init__(org_id)
        self.org_id = org_id


def what_to_count(
    asked: Asked,
    hints: Mapping[str, Counting],
    loaded: Mapping[str, list[Any]],
    orgs: Mapping[str, OrgWork],
    now: datetime,
) -> tuple[list[Backlog], list[tuple[str, str, datetime | None]]]:
    """Whose counters are behind, and the counters that decisions will look at.

    Where nothing is decided in this group, counters that are behind stay so: the next decision sees to it.
    """
    backlogs: list[Backlog] = []
    names: list[tuple[str, str, datetime | None]] = []
    spenders = defaultdict[str, list[tuple[Budget, str]]](list)
    for org_id, request, user_id in asked.requests:
        spenders[org_id] += orgs[org_id].account.applying(request, user_id)
    for org_id, org in orgs.items():
        if org.counters is None:  # else it was kept with them
            backlog = _counted(org, asked, hints, loaded, now)
            if backlog is not None:
                backlogs.append(backlog)
        if org_id in asked.decided:
            names += _names(org, spenders[org_id])
    return backlogs, names


def _counted(
    org: OrgWork, asked: Asked, hints: Mapping[str, Counting], loaded: Mapping[str, list[Any]], now: datetime
) -> Backlog | None:
    """Have the org's counters, unless they stay behind; what is to be added to them first, where they are."""
    org_id, row = org.org_id, org.row
    counters = counters_of(org_id, org.contract, row.plan, row.time_zone, org.account.budgets, now)
    if counters is None:
        return None
    anew = counters.stale(org.progress)
    last_seq, counted = org.head.seq, org.counted_through_seq
    is_behind = bool(counters.counting.rules) and counted < last_seq
    if (anew or is_behind) and org_id not in asked.decided:
        return None
    forget_all = org.progress.counted != counters.counting.signature
    backlog = None
    if anew or is_behind or forget_all:
        backlog = Backlog(counters, anew, counted, last_seq, forget_all)
        if counters.counting.rules and backlog.entries_max > COUNTED_AT_ONCE:
            raise FarBehind(org_id)
        org.progress.counted = counters.counting.signature
        org.progress.starts = {per: window.starts_at for per, window in counters.windows.items()}
        org.is_caught_up = True
        org.forget_counters()
    elif hints.get(org_id) is counters.counting:
        add_counters(org, loaded.get(org_id, ()))
        org.known.update(counters.names())
    org.counters, org.counted_through_seq = counters, last_seq
    return backlog


def _names(org: OrgWork, spenders: Iterable[tuple[Budget, str]]) -> list[tuple[str, str, datetime | None]]:
    """The counters that decisions on the org will look at, as far as they are not known."""
    if org.counters is None:
        return []
    wanted = [name for name in org.counters.names(spenders) if name not in org.known]
    org.known.update(wanted)
    return [(org.org_id, *name) for name in wanted]


def by_org(rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """Counters as they were loaded, org by org."""
    by_org = defaultdict[str, list[Any]](list)
    for org_id, *rest in rows:
        by_org[org_id].append(rest)
    return by_org


def add_counters(org: OrgWork, rows: Iterable[Any]) -> None:
    """Have the org's account know what its counters say."""
    for counter, start, used in rows:
        if start is None:
            org.account.reserved[counter] = used
        else:
            org.account.used[counter, start] = used
