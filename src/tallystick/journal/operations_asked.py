"""What a group of operations names: orgs, holds, ids to be looked up; and what is due without being named."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from tallystick.contract.windows import window_at
from tallystick.core.errors import NotFound
from tallystick.core.periods import load_zone
from tallystick.dispute.awards import awards_of
from tallystick.journal.database import Connection
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_load import Place
from tallystick.journal.operations_script import Script
from tallystick.journal.round_trips import texts
from tallystick.ledger.dispute_operations import StepDispute
from tallystick.ledger.operations import Authorize, Operation, Refund, ReleaseHold, Settle, Settled


class Asked:
    """What the items of a group name.

    Attributes:
        orgs: in the order in which heads are locked.
        ids: org, kind and request id of operations that may be stored already.
        claims: those of them whose ids stay claimed when their entries leave the database.
        holds: that are to be settled or released.
        works: org, action and key of work that may be finished already.
        settlements: that are to be refunded.
        settled: those of them that have left the database, and were read elsewhere.
        budgets: orgs whose budgets change.
        decided: orgs that something is decided on.
        requests: what is asked for, with its org and user.
        settles: the settlements.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self.orgs: list[str] = []
        self.ids: list[tuple[str, str, str]] = []
        self.claims: list[tuple[str, str, str]] = []
        self.holds: dict[Place, None] = {}
        self.works: set[tuple[str, str, str]] = set()
        self.settlements: set[Place] = set()
        self.settled: dict[Place, Settled] = {}
        self.budgets: set[str] = set()
        self.decided: set[str] = set()
        self.requests: list[tuple[str, Authorize, str | None]] = []
        self.settles: list[Operation] = []
        orgs = set()
        for one in items:
            org_id = one.org_id
            orgs.add(org_id)
            if not isinstance(one, Operation):
                self.decided.add(org_id)
                continue
            request = one.request
            if isinstance(request, Settle | ReleaseHold):
                self.holds[org_id, request.hold_seq] = None
                if isinstance(request, Settle):
                    self.settles.append(one)
                continue
            self.ids.append((org_id, one.kind, one.request_id))
            if isinstance(request, Authorize):
                self.decided.add(org_id)
                self.requests.append((org_id, request, one.user_id))
                if request.action is not None and request.work_key is not None:
                    self.works.add((org_id, request.action, request.work_key))
                continue
            self.claims.append(self.ids[-1])
            if isinstance(request, Refund):
                self.settlements.add((org_id, request.settlement_seq))
                if one.settled is not None:
                    self.settled[org_id, request.settlement_seq] = one.settled
            elif isinstance(request, StepDispute):
                self._add_awards(one, request)
            elif one.kind == "budget":
                self.budgets.add(org_id)
        self.orgs = sorted(orgs)

    def _add_awards(self, one: Operation, request: StepDispute) -> None:
        """What a dispute gives back is looked for as if somebody had asked for it."""
        for award in awards_of(request):
            self.ids.append((one.org_id, award.kind, award.request_id))
            self.claims.append(self.ids[-1])
            if isinstance(award.request, Refund):
                place = (one.org_id, award.request.settlement_seq)
                self.settlements.add(place)
                if place[1] in one.charges:
                    self.settled[place] = one.charges[place[1]]


def included_month(org: OrgWork, now: datetime) -> tuple[str, datetime] | None:
    """The month that `now` falls in on the org's clocks, such as `2026-11`, and its end; None where nothing is due.

    Something is due where the plan includes credits, and none are known to be given for that month.
    """
    plan = None if org.contract is None or org.row.plan is None else org.contract.plans.get(org.row.plan)
    if plan is None or not plan.included_credits or org.row.time_zone is None:
        return None
    window = window_at("month", org.row.time_zone, now)
    label = window.starts_at.astimezone(load_zone(org.row.time_zone)).strftime("%Y-%m")
    return None if org.progress.included == label else (label, window.ends_at)


def included_id(month: str) -> str:
    """The request id of the grant of included credits: there is one for each org and month."""
    return f"included:{month}"


def known_orgs(connection: Connection, orgs: list[str]) -> set[str]:
    """Those of the orgs that there are."""
    script = Script()
    script.call("known", texts(orgs))
    return {org_id for (org_id,) in script.run(connection)["known"]}


def unknown_org(org_id: str) -> NotFound:
    """The answer to an operation on an org that nobody knows."""
    return NotFound(
        "unknown_org",
        f"there is no org {org_id!r}: it has neither an event nor a subscription",
        next_step="check the id; put a new customer on a plan: tally orgs set",
        where="org_id",
    )
