"""Cases for contracts: the shipped ones hold, what contradicts itself is refused, and what fails is told."""

from __future__ import annotations

from typing import get_args

import pytest

from tallystick.app.contract_cases import reference_cases_text
from tallystick.app.contract_files import reference_text
from tallystick.contract.decision import ReasonCode
from tallystick.contract.loader import load_contract
from tallystick.core.errors import Problems
from tallystick.simulate.case_compare import check_case
from tallystick.simulate.case_model import Asked
from tallystick.simulate.case_reader import load_cases

CONTRACT = load_contract(reference_text(), "reference.yaml")
CASES = load_cases(reference_cases_text(), "reference_cases.yaml", CONTRACT)


def _cases(text: str):
    return load_cases(text, "cases.yaml", CONTRACT)


def _one(given: str, when: str, then: str) -> str:
    return f"cases:\n  - name: c\n    given: {{{given}}}\n    when: {when}\n    then: {{{then}}}\n"


def _refused(text: str) -> list[tuple[str, str]]:
    with pytest.raises(Problems) as caught:
        _cases(text)
    assert caught.value.code == "invalid_cases"
    return [(problem.code, str(problem)) for problem in caught.value.problems]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_reference_contract_keeps_what_its_cases_promise(case):
    result = check_case(case, CONTRACT)
    assert [step.differences for step in result.steps if step.differences] == []


def test_the_cases_of_the_reference_contract_leave_nothing_out():
    expected = [step.expected.members for case in CASES for step in case.steps if step.expected]
    codes = {members.get("code") for members in expected} - {None}
    asked = {step.what.request.action for case in CASES for step in case.steps if isinstance(step.what, Asked)}
    assert len(CASES) >= 30
    assert codes == set(get_args(ReasonCode))
    assert {case.given.plan for case in CASES} >= set(CONTRACT.plans)
    assert asked >= set(CONTRACT.actions)


CONTRADICTIONS = {
    "allowed for a reason to deny": ("plan: free", "{authorize: {}}", "decision: allow, code: hard_limit_reached"),
    "denied as allowed": ("plan: free", "{authorize: {}}", "decision: deny, code: allowed"),
    "denied without a next step": ("plan: free", "{authorize: {}}", "decision: deny, next_step: {kind: none}"),
    "allowed with a next step": ("plan: free", "{authorize: {}}", "decision: allow, next_step: {kind: wait}"),
    "a top-up to a plan": ("plan: free", "{authorize: {}}", "next_step: {kind: top_up, plan: pro}"),
    "denied, and reserved": ("plan: free", "{authorize: {}}", "decision: deny, reserved: 5"),
    "more reserved than quoted": ("plan: free", "{authorize: {}}", "quoted: 5, reserved: 6"),
    "denied in shadow mode": ("plan: free", "{authorize: {}}", "decision: deny, shadow: true"),
    "enforced outside shadow mode": ("plan: free", "{authorize: {}}", "shadow: false, enforced: {decision: deny}"),
    "an error and a decision": ("plan: free", "{authorize: {}}", "error: hold_unknown, decision: allow"),
    "settled without a hold": ("plan: credits", "{settle: {}}", "charged: 5"),
    "a hold that nobody made": ("plan: credits", "[{authorize: {as: a}}, {settle: {hold: b}}]", "charged: 5"),
    "a denied request is settled": (
        "plan: credits",
        "[{authorize: {}, then: {decision: deny}}, {settle: {}}]",
        "charged: 0",
    ),
    "refunded before it is charged": ("plan: credits", "[{authorize: {}}, {refund: {}}]", "refunded: 5"),
    "charged more than reserved": (
        "plan: credits",
        "[{authorize: {}, then: {reserved: 5}}, {settle: {}}]",
        "charged: 6",
    ),
    "charged and returned do not add up": (
        "plan: credits",
        "[{authorize: {}, then: {reserved: 5}}, {settle: {}}]",
        "charged: 3, returned: 1",
    ),
    "rounding above the charge": ("plan: credits", "[{authorize: {}}, {settle: {}}]", "charged: 1, rounding: 2"),
    "a plan that there is not": ("plan: fre", "{authorize: {}}", "decision: allow"),
    "an action that there is not": ("plan: free", "{authorize: {action: nothing}}", "decision: allow"),
    "credits that have ended": (
        "plan: credits, wallet: [{credits: 5, expires_at: 2026-10-01T00:00:00Z}]",
        "{authorize: {}}",
        "decision: allow",
    ),
    "a day that is more than its month": (
        "plan: free, used: {tokens_in: {day: 5, month: 4}}",
        "{authorize: {}}",
        "decision: allow",
    ),
    "an override of nothing": ("plan: free, overrides: [{reason: why}]", "{authorize: {}}", "decision: allow"),
    "finished work that never repeats": (
        "plan: credits, finished: [{action: research, work_key: d, ago: 1d}]",
        "{authorize: {}}",
        "decision: allow",
    ),
    "two ways to say what was used": (
        "plan: credits",
        "[{authorize: {}}, {settle: {cost_usd: 1, events: [{cost_usd: 1}]}}]",
        "charged: 0",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_case_that_contradicts_itself_is_refused(name):
    assert "case_contradiction" in [code for code, _ in _refused(_one(*CONTRADICTIONS[name]))]


def test_cases_for_another_contract_are_refused():
    text = "contract: other\n" + _one("plan: free", "{authorize: {}}", "decision: allow")
    assert "case_contradiction" in [code for code, _ in _refused(text)]


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("", "invalid_cases", "cases.yaml:1: the file is empty; a file of cases"),
        ("cases: []", "missing_value", "cases.yaml:1"),
        (_one("plam: free", "{authorize: {}}", "decision: allow"), "unknown_key", "did you mean 'plan'?"),
        (_one("plan: free", "{authorise: {}}", "decision: allow"), "unknown_key", "did you mean 'authorize'?"),
        (_one("plan: free", "{authorize: {}}", "decission: allow"), "unknown_key", "cases.yaml:5: c.then.decission"),
        (_one("plan: free", "{authorize: {}}", "charged: 5"), "case_contradiction", "c.then.charged: authorize is not"),
        (_one("plan: free", "{authorize: {}, settle: {}}", "charged: 5"), "missing_key", "exactly one of"),
        (_one("plan: free", "{authorize: {}}", ""), "missing_value", "nothing is expected"),
        ("cases: [{name: c, given: {plan: free}, when: {authorize: {}}}]", "missing_key", "`then` is missing"),
        (_one("plan: credits, wallet: [{credits: -5}]", "{authorize: {}}", "quoted: 0"), "negative_amount", "-5"),
        (_one("plan: credits, wallet: [{credits: 0}]", "{authorize: {}}", "quoted: 0"), "too_small", "zero"),
        (_one("plan: free, time_zone: Berlin", "{authorize: {}}", "quoted: 0"), "unknown_time_zone", "Berlin"),
        (_one("plan: free", "{authorize: {meters: {tokens_inn: 1}}}", "quoted: 0"), "unknown_meter", "tokens_in"),
        (_one("plan: free, used: {token_in: 1}", "{authorize: {}}", "quoted: 0"), "unknown_value", "tokens_in"),
        (_one("plan: free", "{authorize: {}}", "quoted: &a 5"), "invalid_cases", "no anchors"),
        (_one("plan: free, at: 9999-12-31T00:00:00Z", "{authorize: {}}", "quoted: 0"), "invalid_time", "9000"),
    ],
)
def test_what_is_wrong_with_a_file_of_cases_is_said_with_its_line(text, code, where):
    assert [(found, sentence) for found, sentence in _refused(text) if found == code and where in sentence]


def test_two_cases_of_one_name_are_refused():
    both = _one("plan: free", "{authorize: {}}", "decision: allow")
    assert "duplicate_key" in [code for code, _ in _refused(both + both.removeprefix("cases:\n"))]


def test_a_case_that_fails_says_what_was_expected_and_what_came():
    text = _one("plan: credits, wallet: [{credits: 4}]", "{authorize: {action: tailor_document}}", "decision: allow")
    (step,) = check_case(_cases(text)[0], CONTRACT).steps
    assert [tuple(one) for one in step.differences] == [("decision", "allow", "deny")]
    assert "available: 4 credits" in (step.why or "")


def test_a_step_that_is_refused_fails_the_case_unless_that_is_expected():
    when = "[{authorize: {action: tailor_document}}, {wait: 1h}, {settle: {outcome: success}}]"
    for then, passes in (("charged: 5", False), ("error: hold_expired", True)):
        (case,) = _cases(_one("plan: credits, wallet: [{credits: 9}]", when, then))
        assert check_case(case, CONTRACT).passed is passes


def test_what_all_cases_are_given_holds_unless_a_case_says_otherwise():
    text = """
given: {plan: credits, wallet: [{credits: 9}]}
cases:
  - {name: usual, when: {authorize: {action: tailor_document}}, then: {wallet: {available: 4, held: 5}}}
  - name: its own
    given: {wallet: [{credits: 5}]}
    when: {authorize: {action: tailor_document}}
    then: {wallet: {available: 0, held: 5}}
"""
    assert all(check_case(case, CONTRACT).passed for case in _cases(text))
