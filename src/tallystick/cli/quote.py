"""`tally quote`: what quantities would be charged under a plan, without a database."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.contract_files import read_contract
from tallystick.app.quote import Quote, quote
from tallystick.cli.output import print_json, print_text
from tallystick.core.errors import BadInput
from tallystick.core.money import cents_to_usd, format_decimal

Pairs = list[str]


def register(app: typer.Typer) -> None:
    """Add `tally quote`."""
    app.command("quote")(quote_command)


def quote_command(
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="The contract file; - for standard input.")],
    plan: Annotated[str, typer.Option("--plan", help="The plan to price with.")],
    quantity: Annotated[
        Pairs | None, typer.Option("--quantity", metavar="METER=N", help="A quantity; a decimal fraction, or negative.")
    ] = None,
    cost: Annotated[
        Pairs | None,
        typer.Option("--cost", metavar="METER=USD", help="What the quantity cost us, for cost-plus prices."),
    ] = None,
    running: Annotated[
        Pairs | None,
        typer.Option(
            "--running", metavar="METER=N", help="The total charged before; the quantity is then a change of it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Price quantities under a plan of a contract file. Nothing is stored."""
    answer = quote(
        read_contract(contract),
        plan,
        _pairs("--quantity", quantity),
        _pairs("--cost", cost),
        _pairs("--running", running),
    )
    if as_json:
        print_json(answer.as_dict())
    else:
        _print(answer)


def _pairs(option: str, texts: Pairs | None) -> dict[str, str]:
    """`METER=N` texts as a mapping; each meter may be named once."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        meter, equals, value = (part.strip() for part in text.partition("="))
        if not (meter and equals and value):
            raise BadInput(
                "invalid_option",
                f"{text[:80]!r} is not METER=NUMBER",
                next_step=f"write it as {option} tokens_in=1000000",
                where=option,
            )
        if meter in pairs:
            raise BadInput(
                "invalid_option", f"{meter} is named twice", next_step="give each meter one number", where=option
            )
        pairs[meter] = value
    return pairs


def _print(answer: Quote) -> None:
    contract, plan = answer.contract, answer.plan
    rows = [(line.meter or line.kind, cents_to_usd(line.amount_cents), line.description) for line in answer.lines]
    exact = f"{format_decimal(answer.exact_total_usd)} USD before rounding"
    rows.append(("total", cents_to_usd(answer.total_cents), exact))
    name_width = max(len(name) for name, _, _ in rows)
    amount_width = max(len(amount) for _, amount, _ in rows)
    text = [f"{plan.title} ({plan.name}) of {contract.name}@{contract.version}"]
    text += [f"  {name:<{name_width}}  {amount:>{amount_width}} USD  {how}" for name, amount, how in rows]
    for meter, quantity in answer.not_charged.items():
        text.append(f"not charged: {format_decimal(quantity)} {meter}; the plan has no price for it")
    print_text("\n".join(text))
