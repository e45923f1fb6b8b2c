"""How operations are grouped and how often they are repeated makes no difference to what they come to."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from account_operations import authorize, event, grant, in_one_group, refund, release, settle, subscribe, told, wrongs
from examples import examples
from journal_helpers import query
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.ledger.operations import Held, Operation, Recorded, Settled

_orgs = itertools.count(1)

steps = st.lists(
    st.tuples(
        st.sampled_from(("authorize", "authorize", "settle", "settle", "release", "refund", "grant")),
        st.integers(0, 5),  # of what there is, which one; or how much
        st.booleans(),  # sent again later
        st.booleans(),  # the group ends here
    ),
    max_size=25,
)


class Customer:
    """Does what the steps say for one org, in groups of any size or one by one."""

    def __init__(self, runtime: Runtime, org: str) -> None:
        self.runtime = runtime
        self.org = org
        self.holds: list[Recorded] = []
        self.charges: list[Recorded] = []
        self.group: list[tuple[str, Operation]] = []
        self.sent: list[tuple[Operation, bytes]] = []
        self.repeats: list[Operation] = []

    def add(self, number: int, kind: str, which: int, again: bool) -> None:
        operation = self._operation(number, kind, which)
        if operation is None:
            return
        self.group.append((kind, operation))
        if again:
            self.group.append((kind, operation))
            self.repeats.append(operation)

    def end_group(self, *, repeat: bool) -> None:
        group = [*self.group, *[("again", one) for one in self.repeats if repeat]]
        answers = in_one_group(self.runtime, *[one for _, one in group]) if group else []
        first: dict[int, Any] = {}
        for (kind, operation), answer in zip(group, answers, strict=True):
            if isinstance(answer, TallyError):
                assert kind != "again" or answer.code in ("hold_resolved", "refund_exceeds_charge"), answer
                continue
            if id(operation) in first:
                assert told(answer) == told(first[id(operation)])
                continue
            first[id(operation)] = answer
            if kind == "authorize" and isinstance(answer.result, Held):
                self.holds.append(answer)
            if kind == "settle" and isinstance(answer.result, Settled) and answer.result.charged:
                self.charges.append(answer)
        self.group = []

    def _operation(self, number: int, kind: str, which: int) -> Operation | None:
        name = f"n{number}"
        match kind:
            case "authorize":
                return authorize(
                    self.org, name, work_key=f"d{which}" if which % 2 else None, meters={"tokens_in": which}
                )
            case "settle" if self.holds:
                used = event(self.org, name, meters={"tokens_in": which + 1})
                return settle(self.holds.pop(which % len(self.holds)), used, outcome=("success", "failure")[which == 5])
            case "release" if self.holds:
                return release(self.holds.pop(which % len(self.holds)))
            case "refund" if self.charges:
                return refund(self.charges[which % len(self.charges)], which or None, name)
            case "grant":
                return grant(self.org, which + 1, name)
        return None


@settings(max_examples=examples(6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_grouping_and_repetition_change_nothing(runtime: Runtime, wanted: list[tuple[str, int, bool, bool]]) -> None:
    number = next(_orgs)
    customers = [Customer(runtime, f"plain-{number}"), Customer(runtime, f"busy-{number}")]
    subscribe(runtime, *[customer.org for customer in customers])
    for place, (kind, which, again, ends) in enumerate(wanted):
        for customer, repeats in zip(customers, (False, True), strict=True):
            customer.add(place, kind, which, again and repeats)
            # What the group holds is known to both alike only where it ends: so both end here, or neither.
            if ends or kind in ("settle", "release", "refund"):
                customer.end_group(repeat=repeats)
    for customer in customers:
        customer.end_group(repeat=True)
    plain, busy = (
        query(
            runtime,
            "select seq, kind, request_id, refers_to_seq, body from ledger_entries where org_id = %s order by seq",
            customer.org,
        )
        for customer in customers
    )
    assert plain == busy
    assert wrongs(runtime) == []


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_group_of_any_size_is_decided_in_the_order_in_which_it_came(runtime: Runtime, size: int) -> None:
    subscribe(runtime, "acme", plan="discovery")
    wanted = [authorize(request_id=f"r{number}") for number in range(70)]
    answers = [
        answer for start in range(0, 70, size) for answer in in_one_group(runtime, *wanted[start : start + size])
    ]
    assert [isinstance(answer.result, Held) for answer in answers] == [True] * 60 + [False] * 10
