"""Whatever happens to an org, by whichever writer: what one has kept of it is what it would read anew."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from account_operations import authorize, event, grant, refund, release, settle, wrongs
from examples import examples
from kept_writers import NOW, Writers
from tallystick.app.contracts import apply_contract
from tallystick.app.erase import erase_person
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.verify import verify_ledger
from tallystick.contract.decision import Budget, Override
from tallystick.journal import operations_first, operations_kept, operations_writer
from tallystick.journal.operations_asked import Asked, included_id, included_month
from tallystick.journal.operations_counted import FarBehind
from tallystick.journal.operations_group import OrgWork
from tallystick.journal.operations_load import HoldCache
from tallystick.journal.operations_read import Found, ManyEnded, Reader
from tallystick.journal.operations_writer import OperationWork, Upkeep
from tallystick.ledger.operations import (
    Held,
    Operation,
    OperationRequest,
    Recorded,
    SetBudget,
    SetOverride,
    SetStanding,
    Settled,
)

CONTRACT = """\
contract: {name}
version: "{version}"
effective_from: {since}
currency: USD
credit: {{name: credit, usd: "0.01"}}
holds: {{life: 30s}}
actions:
  tailor_document: {{title: Tailor a document, price: {{credits: {price}}}, charge_on: [success], shows: credits.}}
plans:
  small: {{title: Small, kind: credits, base: "0", top_up: true}}
  monthly: {{title: Monthly, kind: credits, base: "10", top_up: true, included_credits: 20}}
  metered:
    title: Metered
    base: "0"
    limits:
      - {{meters: [tokens_in], max: 400, per: minute, kind: hard}}
      - {{meters: [tokens_in, tokens_out], max: 3000, per: day, kind: hard}}
      - {{meters: [tokens_in], max: 9000, per: month, kind: soft}}
"""
PLANS = ("small", "monthly", "metered")
USERS = ("ann", "bob")
PAUSES = [timedelta(seconds=one) for one in (0, 1, 8, 10, 30, 31, 61, 3600)]
WRITERS = 3
_numbers = itertools.count(1)


class Now:
    """The present instant of all processes."""

    def __init__(self) -> None:
        self.value = NOW

    def __call__(self) -> datetime:
        return self.value


class Compared(Reader):
    """A reader that makes sure that it finds what another would that has kept nothing."""

    def read(self, connection: Any, items: Any, now: datetime, *, probe: bool) -> Found:
        try:
            fresh = Reader(HoldCache()).read(connection, items, now, probe=probe)
        except (ManyEnded, FarBehind):
            connection.rollback()
            return super().read(connection, items, now, probe=probe)
        connection.rollback()
        found = super().read(connection, items, now, probe=probe)
        assert found.orgs.keys() == fresh.orgs.keys()
        for name in ("stored", "resolutions", "usage", "cores"):
            assert getattr(found, name) == getattr(fresh, name), name
        asked = Asked(items)
        for org_id, org in found.orgs.items():
            requests = [(one, user) for at, one, user in asked.requests if at == org_id]
            compare(org, fresh.orgs[org_id], found, now, requests)
        return found


def compare(kept: OrgWork, fresh: OrgWork, found: Found, now: datetime, requests: list[Any]) -> None:
    """That what is known of an org is what was read of it, as far as this group can look at it."""
    assert kept.head == fresh.head
    for name in ("contract", "plan", "time_zone", "version", "sha256", "terms_until"):
        assert getattr(kept.row, name) == getattr(fresh.row, name), name
    assert kept.contract == fresh.contract
    mine, read = kept.account, fresh.account
    assert mine.terms == read.terms
    assert mine.wallet.state() == read.wallet.state()
    assert [repr(lot) for lot in mine.wallet.burning()] == [repr(lot) for lot in read.wallet.burning()]
    for seq, lot in read.wallet.lots.items():
        assert (repr(mine.wallet.lots[seq]), mine.wallet.lots[seq].key) == (repr(lot), lot.key)
    for seq, hold in read.holds.items():
        assert mine.holds[seq] == hold
        assert kept.holds[seq][:5] == fresh.holds[seq][:5]
    over = [{seq for seq, hold in one.holds.items() if hold.held.expires_at <= now} for one in (mine, read)]
    assert over[0] == over[1] or len(over[1]) >= operations_first.ENDED_HOLDS_MAX
    assert all(hold.held.decision.contract_sha256 in found.contracts for hold in mine.holds.values())
    assert (mine.finished, mine.resolved, mine.charged) == (read.finished, read.resolved, read.charged)
    to_be_saved: tuple[Any, ...] = (mine.opened, mine.closed, mine.newly_finished, mine.reserved_changes)
    to_be_saved += (mine.wallet.changed, mine.terms_changed, kept.transfers, kept.settled, kept.is_kept_up)
    assert not any(to_be_saved)
    due = included_month(fresh, now)
    if included_month(kept, now) != due:
        assert due is not None
        assert (kept.org_id, "grant", included_id(due[0])) in found.stored
    assert (kept.counters is None) == (fresh.counters is None)
    if kept.counters is not None and fresh.counters is not None:
        assert (kept.progress.counted, kept.progress.starts) == (fresh.progress.counted, fresh.progress.starts)
        assert kept.counters.windows == fresh.counters.windows
        assert kept.is_caught_up == fresh.is_caught_up
        assert kept.counted_through_seq == fresh.counted_through_seq
        spenders = [one for request, user in requests for one in mine.applying(request, user)]
        for counter, start in kept.counters.names(spenders) if requests else ():
            if start is None:
                assert mine.reserved.get(counter, 0) == read.reserved.get(counter, 0), counter
            else:
                assert mine.used.get((counter, start), 0) == read.used.get((counter, start), 0), counter


@pytest.fixture
def clock() -> Now:
    return Now()


@pytest.fixture
def on_the_clock(database_url: str, tmp_path: Path, clock: Now) -> Iterator[Runtime]:
    with open_runtime(Settings(database_url=database_url, data_dir=tmp_path), clock) as opened:
        yield opened


@pytest.fixture(params=[3, 200])
def ended_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many holds that are over one group ends."""
    for module in (operations_first, operations_writer):
        monkeypatch.setattr(module, "ENDED_HOLDS_MAX", request.param)
    return int(request.param)


@pytest.fixture
def writers(on_the_clock: Runtime, clock: Now, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writers]:
    monkeypatch.setattr(operations_kept, "_GROUPS_DISTRUSTED", 0)
    made = Writers(on_the_clock, WRITERS)
    made.works = [OperationWork(clock, lambda: on_the_clock.card, on_the_clock.random_bytes) for _ in range(WRITERS)]
    for work in made.works:
        work._reader = Compared(work._cache)
    yield made
    made.close()
    assert wrongs(on_the_clock) == []
    assert verify_ledger(on_the_clock, processes=1).findings.kept == []


class Story:
    """What happens to one org, and who writes it."""

    def __init__(self, writers: Writers, clock: Now, plan: str) -> None:
        number = next(_numbers)
        self.runtime, self.writers, self.clock = writers.runtime, writers, clock
        self.org, self.contract, self.version = f"org-{number}", f"contract-{number}", 0
        self.holds: list[Recorded] = []
        self.charges: list[Recorded] = []
        self.sent: list[Operation] = []
        self.group: list[Any] = []
        clock.value = NOW
        self.newest = NOW - timedelta(days=50)
        self.apply(timedelta(days=-40), 5)
        self.subscribe(plan, timedelta(days=-40))

    def apply(self, after: timedelta, price: int) -> None:
        self.version += 1
        self.newest = max(self.newest + timedelta(seconds=1), self.clock() + after)
        since = self.newest.isoformat().replace("+00:00", "Z")
        text = CONTRACT.format(name=self.contract, version=self.version, since=since, price=price)
        apply_contract(self.runtime, text, "contract.yaml")

    def subscribe(self, plan: str, after: timedelta) -> None:
        since = self.clock() + after
        set_subscription(
            self.runtime, self.org, contract=self.contract, plan=plan, time_zone="UTC", effective_from=since
        )

    def end_group(self, writer: int) -> None:
        group, self.group = self.group, []
        if not group:
            return
        for answer in self.writers.write(writer, *group):
            if not isinstance(answer, Recorded):
                continue
            if isinstance(answer.result, Held) and answer.seq not in [hold.seq for hold in self.holds]:
                self.holds.append(answer)
            if isinstance(answer.result, Settled):
                self.charges.append(answer)
        self.sent += [one for one in group if isinstance(one, Operation)]

    def do(self, kind: str, which: int, writer: int) -> None:
        """One thing more happens; what is no operation happens between two groups."""
        operation = self.operation(kind, which)
        if operation is not None:
            self.group.append(operation)
            return
        self.end_group(writer)
        match kind:
            case "usage":
                at = self.clock() - (timedelta(0), timedelta(hours=13), timedelta(days=3))[which % 3]
                used = event(self.org, time=at, user_id=USERS[which % 2], meters={"tokens_in": 50 * which})
                self.runtime.write([used]).result()
            case "counted elsewhere":
                self.do("usage", which, writer)
                self.do("grant", which, writer)
                self.end_group(writer)
                self.group.append(Upkeep(self.org))
                self.end_group((writer + 1) % WRITERS)
            case "pause":
                self.clock.value += PAUSES[which % len(PAUSES)]
            case "midnight":
                tomorrow = (self.clock() + timedelta(days=1)).replace(hour=0, minute=0, second=0)
                self.clock.value = tomorrow if which % 4 else (tomorrow + timedelta(days=31)).replace(day=1)
            case "plan":
                self.subscribe(PLANS[which % 3], timedelta(seconds=(which // 3) * 5))
            case "version":
                self.apply(timedelta(seconds=(1 + which % 3) * 5), 5 + which % 3)
            case "erasure":
                erase_person(self.runtime, self.org, USERS[which % 2])

    def operation(self, kind: str, which: int) -> Any:
        org, now, user = self.org, self.clock(), USERS[which % 2]
        match kind:
            case "upkeep":
                return Upkeep(org)
            case "authorize":
                key, worst = ("d1" if which % 3 == 2 else None), 10**7 * (which % 4)
                asked = {"work_key": key, "meters": {"tokens_in": 20 * which}, "worst_cost_pico": worst}
                action = "tailor_document" if which % 4 else None
                return authorize(org, user=user, **asked, action=action, provider="openai", model="gpt-4o")
            case "settle" if self.holds:
                hold = self.holds.pop(which % len(self.holds))
                used = event(org, time=now, meters={"tokens_in": 10 * which})
                return settle(hold, *[used] * (which % 3 > 0), outcome=("success", "failure")[which == 5])
            case "release" if self.holds:
                return release(self.holds.pop(which % len(self.holds)))
            case "refund" if self.charges:
                return refund(self.charges[which % len(self.charges)], which or None)
            case "grant":
                life = (None, timedelta(seconds=20), timedelta(hours=1), timedelta(days=1))[which % 4]
                return grant(org, 4 * which + 1, expires_at=None if life is None else now + life)
            case "again" if self.sent:
                return self.sent[-1 - which % len(self.sent)]
            case "budget":
                name, per = ("day", "month")[which % 2], ("day", "month")[which // 2 % 2]
                of, scope = ("cost", "charge")[which % 2], ("org", "user")[which // 3 % 2]
                guard = Budget(
                    name=name, scope=scope, subject=None, of=of, per=per, kind="hard", max_pico=10**8 * (1 + which)
                )
                return said(org, "budget", SetBudget(name=name, budget=guard if which else None, author="ann"))
            case "override":
                until = now + PAUSES[1 + which % 4]
                override = Override(seq=0, author="ann", reason="r", expires_at=until, allow_overspend=which % 2 > 0)
                return said(org, "override", SetOverride(override=override, approved_by="bob"))
            case "standing":
                mode: Any = (None, "shadow", "enforce")[which % 3]
                stop = "unpaid" if which == 4 else None
                return said(org, "standing", SetStanding(suspended=stop, enforcement=mode, author="ann"))
        return None


def said(org: str, kind: Any, request: OperationRequest) -> Operation:
    return Operation(org_id=org, kind=kind, request_id=f"k{next(_numbers)}", request=request, salt=os.urandom(16))


KINDS = (
    *["authorize"] * 5, *["settle"] * 3, *["grant"] * 2, *["usage"] * 3, *["pause"] * 3, "counted elsewhere",
    "release", "refund", "again", "upkeep", "midnight", "plan", "version", "erasure", "budget", "override", "standing",
)  # fmt: skip
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 7), st.integers(0, WRITERS - 1), st.booleans()),
    min_size=10,
    max_size=40,
)


@settings(
    max_examples=examples(7),
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(PLANS), steps)
def test_what_is_kept_of_an_org_is_what_would_be_read(
    writers: Writers, clock: Now, ended_at_once: int, plan: str, wanted: list[tuple[str, int, int, bool]]
) -> None:
    story = Story(writers, clock, plan)
    for kind, which, writer, ends in wanted:
        story.do(kind, which, writer)
        if ends:
            story.end_group(writer)
    for writer in range(WRITERS):
        story.group += [authorize(story.org, user=user, meters={"tokens_in": 1}) for user in USERS]
        story.end_group(writer)


def test_an_org_is_read_anew_when_another_may_have_counted_in_the_next_day(writers: Writers, clock: Now) -> None:
    story = Story(writers, clock, "metered")
    for kind, writer in (("authorize", 0), ("release", 0), ("midnight", 0), ("upkeep", 1), ("grant", 0)):
        story.do(kind, 1, writer)
        story.end_group(writer)
