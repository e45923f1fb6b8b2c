"""`tally reconcile`: the ledger beside what a provider says that it served, and entries that set right what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say
from tallystick.core.errors import BadInput
from tallystick.core.money import parse_decimal, usd_to_pico

_PAYERS = {"seller": ("seller",), "customer": ("customer",), "all": ("seller", "customer")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reconcile")(reconcile_command)


def reconcile_command(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="The provider's usage or cost export, or both; - for standard input."),
    ],
    provider: Annotated[str, typer.Option(help="Whose export it is, such as openai or anthropic.")],
    since: Annotated[str | None, typer.Option("--from", help="The first day, in UTC, such as 2026-10-01.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The first day after it.")] = None,
    org: Annotated[
        list[str] | None, typer.Option("--org", help="Only this org of the ledger; may be repeated.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="PROJECT=ORG", help="The org that a project or API key of the export is of."),
    ] = None,
    model_of: Annotated[
        list[str] | None,
        typer.Option("--model-of", metavar="ITEM=MODEL", help="The model that an item of a cost export is of."),
    ] = None,
    payer: Annotated[str, typer.Option(help="Whose calls: seller, customer (with their own keys), all.")] = "seller",
    tolerance: Annotated[str, typer.Option(help="Percent of the provider's figure that may differ.")] = "0",
    tolerance_usd: Annotated[str, typer.Option(help="USD of a day and model that may differ.")] = "0",
    complete: Annotated[
        bool, typer.Option("--complete", help="Every call of the account passed here: of exports that count no calls.")
    ] = False,
    book_to: Annotated[
        str | None, typer.Option(metavar="ORG", help="Book to this org what is of no one request.")
    ] = None,
    environment: Annotated[str, typer.Option(help="The environment to book that in.")] = "production",
    apply: Annotated[bool, typer.Option("--apply", help="Write the entries that are offered.")] = False,
    by: Annotated[str | None, typer.Option(help="With --apply: who says so.")] = None,
    reason: Annotated[str | None, typer.Option(help="With --apply: why.")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also show what is equal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the ledger with a provider's export by UTC day and model, explain what differs, and offer entries.

    Exit code 0 when all is equal, 1 when something differs, also where that was set right just now. Nothing is
    written without --apply.
    """
    if payer not in _PAYERS:
        raise BadInput(
            "invalid_payer", f"{payer!r:.60} is no payer", next_step="say seller, customer or all", where="--payer"
        )
    if apply and (by is None or reason is None):
        raise BadInput(
            "missing_option",
            "entries have an author and a reason",
            next_step="add --by NAME and --reason TEXT",
            where="--apply",
        )
    from tallystick.app.reconcile import question, reconcile
    from tallystick.app.reconcile_apply import apply_offers
    from tallystick.app.reconcile_files import read_files
    from tallystick.app.reconcile_report import report
    from tallystick.app.runtime import open_runtime

    asked = question(
        provider,
        payers=_PAYERS[payer],
        orgs=org or (),
        org_of=_pairs(map_, "--map"),
        models_of=_pairs(model_of, "--model-of"),
        since=_day(since, "--from"),
        until=_day(until, "--to"),
        tolerance=parse_decimal(tolerance, where="--tolerance") / 100,
        tolerance_pico=usd_to_pico(tolerance_usd, where="--tolerance-usd"),
        is_complete=complete,
        book_to=book_to,
        environment=environment,
    )
    contents = read_files(files)
    with open_runtime(Settings()) as runtime, progress_bar("reading orgs", None) as advance:
        found = reconcile(runtime, asked, contents, progress=advance)
        written = apply_offers(runtime, found, author=by or "", reason=reason or "") if apply else None
    told = report(found, written)
    if as_json:
        print_json(told)
    else:
        print_text("\n".join(_lines(told, show_all)))
        for note in told["notes"]:
            say(note)
    if not told["equal"]:
        raise SystemExit(EXIT_NO)


def _pairs(given: Sequence[str] | None, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given or ():
        left, equals, right = one.rpartition("=")
        if (
            not equals
            or not left.strip()
            or not right.strip()
            or found.get(left.strip(), right.strip()) != right.strip()
        ):
            raise BadInput(
                "invalid_option",
                f"{one!r:.80} is no pair, or contradicts another",
                next_step="write NAME=VALUE",
                where=where,
            )
        found[left.strip()] = right.strip()
    return found


def _day(text: str | None, where: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise BadInput("invalid_time", f"{text!r:.40} is no day", next_step="write 2026-10-01", where=where) from None


def _lines(told: dict[str, Any], show_all: bool) -> Iterator[str]:
    yield (
        f"{told['provider']}, {told['from']} through {told['through']}: {told['compared']:,} days and models compared, "
        f"{told['differing']:,} differ"
    )
    for cell in told["cells"]:
        if show_all or not cell["equal"]:
            yield from _cell_lines(cell)
    for one in told["unattributed"]:
        yield f"of no model, and not compared: {one['item']}  {one['cost_usd']} USD"
    offers = [offer for cell in told["cells"] for offer in cell["offers"]]
    applied = told["applied"]
    if applied is not None:
        yield f"{applied['entries']:,} entries written, {applied['already_there']:,} were there before"
    elif offers:
        yield f"{len(offers):,} entries are offered; --apply --by NAME --reason TEXT writes them"


def _cell_lines(cell: dict[str, Any]) -> Iterator[str]:
    org = f"  {cell['org_id']}" if cell["org_id"] else ""
    model = "all models" if cell["model"] == "*" else cell["model"]
    yield f"\n{cell['day']}  {model}{org}{'  equal' if cell['equal'] else ''}"
    rows = [
        (name, f"{gap['provider']:,}", f"{gap['ledger']:,}", f"{gap['difference']:+,}") for name, gap in _gaps(cell)
    ]
    if cell["cost"] is not None:
        cost = cell["cost"]
        rows.append(("cost_usd", cost["provider_usd"], cost["ledger_usd"], _signed(cost["difference_usd"])))
    table = [("", "provider", "ledger", "difference"), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        padded = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        yield f"  {'  '.join((row[0].ljust(widths[0]), *padded[1:]))}".rstrip()
    for one in cell["explanations"]:
        yield f"  {one['code']}: {one['text']}"
    for offer in cell["offers"]:
        yield f"  {_offer(offer)}"
    if cell["why_no_more"] and not cell["equal"]:
        yield f"  no {'more ' if cell['offers'] else ''}entry is offered: {cell['why_no_more']}"


def _gaps(cell: dict[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
    if cell["requests"] is not None:
        yield "requests", cell["requests"]
    yield from cell["meters"].items()


def _signed(usd: str) -> str:
    return usd if usd.startswith("-") or usd == "0" else f"+{usd}"


def _offer(offer: dict[str, Any]) -> str:
    what = "offered" if offer["entry_id"] is None else f"written as {offer['entry_id']}"
    if offer["is_new"] is False:
        what = f"there already as {offer['entry_id']}"
    of = f"entry {offer['refers_to']}" if offer["refers_to"] is not None else f"the day, in {offer['environment']}"
    changes = ", ".join(f"{one['quantity']:+,} {one['meter']}" for one in offer["changes"] if one["quantity"])
    cost = f"{_signed(offer['cost_usd'])} USD"
    return f"{what}: {offer['org_id']}, {of}: {', '.join(filter(None, (changes, cost)))}"
