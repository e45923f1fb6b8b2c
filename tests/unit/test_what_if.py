"""One org's history under a draft contract, entry by entry, in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from invoicing import event, usage_entry
from tallystick.contract.loader import load_contract
from tallystick.ledger.adjustment import Adjust, AdjustedMeter
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import encode_part, join_body
from tallystick.ledger.operations import Noted
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


SHARED = load_contract(
    """
contract: c
version: "1"
effective_from: 2026-01-01
plans:
  p:
    prices: {tokens_in: {cost_plus: "0.30"}, tool_calls: {unit: "1", per: 1_000_000}}
    limits: [{meters: [tool_calls], max: 100, per: day, kind: hard}]
environments: {staging: {charge: false}}
""",
    "c.yaml",
)
UNPRICED = Cost(
    provider="openai", model="m", lines=(), total_pico=None, status="unpriced", rate_version="v", reason="no rate"
)


def adjusted(seq: int, *lines: AdjustedMeter, **more: Any) -> Entry:
    said = {"of_seq": None, "provider": "openai", "model": "m", "environment": "production", "feature": "chat", **more}
    request = Adjust(lines=lines, source="x", source_sha256="0" * 64, author="a", reason="r", **said)
    body = join_body(encode_part(request), encode_part(Noted(effective_at=START))).decode()
    return BASE._replace(seq=seq, kind="adjustment", request_id=f"a{seq}", time=START, recorded_at=START, body=body)


def corrected(seq: int, of_seq: int, cost_pico: int) -> Entry:
    return used(seq, START, kind="correction", refers_to_seq=of_seq, cost_pico=cost_pico, payer=None)


def spent(one: OrgWhatIf, counter: str) -> int:
    return one._account.used.get((f"day:{counter}", START), 0)


def test_what_a_correction_and_an_adjustment_change_counts_under_the_draft_too() -> None:
    one = OrgWhatIf(SHARED, lambda _: "p", "UTC", START, END, budgets=True)
    unpriced = usage_entry(event("u", meters={"tokens_in": 10}), UNPRICED)._replace(payer=None)
    one.take(unpriced._replace(seq=1, time=START, recorded_at=START, user_id="u1", feature="chat"))
    one.take(unpriced._replace(seq=2, time=START, recorded_at=START, user_id="u2", environment="staging"))
    one.take(corrected(3, 1, 70))
    one.take(corrected(4, 2, 70))
    assert (spent(one, "cost:org"), spent(one, "charge:org")) == (140, 91)
    assert (spent(one, "cost:user:u1"), spent(one, "charge:user:u1")) == (70, 91)
    one.take(adjusted(5, AdjustedMeter("tokens_in", -5, -20), AdjustedMeter("tool_calls", 99, 0)))
    one.take(adjusted(6, AdjustedMeter("tool_calls", 50, 7), environment="staging"))
    one.take(adjusted(7, AdjustedMeter("tokens_in", 1, 9), payer="customer"))
    one.finish()
    charge = 91 - 26 + 99 * 10**6
    assert (spent(one, "meter:tool_calls"), spent(one, "cost:org"), spent(one, "charge:org")) == (99, 127, charge)
    assert (spent(one, "charge:feature:chat"), spent(one, "charge:user:u1")) == (charge, 91)
    one.take(used(8, START, meter_quantities=[2]))
    one.finish()
    assert [hit.limit for hit in one.hits.all()] == ["tool_calls per day"]
