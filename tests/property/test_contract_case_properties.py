"""Whatever a file of cases says: it is refused with its lines, or its cases run to an answer."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.app.contract_files import reference_text
from tallystick.contract.loader import load_contract
from tallystick.core.errors import BadInput, Problems
from tallystick.simulate.case_compare import check_case
from tallystick.simulate.case_model import Case
from tallystick.simulate.case_reader import load_cases

CONTRACT = load_contract(reference_text(), "reference.yaml")


def mostly(sound: list[object], broken: list[object]) -> st.SearchStrategy[object]:
    """One of the sound ones, and now and then a broken one: many cases are to run."""
    return st.integers(0, 40).flatmap(lambda dice: st.sampled_from(sound if dice else broken))


names = mostly(["credits", "credits", "free", "pro", "byok", "discovery", "enterprise"], ["nothing"])
actions = mostly(["tailor_document", "enrich_email", "research", "market_map"], ["nothing"])
numbers = mostly([1, 2, 5, 10, 100, 1000, 3000], [-1, 10**30, "0.5", "0.0000000000001", "x", 0])
usd = mostly([0, 1, 9, "0.10", "7", "0.001", "1000000"], ["unknown", "-1", "x"])
spans = mostly(["1s", "14m", "15m", "1h", "31d", "366d"], ["0s", "x"])
instants = mostly(["2026-10-25T00:30:00Z", "2027-03-28T00:59:59Z", "2026-10-31T22:59:59Z", "8999-12-31"], ["1"])
zones = mostly(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"], ["Nowhere"])
meters = st.dictionaries(mostly(["tokens_in", "tokens_out", "tool_calls"], ["other"]), numbers, max_size=2)


def some(**members: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=members)


used = some(meters=meters, cost_usd=usd, payer=st.sampled_from(["seller", "customer"]))
grants = st.fixed_dictionaries(
    {"credits": numbers},
    optional={"source": mostly(["top_up", "promo"], ["refund"]), "priority": numbers, "expires_in": spans},
)
givens = st.fixed_dictionaries(
    {"plan": names},
    optional={
        "at": instants,
        "time_zone": zones,
        "wallet": st.lists(grants, max_size=3),
        "used": meters,
        "suspended": st.just("why"),
        "enforcement": mostly(["enforce", "shadow"], ["x"]),
        "budgets": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["a", "b"]), "max_usd": usd},
                optional={"kind": st.sampled_from(["hard", "soft"]), "spent_usd": usd, "of": st.just("charge")},
            ),
            max_size=2,
        ),
        "finished": st.lists(
            st.fixed_dictionaries({"action": actions, "work_key": st.just("w"), "ago": spans}), max_size=1
        ),
    },
)
steps = st.one_of(
    st.fixed_dictionaries(
        {
            "authorize": some(
                action=actions,
                work_key=st.just("w"),
                meters=meters,
                worst_cost_usd=usd,
                environment=st.sampled_from(["production", "staging"]),
                model=st.sampled_from(["gpt-4o-mini", "claude-opus-4-1"]),
            )
        },
        optional={"after": spans},
    ),
    st.fixed_dictionaries(
        {
            "settle": some(
                outcome=st.sampled_from(["success", "empty", "failure"]),
                events=st.lists(used, max_size=2),
                charge_credits=numbers,
            )
        },
        optional={"after": spans},
    ),
    st.fixed_dictionaries({"release": some()}, optional={"after": spans}),
    st.fixed_dictionaries({"refund": some(credits=numbers)}, optional={"after": spans}),
    st.fixed_dictionaries({"record": used}, optional={"after": spans}),
    st.fixed_dictionaries({"grant": grants}, optional={"after": spans}),
    st.fixed_dictionaries({"wait": spans}),
)
thens = st.sampled_from([{"wallet": {"held": 0}}, {"wallet": {"available": 5}}, {"error": "hold_expired"}])


def read(text: str) -> tuple[Case | None, tuple[BadInput, ...]]:
    """The case, or why there is none."""
    try:
        (case,) = load_cases(text, "cases.yaml", CONTRACT)
    except Problems as refused:
        return None, refused.problems
    return case, ()


@settings(max_examples=400)
@given(givens, st.lists(steps, max_size=6), thens)
def test_a_case_is_refused_with_its_line_or_runs_to_an_answer(org, when, then):
    when = [{"authorize": {"action": "tailor_document"}}, *when]
    text = json.dumps({"cases": [{"name": "c", "given": org, "when": when, "then": then}]}, indent=1)
    case, problems = read(text)
    assert all(problem.where and problem.where.startswith("cases.yaml:") for problem in problems)
    if case is None:
        assert problems
        return
    result = check_case(case, CONTRACT)
    assert len(result.steps) == len(when)
    for step in result.steps:
        available, held = step.got["wallet.available"], step.got["wallet.held"]
        assert isinstance(available, str)
        assert isinstance(held, str)
        assert not available.startswith("-")
        assert not held.startswith("-")
