"""Orgs as a group has left them, for the next one: what nobody has changed since need not be read again.

Whatever happens to an org's account is an entry, so that an org whose head stands where it stood is as it was, but for
what comes from elsewhere: other terms (`Reader` watches the register for them), the end of a hold that is not loaded
(`OrgWork.look_at`), and time, which the state machine sees to. What is counted is none: an org of which entries are
left to be counted is not kept, since another process may count them and leave no trace in the head.

Where several processes write for the same orgs, most of what is kept is in vain. An org that another has written to is
therefore read as a whole for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from tallystick.journal.operations_group import OrgWork

_ORGS_MAX = 10_000
_WEIGHT_MAX = 300_000
"""Holds, lots and counters of all orgs together, and the orgs themselves: a few hundred megabytes at most."""
_HOLDS_MAX = 1000
_LOTS_MAX = 1000
_COUNTERS_MAX = 10_000
_GROUPS_DISTRUSTED = 16


class _Kept(NamedTuple):
    org: OrgWork
    learned: int
    at: datetime
    weight: int


class KeptOrgs:
    """The orgs that one writer keeps.

    Attributes:
        weight: of all of them.
    """

    def __init__(self) -> None:
        self.weight = 0
        self._kept: dict[str, _Kept] = {}
        self._distrusted: dict[str, int] = {}

    def take(self, orgs: Iterable[str]) -> dict[str, _Kept]:
        """Those of these orgs that are kept; they are so no longer."""
        taken = {}
        for org_id in orgs:
            kept = self._kept.pop(org_id, None)
            if kept is not None:
                taken[org_id] = kept
                self.weight -= kept.weight
        return taken

    def clear(self) -> None:
        """Keep none of them any longer."""
        self._kept.clear()
        self.weight = 0

    def put(self, orgs: Iterable[OrgWork], learned: int, now: datetime) -> None:
        """Keep orgs that were taken, after the commit.

        Args:
            learned: where the register stood when they were read.
            now: the instant that they were decided on at.
        """
        for org in orgs:
            left = self._distrusted.get(org.org_id, 0)
            if left:
                self._distrusted[org.org_id] = left - 1
                if left == 1:
                    del self._distrusted[org.org_id]
            elif (weight := _weight(org)) is not None and not org.is_left_uncounted:
                org.committed()
                self._kept[org.org_id] = _Kept(org, learned, now, weight)
                self.weight += weight
        while len(self._kept) > _ORGS_MAX or self.weight > _WEIGHT_MAX:
            self.take([next(iter(self._kept))])  # the one that was put here first: taking one puts it last

    def is_as_it_was(self, kept: _Kept, seq: int, learned: int, now: datetime) -> bool:
        """Whether the org is still as it was kept.

        Args:
            seq: where its head stands, which is locked.
            learned: where the register stands.
        """
        org = kept.org
        if org.head.seq != seq:
            if len(self._distrusted) > _ORGS_MAX:
                self._distrusted.clear()
            self._distrusted[org.org_id] = _GROUPS_DISTRUSTED
            return False
        if org.counters is not None and any(now >= window.ends_at for window in org.counters.windows.values()):
            return False  # another may have begun to count in the next one: that adds no entry
        until = org.row.terms_until
        return kept.learned == learned and kept.at <= now and (until is None or now < until)


def _weight(org: OrgWork) -> int | None:
    """What it takes to keep the org; None where that is too much for one."""
    account = org.account
    holds, lots = len(account.holds), len(account.wallet.lots)
    counters = len(account.used) + len(account.reserved) + len(org.known)
    is_small = holds <= _HOLDS_MAX and lots <= _LOTS_MAX and counters <= _COUNTERS_MAX
    return 1 + holds + lots + counters if is_small else None
