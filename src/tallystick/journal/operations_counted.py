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
        row = org.row
        org.counters = None
        counters = counters_of(org_id, org.contract, row.plan, row.time_zone, org.account.budgets, now)
        if counters is None:
            continue
        anew = counters.stale(org.progress)
        last_seq, counted = org.head.seq, org.counted_through_seq
        is_behind = bool(counters.counting.rules) and counted < last_seq
        if (anew or is_behind) and org_id not in asked.decided:
            continue
        forget_all = org.progress.counted != counters.counting.signature
        if anew or is_behind or forget_all:
            backlog = Backlog(counters, anew, counted, last_seq, forget_all)
            if counters.counting.rules and backlog.entries_max > COUNTED_AT_ONCE:
                raise FarBehind(org_id)
            backlogs.append(backlog)
            org.progress.counted = counters.counting.signature
            org.progress.starts = {per: window.starts_at for per, window in counters.windows.items()}
            org.is_caught_up = True
        is_current = not (anew or is_behind or forget_all)
        org.counters, org.counted_through_seq = counters, last_seq
        if not is_current:
            org.forget_counters()
        elif hints.get(org_id) is counters.counting:
            add_counters(org, loaded.get(org_id, ()))
            org.known.update(counters.names())
        if org_id in asked.decided:
            wanted = [name for name in counters.names(spenders[org_id]) if name not in org.known]
            org.known.update(wanted)
            names += [(org_id, *name) for name in wanted]
    return backlogs, names


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
