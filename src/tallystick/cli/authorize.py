"""`tally authorize` and `tally settle`: asking for a decision, and ending its work, by hand."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import JsonOption, OrgArgument, RequestIdOption, given, print_answer, wallet_line
from tallystick.cli.output import EXIT_NO
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.json_text import read_json

MeterOption = Annotated[
    list[str] | None, typer.Option("--meter", metavar="METER=N", help="A quantity, such as tokens_in=1000.")
]
_DEFAULT_USER = "cli"


def register(app: typer.Typer) -> None:
    """Add `tally authorize` and `tally settle`."""
    app.command("authorize")(authorize_command)
    app.command("settle")(settle_command)


def authorize_command(
    org: OrgArgument,
    action: Annotated[str | None, typer.Option(help="The contract's action.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that will be called.")] = None,
    provider: Annotated[str | None, typer.Option(help="Who answers; found out from the model by default.")] = None,
    meter: MeterOption = None,
    work: Annotated[str | None, typer.Option(help="What it is done to: doing the same again may be free.")] = None,
    feature: Annotated[str, typer.Option(help="The product's feature.")] = "cli",
    environment: Annotated[str, typer.Option(help="Such as production.")] = "production",
    user: Annotated[str, typer.Option(help="Who asks, as a pseudonym.")] = _DEFAULT_USER,
    api_key: Annotated[str | None, typer.Option(help="The id of the key, never the key.")] = None,
    payer: Annotated[str | None, typer.Option(help="Who pays the provider: seller or customer.")] = None,
    request_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask whether an org may do something, and hold what it takes. Exit code 1 when it may not."""
    from tallystick.app.authorize import authorize
    from tallystick.app.decision_answers import authorize_answer
    from tallystick.app.runtime import open_runtime

    members = given(
        org_id=org,
        request_id=request_id or f"cli-{uuid.uuid4()}",
        user_id=user,
        session_id=_DEFAULT_USER,
        feature=feature,
        environment=environment,
        action=action,
        model=model,
        provider=provider,
        api_key_id=api_key,
        work_key=work,
        meters=_quantities(meter),
        payer=payer,
    )
    with open_runtime(Settings()) as runtime:
        answer = authorize_answer(authorize(runtime, members))
    print_answer(answer, as_json, *_decision_lines(answer))
    if not answer["decision"]["allow"]:
        raise SystemExit(EXIT_NO)


def settle_command(
    org: OrgArgument,
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="Such as h1042.")],
    outcome: Annotated[str, typer.Option(help="success, empty or failure.")] = "success",
    model: Annotated[str | None, typer.Option(help="The model that was called, with the meters that it used.")] = None,
    provider: Annotated[str | None, typer.Option(help="Who answered; found out from the model by default.")] = None,
    meter: MeterOption = None,
    event: Annotated[
        list[str] | None, typer.Option("--event", metavar="JSON", help="A usage event, as POST /v1/events takes it.")
    ] = None,
    charge: Annotated[
        str | None,
        typer.Option(help="Most credits to charge, no more than is held [default: what the contract says]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """End the work of a hold: its usage is recorded, what the contract says is charged, the rest goes back."""
    from tallystick.app.decision_answers import settle_answer
    from tallystick.app.runtime import open_runtime
    from tallystick.app.settle import settle

    events = [_json_object(text) for text in event or ()]
    quantities = _quantities(meter)
    if (model is None) != (quantities is None):
        raise BadInput(
            "invalid_option",
            "a call has a model and the meters that it used",
            next_step="give --model together with --meter, or neither",
            where="--model" if model is None else "--meter",
        )
    if model is not None:
        # Named after the hold: should this be run again, the call is not counted twice.
        call = {"request_id": f"{hold}-cli", "time": format_instant(datetime.now(UTC)), "model": model}
        events.append(call | given(meters=quantities, provider=provider))
    members = given(org_id=org, hold_id=hold, outcome=outcome, events=events, charge_credits=charge)
    with open_runtime(Settings()) as runtime:
        answer = settle_answer(settle(runtime, members))
    lines = [f"{answer['settlement_id']}: {answer['charged_credits']} credits charged. {answer['why']}"]
    if events:
        lines.append(
            f"our cost: {answer['cost_usd']} USD" + ("" if answer["priced"] else ", and some that has no price")
        )
    if answer["returned_credits"] != "0":
        lines.append(f"{answer['returned_credits']} credits given back")
    print_answer(answer, as_json, *lines, wallet_line(answer["wallet"]))


def _decision_lines(answer: dict[str, Any]) -> list[str]:
    decision, hold = answer["decision"], answer["hold"]
    lines = [decision["message"] if decision["allow"] else f"denied, {decision['code']}: {decision['message']}"]
    if hold is not None:
        lines.append(f"hold {hold['hold_id']}: {hold['credits']} credits until {hold['expires_at']}")
    if decision["next_step"]["kind"] != "none":
        lines.append(f"next: {decision['next_step']['text']}")
    return [*lines, wallet_line(answer["wallet"])]


def _quantities(texts: list[str] | None) -> dict[str, int] | None:
    """`METER=N` texts as whole numbers by meter; None when there are none."""
    found: dict[str, int] = {}
    for text in texts or ():
        meter, _, digits = (part.strip() for part in text.partition("="))
        digits = digits.replace("_", "")
        if not (meter and digits.isascii() and digits.isdigit() and len(digits) <= 18) or meter in found:
            raise BadInput(
                "invalid_option",
                f"{text[:80]!r} is not METER=N, or names a meter twice",
                next_step="write it as --meter tokens_in=1000, each meter once",
                where="--meter",
            )
        found[meter] = int(digits)
    return found or None


def _json_object(text: str) -> dict[str, Any]:
    value = read_json(text.encode(), where="--event")
    if not isinstance(value, dict):
        raise BadInput("not_an_object", "an event is a JSON object", next_step="send one object", where="--event")
    return value
