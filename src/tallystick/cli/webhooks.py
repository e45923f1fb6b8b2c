"""`tally webhooks`: where events are sent, what became of that, and sending them again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, author_or_login, table
from tallystick.cli.output import print_json, print_text, say
from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_duration, parse_instant

webhooks_app = typer.Typer(
    name="webhooks",
    help="Webhooks: where events are sent, what became of that, and sending them again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EndpointArgument = Annotated[str, typer.Argument(metavar="ENDPOINT_ID", help="Such as we_5d41402abc4b2a76b9719d91.")]
TypesOption = Annotated[
    str | None, typer.Option("--types", help="Such as invoice.*,alert.firing; several with commas, * for all.")
]


def register(app: typer.Typer) -> None:
    """Add `tally webhooks …`."""
    app.add_typer(webhooks_app)


@webhooks_app.command("create")
def create_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="https, of the public internet.")],
    types: TypesOption = None,
    org: Annotated[str | None, typer.Option(help="Whose events.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="An operator's: the events of every org.")] = False,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have events sent to a URL, and print the secret that signs them: once, for nobody can show it again."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_endpoints import create_endpoint

    if (org is None) != operator:
        raise BadInput(
            "invalid_option",
            "an endpoint is of one org, or an operator's" if operator else "it is not said whose events are sent",
            next_step="give --org ORG, or --operator for the events of every org",
            where="--org",
        )
    with open_runtime(Settings()) as runtime:
        made = create_endpoint(
            runtime,
            url=url,
            types=_types(types) or ["*"],
            org_id=org,
            description=description,
            author=author_or_login(author),
        )
    _print_new(made.as_dict(), as_json)


@webhooks_app.command("list")
def list_command(
    org: Annotated[str | None, typer.Option(help="Only this org's.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="Only operators'.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List endpoints, the oldest first; with --json one object a line. No secret is shown."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_endpoints import list_endpoints

    with open_runtime(Settings()) as runtime:
        found = list_endpoints(runtime, org_id=org, operators=operator)
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        print_text(table(_row(one) for one in found))
    else:
        say("there is no endpoint")


@webhooks_app.command("show")
def show_command(endpoint_id: EndpointArgument, as_json: JsonOption = False) -> None:
    """How an endpoint stands."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_endpoints import show_endpoint

    with open_runtime(Settings()) as runtime:
        _print_endpoint(show_endpoint(runtime, endpoint_id), as_json)


@webhooks_app.command("set")
def set_command(
    endpoint_id: EndpointArgument,
    url: Annotated[str | None, typer.Option(help="Where events are sent from now on.")] = None,
    types: TypesOption = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given of an endpoint; the rest stays."""
    _change(endpoint_id, as_json, url=url, types=_types(types), description=description, author=author_or_login(author))


@webhooks_app.command("enable")
def enable_command(endpoint_id: EndpointArgument, author: AuthorOption = None, as_json: JsonOption = False) -> None:
    """Send events there again, and what still waits."""
    _change(endpoint_id, as_json, enabled=True, author=author_or_login(author))


@webhooks_app.command("disable")
def disable_command(
    endpoint_id: EndpointArgument,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send nothing there until it is enabled."""
    _change(endpoint_id, as_json, enabled=False, reason=reason, author=author_or_login(author))


@webhooks_app.command("remove")
def remove_command(endpoint_id: EndpointArgument, author: AuthorOption = None, as_json: JsonOption = False) -> None:
    """Send nothing there any more, not even what waits."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_endpoints import remove

    with open_runtime(Settings()) as runtime:
        _print_endpoint(remove(runtime, endpoint_id, author=author_or_login(author)), as_json)


@webhooks_app.command("rotate")
def rotate_command(
    endpoint_id: EndpointArgument,
    overlap: Annotated[str, typer.Option(help="How long the secret before signs as well: 24h, 0s.")] = "24h",
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an endpoint another secret, and print it: once."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_endpoints import rotate_secret

    length = parse_duration(overlap, where="--overlap")
    with open_runtime(Settings()) as runtime:
        made = rotate_secret(runtime, endpoint_id, overlap=length, author=author_or_login(author))
    _print_new(made.as_dict(), as_json)


@webhooks_app.command("test")
def ping_command(endpoint_id: EndpointArgument, as_json: JsonOption = False) -> None:
    """Send a test event now, and say what came of it; exits with 1 when it did not arrive."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_log import ping_now

    with open_runtime(Settings()) as runtime:
        sent = ping_now(runtime, endpoint_id)
    if as_json:
        print_json(sent)
    else:
        print_text(table([_delivery_row(sent)]))
    if sent["state"] != "delivered":
        raise typer.Exit(1)


@webhooks_app.command("types")
def types_command(as_json: JsonOption = False) -> None:
    """What events there are; the list is open."""
    from tallystick.core.webhook_events import EVENT_TYPES

    if as_json:
        print_json([{"type": name, "description": said} for name, said in EVENT_TYPES.items()])
    else:
        print_text(table(EVENT_TYPES.items()))


@webhooks_app.command("deliveries")
def deliveries_command(
    endpoint_id: EndpointArgument,
    state: Annotated[str | None, typer.Option(help="Only waiting, delivered, failed or canceled ones.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event, msg_….")] = None,
    cursor: Annotated[str | None, typer.Option(help="The last delivery of the page before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most deliveries that are listed.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """What was sent to an endpoint, the newest first, with what came of the last attempt; --json: one object a line."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_log import list_deliveries

    if state not in (None, "waiting", "delivered", "failed", "canceled"):
        raise BadInput(
            "invalid_option",
            f"{state!r:.40} is no state of deliveries",
            next_step="give waiting, delivered, failed or canceled",
            where="--state",
        )
    with open_runtime(Settings()) as runtime:
        page = list_deliveries(runtime, endpoint_id, state=state, event_id=event, cursor=cursor, limit=limit)
    if as_json:
        for one in page["deliveries"]:
            print_json(one)
    elif page["deliveries"]:
        print_text(table(_delivery_row(one) for one in page["deliveries"]))
    else:
        say("nothing was sent")
    if page["next_cursor"]:
        say(f"more: --cursor {page['next_cursor']}")


@webhooks_app.command("delivery")
def delivery_command(
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY_ID", help="Such as dlv_….")],
    as_json: JsonOption = False,
) -> None:
    """A delivery with every attempt, and what is sent."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_log import show_delivery

    with open_runtime(Settings()) as runtime:
        shown = show_delivery(runtime, delivery_id)
    if as_json:
        print_json(shown)
        return
    print_text(table([_delivery_row(shown)]))
    for one in shown["log"]:
        print_text(f"{one['attempt']}  {one['started_at']}  {_outcome(one)}")
        if one["response"]:
            print_text(f"   {one['response']}")


@webhooks_app.command("replay")
def replay_command(
    endpoint_id: EndpointArgument,
    event: Annotated[str | None, typer.Option(help="This event, msg_….")] = None,
    since: Annotated[str | None, typer.Option(help="What happened then or later.")] = None,
    until: Annotated[str | None, typer.Option(help="What happened before that.")] = None,
    types: TypesOption = None,
    missed: Annotated[bool, typer.Option("--missed", help="Only what never reached the endpoint.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send one event again, or those of a time, with the ids that they had."""
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_log import replay

    begin = None if since is None else parse_instant(since, where="--since")
    end = None if until is None else parse_instant(until, where="--until")
    with open_runtime(Settings()) as runtime:
        sent = replay(runtime, endpoint_id, event_id=event, since=begin, until=end, types=_types(types), missed=missed)
    if as_json:
        print_json({"delivery_ids": sent})
    else:
        print_text(f"{len(sent):,} events are on their way")


@webhooks_app.command("new-key")
def new_key_command() -> None:
    """Make the key that secrets are kept under, where the file with it is lost. Then rotate each endpoint's secret."""
    from tallystick.app.webhook_secrets import make_key

    say(f"a new key is in {make_key(Settings())}: give each endpoint another secret with `tally webhooks rotate`")


def _change(endpoint_id: str, as_json: bool, **changes: Any) -> None:
    from tallystick.app.runtime import open_runtime
    from tallystick.app.webhook_endpoints import change

    with open_runtime(Settings()) as runtime:
        _print_endpoint(change(runtime, endpoint_id, **changes), as_json)


def _types(text: str | None) -> list[str] | None:
    return None if text is None else [one.strip() for one in text.split(",") if one.strip()]


def _print_new(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    say(f"{made['endpoint_id']} gets {', '.join(made['types'])}; what is sent there is signed with this secret:")
    print_text(made["secret"])


def _print_endpoint(endpoint: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
    else:
        print_text(table([_row(endpoint)]))


def _row(one: dict[str, Any]) -> list[str]:
    state = one["state"] if one["reason"] is None else f"{one['state']}: {one['reason']}"
    if one["state"] == "enabled" and one["failing_since"]:
        state = f"failing since {one['failing_since']}"
    return [one["endpoint_id"], one["org_id"] or "operators", ",".join(one["types"]), one["url"], state]


def _delivery_row(one: dict[str, Any]) -> list[str]:
    said = "" if one["last_attempt"] is None else _outcome(one["last_attempt"])
    if one["next_attempt_at"]:
        said += f"; again at {one['next_attempt_at']}"
    attempts = f"{one['attempts']} of {one['attempts_max']}"
    return [
        one["delivery_id"],
        one["event_id"],
        one["type"],
        one["org_id"] or "operators",
        one["state"],
        attempts,
        said,
    ]


def _outcome(attempt: dict[str, Any]) -> str:
    said = attempt["error"] or f"answered {attempt['status']}"
    return f"{said}, in {attempt['latency_ms']} ms"
