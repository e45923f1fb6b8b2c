"""Cases that contradict themselves: what no org, no contract and no answer could ever make true."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.contract.fields import did_you_mean
from tallystick.contract.model import Contract
from tallystick.simulate.case_amounts import pico_of
from tallystick.simulate.case_model import Asked, Case, Refunding, Releasing, Settling, Step, Value

Fault = tuple[int, str]
"""The line, and a sentence."""


def check_sense(case: Case, contract: Contract) -> list[Fault]:
    """What in the case contradicts itself or the contract that it is for."""
    return [*_names(case, contract), *_times(case, contract), *_holds(case), *_amounts(case, contract)]


def _names(case: Case, contract: Contract) -> Iterator[Fault]:
    plan = case.given.plan
    codes = {code for step in case.steps for code in _codes(step)}
    if plan not in contract.plans and "unknown_plan" not in codes:
        what = "it names no plan" if plan is None else f"the contract has no plan {plan!r}"
        hint = did_you_mean(plan or "", contract.plans)
        yield case.line, f"{what}, and nothing is expected to be denied as unknown_plan{hint}"
    for step in case.steps:
        action = step.what.request.action if isinstance(step.what, Asked) else None
        if action is None or action in contract.actions or {"unknown_action", "unknown_plan"} & _codes(step):
            continue
        hint = did_you_mean(action, contract.actions)
        yield step.line, f"the contract has no action {action!r}, and it is not expected to be unknown_action{hint}"
    for work in case.given.finished:
        action_terms = contract.actions.get(work.action)
        if action_terms is not None and action_terms.repeat is None:
            yield case.line, f"the action {work.action!r} has no `repeat`, so that finished work changes nothing"


def _codes(step: Step) -> set[Value]:
    members = {} if step.expected is None else step.expected.members
    return {members[name] for name in ("code", "enforced.code") if name in members}


def _times(case: Case, contract: Contract) -> Iterator[Fault]:
    now = case.given.at or contract.effective_from
    for step in case.steps:
        try:
            now += step.after
            now.replace(year=now.year + 200)  # what a hold or a grant that is made then may last
        except (OverflowError, ValueError):
            yield step.line, "that is later than any calendar goes"
            return


def _holds(case: Case) -> Iterator[Fault]:
    """Steps that end a hold which no step has made, or refund what no step has settled."""
    made: dict[str | None, Step] = {}
    settled: set[str | None] = set()
    for step in case.steps:
        what = step.what
        is_refused = step.expected is not None and "error" in step.expected.members
        if isinstance(what, Asked):
            if what.name is not None and what.name in made:
                yield step.line, f"another hold is called {what.name!r} already"
            made[None] = made[what.name] = step
        elif isinstance(what, Settling | Releasing | Refunding):
            if what.hold not in made:
                name = "" if what.hold is None else f" {what.hold!r}"
                yield step.line, f"no step before it makes a hold{name}"
            elif _is_denied(made[what.hold]):
                yield step.line, "the hold that it is about is expected to be denied, so that there is none"
            elif isinstance(what, Refunding) and what.hold not in settled and not is_refused:
                yield step.line, "no step before it settles what it refunds"
            if isinstance(what, Settling):
                settled |= {None, what.hold}


def _is_denied(step: Step) -> bool:
    return step.expected is not None and step.expected.members.get("decision") == "deny"


def _amounts(case: Case, contract: Contract) -> Iterator[Fault]:
    """What is charged or goes back out of a hold, against what it is expected to have reserved."""
    plan = contract.plans.get(case.given.plan or "")
    overage = plan is not None and plan.overage
    made: dict[str | None, Step] = {}
    for step in case.steps:
        if isinstance(step.what, Asked):
            made[None] = made[step.what.name] = step
        if not isinstance(step.what, Settling | Releasing) or step.expected is None or step.what.hold not in made:
            continue
        reserved = _amount(made[step.what.hold], "reserved")
        charged, returned = _amount(step, "charged"), _amount(step, "returned")
        if reserved is None or overage:
            continue
        if charged is not None and charged > reserved:
            yield step.expected.line, "more is charged than is reserved, and the plan has no overage"
        elif returned is not None and returned > reserved:
            yield step.expected.line, "more goes back than is reserved"
        elif charged is not None and returned is not None and charged + returned != reserved:
            yield step.expected.line, "what is charged and what goes back do not add up to what is reserved"


def _amount(step: Step, name: str) -> int | None:
    value = None if step.expected is None else step.expected.members.get(name)
    return pico_of(value) if isinstance(value, str) else None
