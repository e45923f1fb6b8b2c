"""What a case expected and what it got, member by member."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from tallystick.contract.model import Contract
from tallystick.simulate.case_model import Case, Expected, Value, Verb
from tallystick.simulate.case_run import Answer, run_case

NOTHING = "nothing"
"""What is got of a member that an answer does not have."""


class Difference(NamedTuple):
    """A member that is not as expected."""

    member: str
    expected: Value
    got: Value


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """A step, what it answered, and where that differs from what was expected.

    Attributes:
        number: its place in the case, from 1.
        line: where in the file it stands.
        why: why it was decided or charged so, in a sentence.
    """

    number: int
    line: int
    verb: Verb
    got: Mapping[str, Value]
    differences: tuple[Difference, ...]
    why: str | None


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    line: int
    steps: tuple[StepResult, ...]

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not any(step.differences for step in self.steps)


def check_case(case: Case, contract: Contract) -> CaseResult:
    """Run the case, and compare."""
    answers = run_case(case, contract)
    steps = tuple(
        StepResult(
            number=number,
            line=step.line,
            verb=step.verb,
            got=answer.members,
            differences=tuple(_differences(step.expected, answer)),
            why=answer.why,
        )
        for number, (step, answer) in enumerate(zip(case.steps, answers, strict=True), 1)
    )
    return CaseResult(name=case.name, line=case.line, steps=steps)


def _differences(expected: Expected | None, answer: Answer) -> Iterable[Difference]:
    members = {} if expected is None else expected.members
    error = answer.members.get("error")
    if error is not None and "error" not in members:
        yield Difference("error", NOTHING, error)
        return
    for member, wanted in members.items():
        got = answer.members.get(member, NOTHING)
        if got != wanted and not (member == "says" and str(wanted) in str(got)):
            yield Difference(member, wanted, got)
