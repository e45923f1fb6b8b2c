"""Each event is the work of one hold, in whatever groups and order holds, events and settlements come."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from account_operations import authorize, event, grant, in_one_group, settle, subscribe, told
from examples import examples
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.core.errors import TallyError
from tallystick.ledger.operations import Operation, Recorded, Settled

CONTRACT = """
contract: agents
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  agent: {title: Agent, price: {cost_plus: "0.30"}, max_credits: 1}
plans:
  wallet: {title: Wallet, kind: credits, base: "0", top_up: true}
"""
CENT = 10**10
_orgs = itertools.count(1)

names = st.integers(0, 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.just(())),
        st.tuples(st.just("send"), st.lists(names, min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("settle"), st.lists(names, max_size=3, unique=True)),
        st.tuples(st.just("settle"), st.lists(names, max_size=3, unique=True)),
        st.tuples(st.just("end of group"), st.just(())),
    ),
    min_size=4,
    max_size=30,
)


class Expected(NamedTuple):
    """What a settlement is answered: a code, or what its work cost and which of its events were there before."""

    code: str | None
    cost_pico: int = 0
    statuses: tuple[str, ...] = ()


class Model:
    """What the rule says, event by event: at which step each was stored, and whether it is somebody's work."""

    def __init__(self) -> None:
        self.stored: dict[int, int] = {}
        self.settled: set[int] = set()

    def settle(self, step: int, held_at: int, named: list[int]) -> Expected:
        for name in named:
            if name in self.settled:
                return Expected("usage_settled_already")
            if name in self.stored and self.stored[name] < held_at:
                return Expected("usage_before_hold")
        statuses = tuple("duplicate" if name in self.stored else "accepted" for name in named)
        self.stored |= {name: step for name in named if name not in self.stored}
        self.settled |= set(named)
        return Expected(None, CENT * len(named), statuses)


@settings(max_examples=examples(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_each_event_is_charged_once_by_the_settlement_whose_work_it_is(
    runtime: Runtime, wanted: list[tuple[str, list[int]]]
) -> None:
    org = f"org-{next(_orgs)}"
    subscribe(runtime, org, plan="wallet", contract=CONTRACT)
    in_one_group(runtime, grant(org, 1000))
    events = [event(org, f"e{number}", time=runtime.clock(), meters={"tokens_in": 4000}) for number in range(5)]
    model, holds = Model(), list[tuple[int, Recorded]]()
    group: list[tuple[Operation, Expected]] = []
    done: list[tuple[Operation, bytes]] = []

    def end_group() -> None:
        operations = [one for one, _ in group]
        for (operation, expected), answer in zip(group, in_one_group(runtime, *operations), strict=True):
            if expected.code is not None:
                assert isinstance(answer, TallyError)
                assert answer.code == expected.code
                continue
            assert isinstance(answer.result, Settled)
            assert (answer.result.cost_pico, answer.result.priced) == (expected.cost_pico, True)
            assert tuple(receipt.status for receipt in answer.usage) == expected.statuses
            done.append((operation, told(answer)))
        group.clear()

    for step, (kind, named) in enumerate(wanted):
        if kind == "settle" and holds:
            held_at, hold = holds.pop(step % len(holds))
            operation = settle(hold, *[events[name] for name in named])
            group.append((operation, model.settle(step, held_at, named)))
            continue
        end_group()
        if kind == "hold":
            holds += [(step, one) for one in in_one_group(runtime, *[authorize(org, action="agent") for _ in range(2)])]
        elif kind == "send":
            runtime.append([events[name] for name in named])
            model.stored |= {name: step for name in named if name not in model.stored}
    end_group()
    again = in_one_group(runtime, *[operation for operation, _ in done]) if done else []
    assert [told(answer) for answer in again] == [before for _, before in done]
    assert [one.sentence() for one in verify_ledger(runtime, org_id=org).findings.kept] == []
