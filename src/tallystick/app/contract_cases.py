"""Cases for contracts in files: run them before a contract is applied, and find those of the reference contract."""

from __future__ import annotations

from importlib.resources import files

from tallystick.app.contract_files import read_contract_text
from tallystick.contract.fields import did_you_mean
from tallystick.contract.model import Contract
from tallystick.core.errors import BadInput
from tallystick.simulate.case_compare import CaseResult, check_case
from tallystick.simulate.case_reader import load_cases

REFERENCE_CASES_NAME = "reference_cases.yaml"


def reference_cases_text() -> str:
    """The cases for the reference contract that come with the product."""
    return files("tallystick.contract").joinpath(REFERENCE_CASES_NAME).read_text(encoding="utf-8")


def run_cases(contract: Contract, file: str, only: str | None = None) -> list[CaseResult]:
    """Run the cases of a file on a contract: the policy and the state machine that the server runs, and no database.

    Args:
        contract: what they are for.
        file: the file of cases; `-` is standard input.
        only: the name of the one case to run; None for all.

    Returns:
        One result a case, in the file's order.

    Raises:
        NotFound, BadInput: the file cannot be read; `unknown_case`.
        Problems: `invalid_cases`, with every error and its line.
    """
    cases = load_cases(read_contract_text(file, "case"), file, contract)
    if only is not None:
        names = [case.name for case in cases]
        cases = tuple(case for case in cases if case.name == only)
        if not cases:
            raise BadInput(
                "unknown_case",
                f"the file has no case {only[:80]!r}{did_you_mean(only, names)}",
                next_step="name one of its cases, or leave --only out to run them all",
                where="--only",
            )
    return [check_case(case, contract) for case in cases]
