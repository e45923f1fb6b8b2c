"""The first round trip of reading: what is asked for as the heads are locked, and what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tallystick.journal.counters import Counting, OrgCounters, load_counters
from tallystick.journal.heads import Head
from tallystick.journal.operations_asked import Asked
from tallystick.journal.operations_counted import by_org
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_load import (
    ENDED_HOLDS_MAX,
    HoldRow,
    OrgRow,
    Place,
    StoredOperation,
    charged_of,
    columns,
    finished_of,
    lots_of,
    places,
)
from tallystick.journal.operations_script import Script, instant
from tallystick.journal.round_trips import texts
from tallystick.ledger.org_account import OpenHold

_LOOK_AHEAD = timedelta(seconds=10)
"""For how long nobody need ask which holds of an org have come to their end, once that was asked."""


class First:
    """What the first round trip found, under the locks of the heads.

    Attributes:
        learned: where the register stands.
        kept: the orgs that are as they were kept; of the others there are rows.
        looked: the orgs of which it was asked which holds are over.
        hints: what was counted for orgs before: their counters of limits were read on that guess.
    """

    def __init__(
        self,
        heads: dict[str, Head],
        learned: int,
        kept: dict[str, OrgWork],
        looked: list[str],
        hints: Mapping[str, Counting],
        found: Mapping[str, list[Any]],
        asked: Asked,
    ) -> None:
        self.heads = heads
        self.learned = learned
        self.kept = kept
        self.looked = looked
        self.hints = hints
        self.rows = [OrgRow(*row) for row in found.get("accounts", ())]
        self.lots = lots_of(found.get("lots", ()))
        self.holds = [HoldRow(*row) for query in ("ended_holds", "holds", "open_holds") for row in found.get(query, ())]
        self.ended: list[Place] = [(row[0], row[1]) for row in found.get("ended_holds", ())]
        self.stored = {asked.ids[place - 1]: StoredOperation(*row) for place, *row in found.get("stored", ())}
        self.finished = finished_of(found.get("finished", ()))
        self.claimed = {asked.claims[place - 1] for (place,) in found.get("claimed", ())}
        refunded = (found.get("refunds", ()), found.get("refunds_left", ()))
        self.charged = charged_of(found.get("settlements", ()), asked.settled, *refunded)
        self.counters = by_org(found.get("load_counters", ()))


def ask_about(script: Script, orgs: list[str], looked: list[str], hints: Mapping[str, Counting], now: datetime) -> None:
    """Ask for the accounts of orgs, and of some for the holds that are over, or soon will be."""
    if orgs:
        script.call("accounts", texts(orgs), instant(now))
        script.call("lots", texts(orgs))
    if looked:
        script.call("ended_holds", texts(looked), instant(now + _LOOK_AHEAD), b"%d" % ENDED_HOLDS_MAX)
    names = [
        (org_id, *name) for org_id, counting in hints.items() for name in OrgCounters(org_id, counting, now).names()
    ]
    if names:
        load_counters(script, names)


def ask_for(script: Script, asked: Asked, known: Mapping[str, OrgWork]) -> None:
    """Ask for what the operations name, but for holds of orgs that are known to have them."""
    holds = [
        (org_id, seq) for org_id, seq in asked.holds if org_id not in known or seq not in known[org_id].account.holds
    ]
    if holds:
        script.call("holds", *places(holds))
    if asked.ids:
        script.call("stored", *columns(asked.ids))
    if asked.works:
        script.call("finished", *columns(asked.works))
    if asked.settlements:
        script.call("settlements", *places(asked.settlements))
        script.call("refunds", *places(asked.settlements))
        script.call("refunds_left", *places(asked.settlements))
    if asked.claims:
        script.call("claimed", *columns(asked.claims))
    if asked.budgets:
        script.call("open_holds", texts(sorted(asked.budgets)))


def looked_for(first: First, holds: Mapping[Place, OpenHold], now: datetime) -> tuple[dict[str, datetime], str | None]:
    """For the orgs that were looked at, when to look for holds that are over again; and an org that may have more of
    them than were read.
    """
    look_at = dict.fromkeys(first.looked, now + _LOOK_AHEAD)
    ended = Counter[str]()
    for org_id, seq in first.ended:
        expires_at = holds[org_id, seq].held.expires_at
        if expires_at <= now:
            ended[org_id] += 1
        else:
            look_at[org_id] = min(look_at[org_id], expires_at)
    crowded = [org_id for org_id, count in ended.items() if count >= ENDED_HOLDS_MAX]
    look_at |= dict.fromkeys(crowded, now)
    return look_at, next(iter(crowded), None)
