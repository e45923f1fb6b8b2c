"""`tally contract`: check, compare, show and apply what customers are charged and promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.app.contract_cases import reference_cases_text
from tallystick.app.contract_files import (
    ContractWarning,
    check_contract_text,
    read_contract_text,
    reference_text,
)
from tallystick.cli import contract_cases, contract_diff, contract_shadow, contract_simulate, quote
from tallystick.cli.contract_words import find_contract, identity, open_database
from tallystick.cli.output import EXIT_BAD_INPUT, print_json, print_text, say
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.contract.price_list import price_list, price_list_json
from tallystick.core.errors import Problems
from tallystick.core.instants import format_instant, parse_instant

if TYPE_CHECKING:
    from tallystick.app.contracts import Applied

contract_app = typer.Typer(
    name="contract", help="Check, compare, show and apply contracts.", no_args_is_help=True, rich_markup_mode=None
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add `tally contract …`, and `tally quote`, which prices with one."""
    contract_app.command("diff")(contract_diff.diff_command)
    contract_app.command("test")(contract_cases.cases_command)
    contract_app.command("simulate")(contract_simulate.simulate_command)
    contract_app.command("shadow-report")(contract_shadow.shadow_report_command)
    app.add_typer(contract_app)
    quote.register(app)


@contract_app.command("check")
def check_command(
    file: Annotated[str, typer.Argument(help="The contract file; - for standard input.")], as_json: JsonOption = False
) -> None:
    """Check a contract file: every error with its line, and warnings about what it probably does not mean.

    Exit code 0 when it can be applied, warnings or not; 2 when it cannot.
    """
    text = read_contract_text(file)
    try:
        contract, warnings = check_contract_text(text, file)
    except Problems as refused:
        if not as_json:
            raise
        print_json({"file": file, "valid": False, "errors": [problem.as_dict() for problem in refused.problems]})
        raise typer.Exit(EXIT_BAD_INPUT) from None
    for warning in warnings:
        say(f"warning: {warning.where}: {warning.sentence} [{warning.code}]")
    if as_json:
        print_json(_checked(file, contract, warnings))
    else:
        counts = f"{len(contract.plans)} plans, {len(contract.actions)} actions, {len(warnings)} warnings"
        print_text(f"{file}: valid: {contract.name}@{contract.version}, {counts}\nsha256 {contract.sha256}")


@contract_app.command("show")
def show_command(
    contract: Annotated[str, typer.Argument(help="A contract file, or NAME[@VERSION] of an applied one.")],
    plan: Annotated[str | None, typer.Option("--plan", help="Only this plan.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the price list: what each plan costs, includes and limits, as customers read it."""
    found = find_contract(contract)
    if as_json:
        print_json(price_list_json(found, plan))
    else:
        print_text(price_list(found, plan))


@contract_app.command("apply")
def apply_command(
    file: Annotated[str, typer.Argument(help="The contract file; - for standard input.")],
    effective: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From when it holds, if not from the instant in the file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Apply a contract to the ledger; the same one again changes nothing, and a version is never replaced."""
    text = read_contract_text(file)
    begins = None if effective is None else parse_instant(effective, where="--from")
    load_contract(text, file)  # a contract that cannot be applied costs no start of the database
    with open_database() as runtime:
        from tallystick.app.contracts import apply_contract

        applied = apply_contract(runtime, text, file, begins)
    version = applied.version
    if as_json:
        print_json({**identity(applied.contract), **_dates(applied), "applied": applied.is_new})
    else:
        done = "applied" if applied.is_new else "was applied before, and stays as it is"
        since = format_instant(version.effective_from)
        print_text(f"{version.contract}@{version.version} {done}; it holds from {since}\nsha256 {version.sha256}")


@contract_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the applied contracts, with the instant from which each version holds."""
    with open_database() as runtime:
        from tallystick.app.contracts import list_contracts

        versions = list_contracts(runtime)
    if as_json:
        print_json(
            [
                {
                    "contract": version.contract,
                    "version": version.version,
                    "sha256": version.sha256,
                    "effective_from": format_instant(version.effective_from),
                    "applied_at": format_instant(version.applied_at),
                }
                for version in versions
            ]
        )
    elif versions:
        names = [f"{version.contract}@{version.version}" for version in versions]
        width = max(map(len, names))
        for name, version in zip(names, versions, strict=True):
            since, applied = format_instant(version.effective_from), format_instant(version.applied_at)
            print_text(f"{name:<{width}}  from {since}  applied {applied}  sha256 {version.sha256}")
    else:
        say("no contract is applied yet; apply one with: tally contract apply FILE")


@contract_app.command("example")
def example_command(
    cases: Annotated[bool, typer.Option("--cases", help="Print the cases for it, which `test` runs, instead.")] = False,
) -> None:
    """Print the reference contract, with every part of the format in use, as a file to begin with."""
    print_text(reference_cases_text() if cases else reference_text())


def _checked(file: str, contract: Contract, warnings: tuple[ContractWarning, ...]) -> dict[str, object]:
    return {
        "file": file,
        "valid": True,
        **identity(contract),
        "plans": list(contract.plans),
        "actions": list(contract.actions),
        "warnings": [
            {"code": warning.code, "where": warning.where, "detail": warning.sentence} for warning in warnings
        ],
    }


def _dates(applied: Applied) -> dict[str, str]:
    version = applied.version
    return {
        "effective_from": format_instant(version.effective_from),
        "applied_at": format_instant(version.applied_at),
    }
