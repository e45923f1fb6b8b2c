"""`tally contract diff`: what changes between two contracts, and for whom."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.cli.contract_words import find_contract, identity, open_database
from tallystick.cli.output import EXIT_NO, print_json, print_text
from tallystick.contract.diff import Change, concerned, diff_contracts
from tallystick.contract.model import Contract

NAMED_MAX = 20
"""How many orgs of a plan a line names; `--json` has them all."""


def diff_command(
    old: Annotated[str, typer.Argument(metavar="A", help="A contract file, or NAME[@VERSION] of an applied one.")],
    new: Annotated[str, typer.Argument(metavar="B", help="The contract to compare it with.")],
    orgs: Annotated[
        bool, typer.Option("--orgs", help="Also list the orgs that are on each plan that changes, from the database.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what differs between two contracts, term by term, and for whom: exit code 0 when nothing does, else 1."""
    before, after = find_contract(old), find_contract(new)
    changes = [(change, concerned(change, before, after)) for change in diff_contracts(before, after)]
    plans = {
        plan: [change.path for change, concerns in changes if plan in concerns]
        for plan in dict.fromkeys(name for _, concerns in changes for name in concerns)
    }
    on_plan = _orgs(before, list(plans)) if orgs else None
    if as_json:
        print_json(
            {
                "same": not changes,
                "old": identity(before),
                "new": identity(after),
                "changes": [_change(change, concerns) for change, concerns in changes],
                "plans": [
                    {"plan": plan, "changes": paths} | ({} if on_plan is None else {"orgs": on_plan[plan]})
                    for plan, paths in plans.items()
                ],
            }
        )
    else:
        lines = [_sentence(change, concerns) for change, concerns in changes] or ["the same terms"]
        print_text("\n".join(lines + ([] if on_plan is None else _org_lines(on_plan))))
    if changes:
        raise typer.Exit(EXIT_NO)


def _change(change: Change, concerns: tuple[str, ...]) -> dict[str, object]:
    return {"path": change.path, "kind": change.kind, "old": change.old, "new": change.new, "plans": list(concerns)}


def _sentence(change: Change, concerns: tuple[str, ...]) -> str:
    """The change; where its path names no plan, with the plans that it is about."""
    if change.path.startswith("plans.") or not concerns:
        return change.sentence()
    return f"{change.sentence()} (for {', '.join(concerns)})"


def _orgs(contract: Contract, plans: list[str]) -> dict[str, list[str]]:
    """By plan, the orgs that are on it now."""
    with open_database() as runtime:
        from tallystick.app.orgs import orgs_on_plans

        return orgs_on_plans(runtime, contract.name, plans)


def _org_lines(on_plan: dict[str, list[str]]) -> list[str]:
    lines = []
    for plan, names in on_plan.items():
        more = f" and {len(names) - NAMED_MAX:,} more" if len(names) > NAMED_MAX else ""
        lines.append(f"{plan}: {len(names):,} orgs now{': ' if names else ''}{', '.join(names[:NAMED_MAX])}{more}")
    return lines
