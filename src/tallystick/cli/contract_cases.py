"""`tally contract test`: run given / when / then cases on a contract before it is applied."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.contract_cases import run_cases
from tallystick.cli.contract_words import find_contract
from tallystick.cli.output import EXIT_NO, print_json, print_text
from tallystick.contract.model import Contract
from tallystick.simulate.case_compare import CaseResult, StepResult
from tallystick.simulate.case_model import Value


def cases_command(
    contract: Annotated[str, typer.Argument(help="A contract file, or NAME[@VERSION] of an applied one.")],
    cases: Annotated[str, typer.Argument(metavar="CASES", help="The file of cases; - for standard input.")],
    only: Annotated[str | None, typer.Option("--only", metavar="NAME", help="Only the case of this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run given / when / then cases on a contract, as the server would decide and charge; no database is needed.

    Exit code 0 when every case passes, 1 when one fails, 2 when a file cannot be read or a case contradicts itself.
    """
    found = find_contract(contract)
    results = run_cases(found, cases, only)
    failed = sum(not result.passed for result in results)
    if as_json:
        print_json(_as_dict(found, results, failed))
    else:
        lines = [line for result in results for line in _lines(result)]
        summary = f"{len(results)} cases: {len(results) - failed} passed, {failed} failed"
        print_text("\n".join([*lines, f"{summary}, on {found.name}@{found.version}"]))
    if failed:
        raise typer.Exit(EXIT_NO)


def _lines(result: CaseResult) -> list[str]:
    if result.passed:
        return [f"ok    {result.name}"]
    lines = [f"FAIL  {result.name} (line {result.line})"]
    for step in result.steps:
        if step.differences:
            lines += _differences(step)
    return lines


def _differences(step: StepResult) -> list[str]:
    width = max(len(one.member) for one in step.differences)
    lines = [f"      step {step.number}, {step.verb}, on line {step.line}:"]
    for one in step.differences:
        lines.append(f"        {one.member:<{width}}  expected  {_words(one.expected)}")
        lines.append(f"        {'':<{width}}  got       {_words(one.got)}")
    return lines if step.why is None else [*lines, f"        {step.why}"]


def _words(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ", ".join(value) or "none"


def _as_dict(contract: Contract, results: list[CaseResult], failed: int) -> dict[str, Any]:
    return {
        "contract": contract.name,
        "version": contract.version,
        "sha256": contract.sha256,
        "cases": len(results),
        "passed": len(results) - failed,
        "failed": failed,
        "results": [
            {
                "name": result.name,
                "line": result.line,
                "passed": result.passed,
                "steps": [
                    {
                        "step": step.number,
                        "line": step.line,
                        "does": step.verb,
                        "got": step.got,
                        "differences": [one._asdict() for one in step.differences],
                        "why": step.why,
                    }
                    for step in result.steps
                ],
            }
            for result in results
        ],
    }
