"""Changes of plan: from when they hold, what they take the place of, what they cost, and all of it on record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from invoicing import CONTRACT, apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.invoices import requests_behind
from tallystick.app.orgs import find_org, leave_org, preview_change, set_subscription
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.core.errors import BadInput, NotFound
from tallystick.invoice.model import Invoice
from tallystick.invoice.proof import check_proof, read_proof

NOW = datetime(2026, 10, 15, 12, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
OCTOBER = "2026-10"

PLANS = """
contract: acme
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
plans:
  small: {title: Small, base: "10", prices: {tool_calls: {unit: "0.07"}}}
  large: {title: Large, base: "40", prices: {tool_calls: {unit: "0.05"}}}
  other: {title: Other, base: "10"}
"""


@pytest.fixture(autouse=True)
def begun(runtime: Runtime) -> None:
    apply(runtime, PLANS)
    subscribe(runtime, "globex", "small")
    runtime.clock = lambda: NOW


def put(runtime: Runtime, plan: str, when: str | None = None) -> tuple[str | None, datetime]:
    found = set_subscription(runtime, "globex", contract="acme", plan=plan, when=when)  # type: ignore[arg-type]
    return found.plan, found.effective_from


def schedule(runtime: Runtime) -> list[tuple[str | None, datetime]]:
    return [(one.plan, one.effective_from) for one in find_org(runtime, "globex").history[1:]]


def closed(runtime: Runtime, month: str = OCTOBER) -> Invoice:
    runtime.clock = lambda: datetime(2027, 2, 1, tzinfo=UTC)
    (result,) = close_month(runtime, month, ["globex"])
    assert result.invoice is not None, result.error
    return result.invoice


def test_an_upgrade_holds_at_once_and_a_downgrade_from_the_periods_end(runtime: Runtime) -> None:
    assert put(runtime, "large") == ("large", NOW)
    assert put(runtime, "small") == ("small", NOVEMBER)
    assert put(runtime, "small") == ("small", NOVEMBER)  # the same again
    assert schedule(runtime) == [("large", NOW), ("small", NOVEMBER)]
    assert find_org(runtime, "globex").subscription.plan == "large"  # type: ignore[union-attr]


def test_the_callers_word_goes_before_the_base_fee(runtime: Runtime) -> None:
    assert put(runtime, "large", "period_end") == ("large", NOVEMBER)
    assert put(runtime, "other") == ("other", NOW)  # as high a base fee: an upgrade, which takes the later one's place
    assert schedule(runtime) == [("large", NOVEMBER), ("other", NOW), ("other", NOVEMBER)]
    assert put(runtime, "small", "now") == ("small", NOW)


def test_the_plan_in_force_again_takes_back_what_was_to_come(runtime: Runtime) -> None:
    put(runtime, "large")
    put(runtime, "small")
    assert put(runtime, "large") == ("large", NOW)
    assert schedule(runtime) == [("large", NOW), ("small", NOVEMBER), ("large", NOVEMBER)]
    assert [(one.plan, one.days) for one in closed(runtime, "2026-11").sections] == [("large", 30)]


def test_a_period_ends_on_the_clocks_of_the_org(runtime: Runtime) -> None:
    runtime.clock = lambda: datetime(2026, 10, 31, 23, 30, tzinfo=UTC)  # November in Paris
    subscribe(runtime, "paris", "large", time_zone="Europe/Paris")
    found = set_subscription(runtime, "paris", contract="acme", plan="small")
    assert found.effective_from == datetime(2026, 11, 30, 23, tzinfo=UTC)


def test_who_leaves_pays_to_the_last_day_and_is_on_no_plan_after_it(runtime: Runtime) -> None:
    put(runtime, "large", "period_end")
    gone = leave_org(runtime, "globex", at=datetime(2026, 10, 20, 15, tzinfo=UTC))
    assert gone is not None
    assert (gone.plan, gone.contract) == (None, "acme")
    assert schedule(runtime)[1:] == [(None, datetime(2026, 10, 20, 15, tzinfo=UTC)), (None, NOVEMBER)]
    record(runtime, [event("after", time=datetime(2026, 10, 25, tzinfo=UTC))])
    invoice = closed(runtime)
    assert [(line.plan, line.kind, line.amount_usd) for line in invoice.lines] == [("small", "base_fee", "6.45")]
    assert [(one.reason, one.events) for one in invoice.not_charged.events] == [("no_plan", 1)]
    assert replay_invoice(runtime, "globex/2026-10").identical
    assert close_month(runtime, "2026-11") == []
    record(runtime, [event("later", time=datetime(2026, 11, 5, tzinfo=UTC))])
    (november,) = close_month(runtime, "2026-11")  # not passed over
    assert november.error is not None
    assert november.error.code == "no_subscription"


def test_leaving_without_a_word_is_at_the_periods_end_and_can_be_taken_back(runtime: Runtime) -> None:
    gone = leave_org(runtime, "globex")
    assert gone is not None
    assert (gone.plan, gone.effective_from) == (None, NOVEMBER)
    assert leave_org(runtime, "globex") == gone
    assert put(runtime, "small") == ("small", datetime(2026, 1, 1, tzinfo=UTC))
    assert schedule(runtime) == [(None, NOVEMBER), ("small", NOVEMBER)]
    with pytest.raises(NotFound, match="there is no org 'nobody'"):
        leave_org(runtime, "nobody")
    record(runtime, [event("r1", org_id="initech")])
    with pytest.raises(NotFound, match="never on a plan"):
        leave_org(runtime, "initech")


def test_a_preview_says_what_a_change_will_cost_and_records_nothing(runtime: Runtime) -> None:
    record(runtime, [event("r1", time=datetime(2026, 10, 14, tzinfo=UTC), meters={"tool_calls": 100})])
    seen = preview_change(runtime, "globex", contract="acme", plan="large").as_dict()
    assert (seen["change"], seen["from_plan"], seen["to_plan"]) == ("upgrade", "small", "large")
    assert (seen["effective_from"], seen["month"]) == ("2026-10-15T12:00:00Z", OCTOBER)
    # 10 + 7 without it; with it 10 × 14/31 = 4.52, 7, and 40 × 17/31 = 21.94.
    assert (seen["before"]["total_usd"], seen["after"]["total_usd"]) == ("17.00", "33.46")
    assert (seen["difference_usd"], seen["next_base_usd"]) == ("16.46", "40")
    assert schedule(runtime) == []
    put(runtime, "large")
    assert closed(runtime).totals.total_usd == "33.46"
    later = preview_change(
        runtime, "new", contract="acme", plan="small", effective_from=datetime(2027, 1, 31, tzinfo=UTC)
    )
    assert (later.before, later.direction, later.difference_usd) == (None, "join", "0.32")


def test_both_an_instant_and_a_word_are_refused(runtime: Runtime) -> None:
    with pytest.raises(BadInput) as refused:
        set_subscription(runtime, "globex", contract="acme", plan="large", effective_from=NOW, when="now")
    assert refused.value.code == "ambiguous_start"


def test_a_month_with_changes_replays_proves_and_shows_the_requests_of_each_plan(runtime: Runtime) -> None:
    put(runtime, "large")
    runtime.clock = lambda: datetime(2026, 10, 20, 12, tzinfo=UTC)
    put(runtime, "small", "now")
    runtime.clock = lambda: datetime(2026, 10, 21, tzinfo=UTC)
    times = {"a": 3, "b": 17, "c": 18, "d": 20, "e": 28}  # d at midnight: large's; e is small's again
    events = [
        event(name, time=datetime(2026, 10, day, tzinfo=UTC), meters={"tool_calls": day}) for name, day in times.items()
    ]
    record(runtime, [events[2], events[4], events[0], events[3], events[1]])
    invoice = closed(runtime)
    # The 15th to the 19th are large's, five days; the 20th ends under small.
    assert [(line.plan, line.kind, line.quantity, line.amount_usd) for line in invoice.lines] == [
        ("small", "base_fee", "1", "8.39"),  # 10 × 26/31
        ("small", "usage", "31", "2.17"),
        ("large", "base_fee", "1", "6.45"),  # 40 × 5/31
        ("large", "usage", "55", "2.75"),
    ]
    behind = [[fact.entry.request_id for fact in requests_behind(runtime, "globex/2026-10", n)] for n in (2, 4)]
    assert behind == [["e", "a"], ["c", "d", "b"]]
    assert [one.entry.request_id for one in requests_behind(runtime, "globex/2026-10", 4, limit=1)] == ["c"]
    assert replay_invoice(runtime, "globex/2026-10").identical

    seal_once(runtime, everything=True)
    proof = b"".join(proof_pieces(runtime, "globex/2026-10"))
    report = check_proof(read_proof(proof))
    assert report.problems == []
    assert [one.split(" (")[0] for one in report.plans] == ["small of acme 1", "large of acme 1"]
    for told, forged in ((b'"days":5', b'"days":4'), (b"2026-10-15T12:00:00Z", b"2026-10-14T12:00:00Z")):
        assert told in proof
        assert not check_proof(read_proof(proof.replace(told, forged))).valid


def test_what_is_recorded_after_the_close_moves_nothing(runtime: Runtime) -> None:
    put(runtime, "large")
    closed(runtime)
    apply(runtime, PLANS.replace('"1"', '"2"').replace("2026-01-01", "2026-10-02").replace('"40"', '"90"'))
    set_subscription(runtime, "globex", contract="acme", plan="other", effective_from=datetime(2026, 10, 3, tzinfo=UTC))
    assert replay_invoice(runtime, "globex/2026-10").identical


def test_a_plan_is_priced_by_the_version_in_force_when_it_began(runtime: Runtime) -> None:
    apply(runtime, PLANS.replace('"1"', '"2"').replace("2026-01-01", "2026-10-10").replace('"40"', '"90"'))
    put(runtime, "large")
    invoice = closed(runtime)
    assert [(one.plan, one.version, one.days) for one in invoice.sections] == [("small", "1", 14), ("large", "2", 17)]
    assert invoice.lines[1].exact_usd == "1530/31"
    assert replay_invoice(runtime, "globex/2026-10").identical


def test_plans_of_two_contracts_share_a_month(runtime: Runtime) -> None:
    apply(runtime, CONTRACT.replace("contract: acme", "contract: umbrella"))
    runtime.clock = lambda: NOW
    set_subscription(runtime, "globex", contract="umbrella", plan="pro", when="now")
    record(runtime, [event("r1", time=datetime(2026, 10, 14, tzinfo=UTC), meters={"tool_calls": 9})])
    invoice = closed(runtime)
    assert [(one.contract, one.plan, one.days) for one in invoice.sections] == [
        ("acme", "small", 14),
        ("umbrella", "pro", 17),
    ]
    assert replay_invoice(runtime, "globex/2026-10").identical
    seal_once(runtime, everything=True)
    proof = read_proof(b"".join(proof_pieces(runtime, "globex/2026-10")))
    assert len(proof.contracts) == 2
    assert check_proof(proof).problems == []
    proof.contracts[1] = proof.contracts[0]  # the other one is missing
    assert not check_proof(proof).valid
