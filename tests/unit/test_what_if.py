"""One org's history under a draft contract, entry by entry, in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from invoicing import event, usage_entry
from tallystick.contract.loader import load_contract
from tallystick.rates.model import Cost
from tallystick.simulate.what_if import PENDING_MAX, OrgWhatIf

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
DRAFT = load_contract(
    """
contract: c
version: "1"
effective_from: 2026-01-01
plans: {p: {limits: [{meters: [tool_calls], max: 1, per: minute, kind: hard}]}}
environments: {staging: {charge: false}}
""",
    "c.yaml",
)
FREE = Cost(provider="openai", model="m", lines=(), total_pico=0, status="final", rate_version="v")
BASE = usage_entry(event("r", meters={"tool_calls": 1}), FREE)


def what_if(budgets: bool = False) -> OrgWhatIf:
    return OrgWhatIf(DRAFT, lambda _: "p", "UTC", START, END, budgets=budgets)


def used(seq: int, time: datetime, **more: object):
    return BASE._replace(seq=seq, request_id=f"r{seq}", time=time, recorded_at=time, **more)


def test_very_many_windows_are_counted_exactly_and_not_all_kept() -> None:
    one, last = what_if(), START
    for seq in range(1, 45_001):
        last = START + timedelta(minutes=seq)
        one.take(used(seq, last))
    one.take(used(45_001, last + timedelta(seconds=1)))
    one.finish()
    (hit,) = one.hits.all()
    assert (hit.events, hit.first, hit.limit) == (1, last + timedelta(seconds=1), "tool_calls per minute")
    assert one.events == 45_001
    assert len(one._account.used) < 40_000


def test_events_that_come_together_wait_in_bounded_memory_and_none_is_lost() -> None:
    one = what_if()
    for seq in range(1, 3 * PENDING_MAX):
        one.take(used(seq, START))
        assert len(one._pending) <= PENDING_MAX
    one.finish()
    assert one.events == 3 * PENDING_MAX - 1
    assert one.hits.all()[0].events == one.events - 1


def test_what_lies_outside_the_time_is_not_looked_at_and_what_is_never_billed_counts_for_nothing() -> None:
    one = what_if()
    minute = START + timedelta(minutes=1)
    for seq, (time, environment) in enumerate(
        [
            (START - timedelta(minutes=1), "production"),
            (START - timedelta(minutes=1), "production"),
            (minute, "staging"),
            (minute, "staging"),
            (minute, "production"),
            (END, "production"),
            (END, "production"),
        ],
        start=1,
    ):
        one.take(used(seq, time, environment=environment))
    one.finish()
    assert (one.events, one.hits.all()) == (3, [])
