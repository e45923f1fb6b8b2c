"""What a provider counted otherwise counts towards limits and budgets too, for whose request it was."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from account_operations import authorize, budget, do, event, looked, subscribe
from conftest import NOW
from tallystick.app.runtime import Runtime
from tallystick.journal.adjustments import NewAdjustment, add_adjustments
from tallystick.journal.corrections import lock_org
from tallystick.journal.recount import recount
from tallystick.ledger.adjustment import Adjust, AdjustedMeter

CONTRACT = """
contract: counted
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
plans:
  metered:
    title: Metered
    base: "0"
    prices: {tokens_in: {unit: "3", per: 1_000_000}, tokens_out: {cost_plus: "0.50"}}
    limits:
      - {meters: [tokens_in, tokens_out], max: 100_000, per: day, kind: hard}
environments:
  development: {charge: false}
"""


def adjust(runtime: Runtime, lines: dict[str, tuple[int, int]], of_seq: int | None = None, **more: Any) -> None:
    """Quantities and their cost change."""
    request = Adjust(
        of_seq=of_seq,
        provider="openai",
        model="gpt-4o",
        environment=more.get("environment", "production"),
        feature=more.get("feature"),
        payer=more.get("payer", "seller"),
        lines=tuple(AdjustedMeter(meter, *amounts) for meter, amounts in sorted(lines.items())),
        source="openai",
        source_sha256="0" * 64,
        author="ann@seller.example",
        reason="the provider counted otherwise",
    )
    with runtime.database.writer() as connection:
        head = lock_org(connection, "acme")
        new = NewAdjustment(f"a{head.seq}", more.get("time", NOW), request, bytes(16))
        add_adjustments(connection, head, "acme", [new], NOW, runtime.card.version)


@pytest.fixture
def metered(runtime: Runtime) -> Runtime:
    subscribe(runtime, "acme", plan="metered", contract=CONTRACT)
    for name, said in {
        "cost": {"of": "cost"},
        "cost of u1": {"of": "cost", "scope": "user", "subject": "u1"},
        "charge": {"of": "charge"},
        "charge of u1": {"of": "charge", "scope": "user", "subject": "u1"},
    }.items():
        do(runtime, budget(name, kind="soft", **said))
    return runtime


def counted(runtime: Runtime) -> dict[str, int]:
    """What the next decision sees, on what was counted before; the same is found when all is counted anew."""
    found = {
        name: one.used for name, one in looked(do(runtime, authorize(action=None, meters={"tokens_in": 1}))).items()
    }
    assert list(recount(runtime.database, None)) == []
    return found


def test_an_adjustment_of_a_request_counts_for_it(metered: Runtime) -> None:
    (receipt,) = metered.append([event(time=NOW, user_id="u1", meters={"tokens_in": 1000, "tokens_out": 100})])
    assert receipt.cost_pico is not None
    before = counted(metered)
    adjust(metered, {"tokens_in": (-400, -800), "tokens_out": (10, 101)}, receipt.seq)
    change = {name: after - before[name] for name, after in counted(metered).items()}
    charge = -400 * 3_000_000 - 1048  # half as much again of the cost is 1048.5 less, and a guard rounds up
    assert change == {
        "tokens_in+tokens_out per day": -390,
        "cost": -699,
        "cost of u1": -699,
        "charge": charge,
        "charge of u1": charge,
    }


def test_one_of_a_day_counts_for_the_org(metered: Runtime) -> None:
    before = counted(metered)
    adjust(metered, {"tokens_in": (7, 21)})
    adjust(metered, {"tokens_out": (3, 5)})
    change = {name: after - before[name] for name, after in counted(metered).items()}
    assert change == {
        "tokens_in+tokens_out per day": 10,
        "cost": 26,
        "cost of u1": 0,
        "charge": 7 * 3_000_000 + 8,
        "charge of u1": 0,
    }


def test_what_is_free_or_paid_by_the_customer_or_of_another_day_is_left_out_as_with_usage(metered: Runtime) -> None:
    before = counted(metered)
    adjust(metered, {"tokens_in": (7, 21)}, environment="development")
    adjust(metered, {"tokens_out": (3, 5)}, payer="customer")
    adjust(metered, {"tokens_in": (7, 21)}, time=NOW - timedelta(days=2))
    change = {name: after - before[name] for name, after in counted(metered).items()}
    assert change == {
        "tokens_in+tokens_out per day": 3,
        "cost": 21,
        "cost of u1": 0,
        "charge": 0,
        "charge of u1": 0,
    }
