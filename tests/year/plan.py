"""A year of a business, written down before it is lived: who does what on which day. A pure function of a seed.

Fifty customers (or as many as are asked for) on every plan of the reference contract, in several time zones. They use
models, on time and late, take and repeat actions, top up, change plans, leave and come back, redeem codes, pay in
odd ways, dispute. Each act has a day; what is done on one day by different customers has no order, and what one
customer does on a day, facts aside, has the order in which it stands here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

YEAR = 2026
PLANS = ("free", "pro", "enterprise", "enterprise-initech", "credits", "byok", "discovery")
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
_MODELS = (
    ("openai", "gpt-4o-mini"), ("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"),
)  # fmt: skip
_ACTIONS = ("market_map", "tailor_document", "enrich_email", "research")
_WALLETS = ("credits", "discovery")


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody does.

    Attributes:
        day: when; the instant is noon, in UTC.
        org_id: who, or about whom.
        what: the name of a method of `life.Life`.
        given: its arguments.
        is_fact: usage, which may come in any order.
    """

    day: date
    org_id: str
    what: str
    given: dict[str, Any] = field(default_factory=dict)
    is_fact: bool = False


def customers(count: int) -> list[str]:
    """Their ids; some are such as break what trusts them."""
    odd = {3: "müller & söhne", 7: "=cmd|'/c calc'!A1", 11: "o'brien; drop"}
    return [odd.get(number, f"customer-{number:02d}") for number in range(count)]


def first_plan(number: int) -> str:
    """What the customer of that number begins on: every plan has some."""
    return PLANS[number % len(PLANS)]


def zone_of(number: int) -> str:
    """Where its months begin."""
    return _ZONES[number % len(_ZONES)]


def plan_year(seed: int, orgs: int, months: int, each: int = 8) -> list[Act]:
    """Everything that is done, day by day.

    Args:
        seed: of all chance.
        orgs: how many customers.
        months: how many of the year's months are lived through.
        each: requests of each customer in a month.
    """
    acts: list[Act] = []
    for number, org_id in enumerate(customers(orgs)):
        chance = random.Random(f"{seed}:{number}")
        acts += _joining(number, org_id)
        for month in range(1, months + 1):
            acts += _month(chance, number, org_id, month, each)
    acts += _business(seed, orgs, months)
    last = date(YEAR, months, 28) + timedelta(days=40)
    return sorted((act for act in acts if act.day <= last), key=lambda act: act.day)


def _joining(number: int, org_id: str) -> Iterator[Act]:
    joined = date(YEAR, 1, 1) if number % 4 else date(YEAR, 1, 10 + number % 15)
    yield Act(joined, org_id, "subscribe", {"plan": first_plan(number), "zone": zone_of(number)})
    yield Act(joined, org_id, "bill_to", {"name": f"Customer {number} Ltd."})


def _month(chance: random.Random, number: int, org_id: str, month: int, each: int) -> Iterator[Act]:
    for place in range(each):
        yield _request(chance, org_id, month, place)
    yield from _wallet(chance, number, org_id, month)
    yield from _terms(chance, org_id, month)
    yield from _money(chance, org_id, month)


def _request(chance: random.Random, org_id: str, month: int, place: int) -> Act:
    day = date(YEAR, month, chance.randint(1, 28))
    provider, model = chance.choice(_MODELS)
    if chance.random() < 0.03:
        model = "a-model-without-a-price"
    tokens = chance.randint(100, 400_000)
    event = {
        "request_id": f"{month:02d}-{place:03d}",
        "time": datetime.combine(day, time(chance.randrange(24), chance.randrange(60)), UTC).isoformat(),
        "user_id": f"user-{chance.randrange(5)}",
        "session_id": f"session-{month}-{place % 3}",
        "feature": chance.choice(("chat", "search")),
        "environment": "development" if chance.random() < 0.1 else "production",
        "provider": provider,
        "model": model,
        "outcome": "failure" if chance.random() < 0.05 else "success",
        "latency_ms": chance.choice((300, 900, 4000)),
        "meters": {"tokens_in": tokens, "tokens_out": tokens // 7, "tool_calls": chance.randrange(20)},
    }
    late = chance.choices((1, chance.randint(2, 4), chance.randint(6, 25), chance.randint(35, 70)), (80, 10, 7, 3))[0]
    return Act(day + timedelta(days=late), org_id, "use", {"event": event}, is_fact=True)


def _wallet(chance: random.Random, number: int, org_id: str, month: int) -> Iterator[Act]:
    if first_plan(number) not in (*_WALLETS, "byok"):
        return
    if chance.random() < 0.5:
        day = date(YEAR, month, chance.randint(3, 20))
        yield Act(day, org_id, "top_up", {"request_id": f"top-{month}", "credits": str(chance.choice((50, 200, 1000)))})
    for place in range(6):
        day = date(YEAR, month, chance.randint(2, 27))
        given = {
            "request_id": f"work-{month}-{place}",
            "action": chance.choice(_ACTIONS),
            "document": f"document-{chance.randrange(3)}",
            "ends": chance.choices(("success", "failure", "empty", "release", "never"), (70, 10, 8, 6, 6))[0],
            "tokens": chance.randint(1000, 300_000),
            "model": chance.choice(("gpt-4o-mini", "gpt-4o")),
        }
        yield Act(day, org_id, "work", given)
        if chance.random() < 0.15:
            yield Act(day + timedelta(days=chance.randint(0, 6)), org_id, "refund", {"work": given["request_id"]})


def _terms(chance: random.Random, org_id: str, month: int) -> Iterator[Act]:
    if chance.random() < 0.08:
        plan = chance.choice(PLANS)
        yield Act(date(YEAR, month, chance.randint(2, 27)), org_id, "change_plan", {"plan": plan})
    elif chance.random() < 0.03:
        day = date(YEAR, month, chance.randint(2, 27))
        yield Act(day, org_id, "leave")
        yield Act(day + timedelta(days=chance.randint(5, 60)), org_id, "change_plan", {"plan": chance.choice(PLANS)})


def _money(chance: random.Random, org_id: str, month: int) -> Iterator[Act]:
    """What becomes of the month's invoice, which is there from the third of the next month on."""
    issued = date(YEAR + month // 12, month % 12 + 1, 3)
    label = f"{YEAR}-{month:02d}"

    def on(days: int, what: str, **given: Any) -> Act:
        return Act(issued + timedelta(days=days), org_id, what, {"month": label, **given})

    match chance.choices(
        ("full", "parts", "late", "too_much", "back_first", "never", "void", "note", "dispute"),
        (38, 9, 9, 6, 5, 6, 5, 6, 16),
    )[0]:
        case "full":
            yield on(chance.randint(1, 13), "pay", key="all", share=(1, 1))
        case "parts":
            yield on(5, "pay", key="half", share=(1, 2))
            yield on(20, "pay", key="rest", share=(1, 2))
        case "late":
            yield on(33, "pay", key="all", share=(1, 1))
        case "too_much":
            yield on(9, "pay", key="all", share=(3, 2))
            if chance.random() < 0.5:
                yield on(21, "pay", key="back", share=(1, 2), returned=True)
        case "back_first":  # the message that money went back comes before the one that it came
            yield on(6, "pay", key="back", share=(1, 1), returned=True)
            yield on(7, "pay", key="all", share=(1, 1))
            yield on(8, "pay", key="back", share=(1, 1), returned=True)
        case "void":
            yield on(2, "void")
        case "note":
            yield on(4, "credit_note", share=(1, 3))
            yield on(10, "pay", key="all", share=(2, 3))
        case "dispute":
            yield on(3, "dispute", about=chance.choice(("invoice", "line", "requests")))
            verdict = chance.choice(("uphold", "reject", "withdraw"))
            yield on(3 + chance.randint(1, 12), "decide", verdict=verdict)
            yield on(30, "pay", key="all", share=(1, 1))
    if chance.random() < 0.05:
        yield on(1, "goodwill", amount_usd=chance.choice(("5", "25", "6000")))


def _business(seed: int, orgs: int, months: int) -> Iterator[Act]:
    """What the seller does: codes, and incidents that are told of, in time and late."""
    chance = random.Random(f"{seed}:business")
    names = customers(orgs)
    begin = date(YEAR, 1, 1)
    yield Act(begin, "", "promo_code", {"code": "WELCOME20", "percent": "20", "invoices": 3})
    yield Act(begin, "", "promo_code", {"code": "FIFTY", "amount_usd": "50"})
    yield Act(begin, "", "promo_code", {"code": "FEW", "amount_usd": "7.77", "limit": 4})
    # One a day: of a code for a few, who comes first matters.
    for number, org_id in enumerate(names):
        day = begin + timedelta(days=20 + number)
        if day.month <= months and number % 3 == 0:
            yield Act(day, org_id, "redeem", {"code": ("WELCOME20", "FIFTY", "FEW")[number // 3 % 3]})
            yield Act(day + timedelta(days=1), org_id, "redeem", {"code": "WELCOME20", "key": "again"})
    for month in range(1, months + 1):
        if month % 2 == 0:
            start = datetime(YEAR, month, chance.randint(3, 25), chance.randrange(24), tzinfo=UTC)
            told = start.date() + timedelta(days=chance.choice((1, 1, 1, 40)))
            given = {"start": start, "end": start + timedelta(hours=chance.choice((1, 9, 30))), "key": f"down-{month}"}
            yield Act(told, "", "incident", given)
