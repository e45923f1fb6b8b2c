"""A draft contract on recorded history: revenue before and after, and who would have hit which limit."""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta

import pytest

from accounts import CONTRACT, asked, call, end, give, hold, open_shop
from conftest import NOW
from leaving import let_go, open_shop_in_2025
from tallystick.app.authorize import authorize
from tallystick.app.budgets import set_budget
from tallystick.app.contract_simulate import month_labels, simulate_contract
from tallystick.app.decision_answers import answer_of
from tallystick.app.ingest import ingest_events
from tallystick.app.overrides import add_override
from tallystick.app.refund import refund
from tallystick.app.standing import set_mode
from tallystick.contract.loader import load_contract
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import parse_instant

OCTOBER = (parse_instant("2026-10-01"), parse_instant("2026-11-01"))
NOVEMBER = (parse_instant("2026-11-01"), parse_instant("2026-12-01"))
SAME = load_contract(CONTRACT, "same.yaml")
DEARER = load_contract(
    CONTRACT.replace("price: {credits: 5}", "price: {credits: 8}")
    .replace("max: 1000, per: day", "max: 300, per: day")
    .replace('base: "0"', 'base: "7"')
    .replace('version: "1"', 'version: "2"'),
    "draft.yaml",
)


@pytest.fixture
def shop(runtime):
    open_shop(runtime, acme="wallet", beta="metered", other="monthly")
    return runtime


def _used(runtime, count: int, tokens: int, day: int = 5, org_id: str = "beta"):
    events = [
        {
            "org_id": org_id,
            "request_id": f"u{day}-{number}",
            "time": f"2026-10-{day:02d}T12:00:{number:02d}Z",
            "user_id": "u1",
            "session_id": "s1",
            "feature": "chat",
            "environment": "production",
            "model": "gpt-4o",
            "meters": {"tokens_in": tokens},
        }
        for number in range(count)
    ]
    results = ingest_events(runtime, events)
    assert {result.status for result in results} <= {"accepted", "duplicate"}


def _customer(report, org_id):
    (found,) = [one for one in report["customers"] if one["org_id"] == org_id]
    return found


def test_the_contract_in_force_changes_nothing(shop):
    give(shop, "100")
    held = hold(shop)
    end(shop, held["hold"]["hold_id"], events=[call()])
    _used(shop, 3, 100)
    for time in (OCTOBER, NOVEMBER):
        report = simulate_contract(shop, SAME, *time)
        assert report["revenue"]["before_usd"] == report["revenue"]["after_usd"]
        assert report["revenue"]["months_not_compared"] == 0
        assert report["credits"]["change"] == "0"
        assert report["denied"] == {"before": 0, "after": 0, "allowed_now": 0}
    assert report["credits"]["charged_before"] == "5"
    assert report["requests"] == 1


def test_a_dearer_draft_is_told_customer_by_customer(shop):
    _used(shop, 3, 100)
    report = simulate_contract(shop, DEARER, *OCTOBER)
    beta = _customer(report, "beta")
    assert (beta["plan"], beta["revenue"]["before_usd"], beta["revenue"]["after_usd"]) == ("metered", "0.00", "7.00")
    assert beta["months"] == [{"month": "2026-10", "before_usd": "0.00", "after_usd": "7.00", "errors": {}}]
    assert report["revenue"]["change_usd"] == "7.00"
    assert {one["org_id"] for one in report["customers"]} == {"acme", "beta", "other"}
    (only,) = simulate_contract(shop, DEARER, *OCTOBER, "acme")["customers"]
    assert (only["org_id"], only["revenue"]["change_usd"]) == ("acme", "0.00")


def test_credits_are_charged_as_the_draft_says(shop):
    give(shop, "100")
    for name in ("a1", "a2"):
        held = hold(shop, name)
        end(shop, held["hold"]["hold_id"], "success" if name == "a1" else "failure", events=[call(f"e-{name}")])
    credits = simulate_contract(shop, DEARER, *NOVEMBER)["credits"]
    assert credits == {"charged_before": "5", "charged_after": "8", "change": "3"}


def test_what_a_wallet_could_not_pay_under_the_draft_is_denied_in_it(shop):
    give(shop, "10")
    for name in ("a1", "a2"):
        end(shop, hold(shop, name)["hold"]["hold_id"])
    acme = _customer(simulate_contract(shop, DEARER, *NOVEMBER), "acme")
    assert acme["credits"] == {"charged_before": "10", "charged_after": "8", "change": "-2"}
    assert [(hit["code"], hit["requests"]) for hit in acme["hits"]] == [("insufficient_credits", 1)]


def test_a_cheaper_draft_allows_what_was_denied(shop):
    give(shop, "4")
    authorize(shop, asked())
    cheaper = load_contract(CONTRACT.replace("price: {credits: 5}", "price: {credits: 4}"), "draft.yaml")
    report = simulate_contract(shop, cheaper, *NOVEMBER)
    assert report["denied"] == {"before": 1, "after": 0, "allowed_now": 1}


def test_requests_in_shadow_mode_count_by_what_enforcement_would_answer(shop):
    set_mode(shop, "acme", "shadow", author="ann")
    give(shop, "4")
    hold(shop)
    assert simulate_contract(shop, SAME, *NOVEMBER)["denied"] == {"before": 1, "after": 1, "allowed_now": 0}
    cheaper = load_contract(CONTRACT.replace("price: {credits: 5}", "price: {credits: 4}"), "draft.yaml")
    assert simulate_contract(shop, cheaper, *NOVEMBER)["denied"] == {"before": 1, "after": 0, "allowed_now": 1}


def test_it_says_who_would_pass_which_limit_when_first_and_how_often(shop):
    _used(shop, 5, 100, day=5)
    _used(shop, 2, 100, day=6)
    _used(shop, 4, 100, day=7)
    beta = _customer(simulate_contract(shop, DEARER, *OCTOBER), "beta")
    assert beta["events_without_asking"] == 11
    assert beta["hits"] == [
        {
            "plan": "metered",
            "code": "hard_limit_reached",
            "limit": "tokens_in+tokens_out per day",
            "kind": "hard",
            "requests": 0,
            "events": 3,
            "first": "2026-10-05T12:00:03Z",
            "last": "2026-10-07T12:00:03Z",
        }
    ]


def test_what_was_used_before_the_time_counts_in_the_windows_that_it_begins_in(shop):
    _used(shop, 5, 100, day=5)
    report = simulate_contract(shop, DEARER, parse_instant("2026-10-05T12:00:04Z"), OCTOBER[1], "beta")
    (hit,) = _customer(report, "beta")["hits"]
    assert (hit["events"], hit["first"]) == (1, "2026-10-05T12:00:04Z")


def test_an_exception_bends_the_limit_of_its_name_wherever_the_draft_has_it(shop):
    def limits(draft):
        _used(shop, 5, 100)
        both = (OCTOBER[0], NOVEMBER[1])
        return [hit["limit"] for hit in _customer(simulate_contract(shop, draft, *both), "beta")["hits"]]

    hard, soft = [line for line in DEARER.source_text.splitlines(keepends=True) if "- {meters:" in line]
    swapped = load_contract(DEARER.source_text.replace(hard + soft, soft + hard), "draft.yaml")
    add_override(
        shop,
        "beta",
        {
            "request_id": "o1",
            "author": "ann",
            "approved_by": "bob",
            "reason": "a launch",
            "expires_at": "2026-11-20T00:00:00Z",
            "limits": {"tokens_in+tokens_out per day": 5000},
        },
    )
    assert (limits(swapped), limits(DEARER)) == ([], [])


def test_a_draft_without_a_plan_that_is_in_use_says_so(shop):
    _used(shop, 1, 100)
    draft = load_contract(CONTRACT.replace("  metered:", "  renamed:"), "draft.yaml")
    beta = _customer(simulate_contract(shop, draft, *OCTOBER), "beta")
    assert beta["months"][0]["errors"] == {"after": "unknown_plan"}
    assert beta["revenue"]["months_not_compared"] == 1
    assert [hit["code"] for hit in beta["hits"]] == ["unknown_plan"]


def test_nothing_is_written(shop):
    _used(shop, 3, 100)
    give(shop, "100")

    def rows():
        with shop.database.operator() as connection:
            tables = ("ledger_entries", "transfers", "contract_versions", "invoices", "counters", "org_states")
            return [connection.execute(f"select count(*) from {table}").fetchone() for table in tables]

    before = rows()
    simulate_contract(shop, DEARER, *OCTOBER)
    assert rows() == before


def test_what_cannot_be_simulated_is_refused(shop):
    elsewhere = load_contract(CONTRACT.replace("contract: shop", "contract: else"), "draft.yaml")
    with pytest.raises(NotFound, match="no org was on a contract called 'else'"):
        simulate_contract(shop, elsewhere, *OCTOBER)
    with pytest.raises(NotFound):
        simulate_contract(shop, SAME, *OCTOBER, "nobody")
    with pytest.raises(BadInput, match="is not before"):
        simulate_contract(shop, SAME, NOW, NOW)
    with pytest.raises(BadInput, match="more than 60"):
        simulate_contract(shop, SAME, NOW, NOW + timedelta(days=4000))


def test_the_months_of_a_time_are_those_it_touches():
    assert month_labels(*OCTOBER) == ["2026-10"]
    assert month_labels(parse_instant("2026-11-30"), parse_instant("2027-02-01T00:00:01Z")) == [
        "2026-11",
        "2026-12",
        "2027-01",
        "2027-02",
    ]


def test_what_has_left_the_database_is_simulated_from_its_blocks(runtime):
    then = parse_instant("2025-03-05")
    runtime.clock = lambda: then
    open_shop_in_2025(runtime, acme="wallet", beta="metered")
    give(runtime, "100")
    end(runtime, hold(runtime)["hold"]["hold_id"], events=[call(time="2025-03-04T23:59:00Z")])
    events = [
        {**asked(f"u{n}", "beta"), "action": None, "time": f"2025-03-04T12:00:0{n}Z", "model": "gpt-4o-mini"}
        | {"meters": {"tokens_in": 100}}
        for n in range(5)
    ]
    assert {one.status for one in ingest_events(runtime, events)} == {"accepted"}
    draft = load_contract(DEARER.source_text.replace("2026-10-01", "2025-01-01"), "draft.yaml")
    march = (parse_instant("2025-03-01"), parse_instant("2025-04-01"))
    before = simulate_contract(runtime, draft, *march)
    assert before["revenue"]["change_usd"] == "7.00"
    assert before["credits"]["change"] == "3"
    let_go(runtime, then)
    assert simulate_contract(runtime, draft, *march) == before


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_has_happened_the_contract_in_force_decides_and_charges_the_same_again(runtime, seed):
    """Holds, settlements, releases, expiries, refunds, top-ups, months, limits, budgets, repeats: nothing differs."""
    chance = random.Random(seed)
    now = parse_instant("2026-10-30T20:00:00Z")
    open_shop(runtime, acme="wallet", beta="metered", other="monthly")
    set_budget(
        runtime,
        "beta",
        "daily",
        {"of": "cost", "scope": "org", "kind": "hard", "per": "day", "max_usd": "0.01", "author": "ann"},
    )
    holds: dict[str, list[str]] = {"acme": [], "beta": [], "other": []}
    settled: list[tuple[str, str]] = []
    for number in range(120):
        now += timedelta(seconds=chance.choice((0, 5, 60, 700, 4000)))
        runtime.clock = lambda now=now: now
        org_id = chance.choice(list(holds))
        match chance.randrange(8):
            case 0 | 1 | 2:
                action = None if org_id == "beta" else chance.choice(("tailor", "explore", "research"))
                more = {"meters": {"tokens_in": chance.choice((10, 400))}, "model": "gpt-4o"}
                work = None if chance.random() < 0.5 else f"w{chance.randrange(3)}"
                answer = answer_of(
                    authorize(runtime, asked(f"a{number}", org_id, action=action, work_key=work, **more))
                )
                if answer["decision"]["allow"]:
                    holds[org_id].append(answer["hold"]["hold_id"])
            case 3 | 4 if holds[org_id]:
                hold_id = holds[org_id].pop()
                events = [call(f"e{number}", time=now.isoformat())] if chance.random() < 0.7 else []
                with contextlib.suppress(Conflict):  # it has expired
                    done = end(runtime, hold_id, chance.choice(("success", "empty", "failure")), org_id, events=events)
                    settled.append((org_id, done["settlement_id"]))
            case 5 if org_id != "beta":
                give(runtime, str(chance.randrange(1, 30)), org_id, request_id=f"g{number}", source="goodwill")
            case 6 if settled:
                org_id, settlement_id = settled.pop()
                members = {"request_id": f"f{number}", "org_id": org_id, "settlement_id": settlement_id,
                           "author": "ann", "reason": "sorry"}  # fmt: skip
                with contextlib.suppress(Conflict):
                    refund(runtime, members)
            case 7:
                event = {**asked(f"u{number}", org_id, action=None), "time": now.isoformat(), "model": "gpt-4o"}
                ingest_events(runtime, [{**event, "meters": {"tokens_in": chance.choice((5, 300))}}])
    runtime.clock = lambda: now + timedelta(hours=1)
    split = parse_instant("2026-10-31T12:00:00Z")
    whole = (OCTOBER[0], parse_instant("2027-01-01"))
    for start, stop in (whole, (whole[0], split), (split, whole[1])):
        report = simulate_contract(runtime, SAME, start, stop)
        for customer in report["customers"]:
            again = sum(hit["requests"] for hit in customer["hits"] if hit["kind"] == "hard")
            assert customer["credits"]["change"] == "0", customer
            assert (customer["denied_before"], customer["allowed_now"]) == (again, 0), customer
        assert report["revenue"]["change_usd"] == "0.00"
        assert report["requests"] > report["denied"]["before"] > 0
