"""`tally keys`: who may call, for which org, for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.account_words import AuthorOption, JsonOption, author_or_login, given, table
from tallystick.cli.output import print_json, print_text, say
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import parse_duration, parse_instant

keys_app = typer.Typer(
    name="keys",
    help="Keys that callers show: whose they are, what they are for, until when.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="Such as key_k3J9xQ2m.")]
ExpiresOption = Annotated[
    str | None, typer.Option(help="When it ends by itself: an instant, or a time from now such as 90d.")
]
Default = Annotated[str | None, typer.Option(help="For calls that do not say it themselves.")]


def register(app: typer.Typer) -> None:
    """Add `tally keys …`."""
    app.add_typer(keys_app)


@keys_app.command("create")
def create_command(
    scopes: Annotated[
        str, typer.Option(help="Of gateway, tools, authorize, events, read, webhooks, admin; several with commas.")
    ],
    org: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="Of no org: it may act for every one.")] = False,
    feature: Default = None,
    user: Default = None,
    session: Default = None,
    environment: Default = None,
    action: Default = None,
    work_key: Default = None,
    expires: ExpiresOption = None,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its token: once, for it is kept nowhere."""
    from tallystick.app.keys import create_key
    from tallystick.app.orgs import find_org
    from tallystick.app.runtime import open_runtime

    if (org is None) != operator:
        raise BadInput(
            "invalid_option",
            "a key is of one org, or an operator's" if operator else "it is not said whose the key is",
            next_step="give --org ORG, or --operator for a key that may act for every org",
            where="--org",
        )
    defaults = given(
        feature=feature, user_id=user, session_id=session, environment=environment, action=action, work_key=work_key
    )
    with open_runtime(Settings()) as runtime:
        made = create_key(
            runtime,
            org_id=org,
            scopes=[scope.strip() for scope in scopes.split(",") if scope.strip()],
            defaults=defaults,
            expires_at=_expires(expires, runtime.clock()),
            author=author_or_login(author),
        )
        _print_new(made, runtime.clock(), as_json)
        if org is not None:
            try:
                find_org(runtime, org)
            except NotFound:
                say(f"{org} has no plan and no events yet; if that is a slip of the pen, revoke the key")


@keys_app.command("list")
def list_command(
    org: Annotated[str | None, typer.Option(help="Only this org's.")] = None,
    taken: Annotated[bool, typer.Option("--active", help="Only those that are still taken.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List keys, ended ones too, the oldest first; with --json one object a line. No token is shown."""
    from tallystick.app.keys import key_document, list_keys
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        now = runtime.clock()
        found = [key_document(key, now) for key in list_keys(runtime, org) if key.is_taken(now) or not taken]
    if as_json:
        for one in found:
            print_json(one)
        return
    if found:
        print_text(table(_row(one) for one in found))
    else:
        say("there is no key" + (f" of {org}" if org else ""))


@keys_app.command("revoke")
def revoke_command(
    key_id: KeyArgument,
    reason: Annotated[str, typer.Option(help="Why.")],
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a key at once, in every process that serves."""
    from tallystick.app.keys import key_document, revoke_key
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        key = key_document(revoke_key(runtime, key_id, reason=reason, author=author_or_login(author)), runtime.clock())
    if as_json:
        print_json({"key": key})
    else:
        print_text(f"{key_id}: {_standing(key)}")


@keys_app.command("rotate")
def rotate_command(
    key_id: KeyArgument,
    overlap: Annotated[str, typer.Option(help="How long both are taken, such as 24h; 0s ends the old one at once.")],
    expires: ExpiresOption = None,
    author: AuthorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key of the same terms and print its token; the old one ends after the overlap."""
    from tallystick.app.keys import rotate_key
    from tallystick.app.runtime import open_runtime

    both = parse_duration(overlap, where="--overlap")
    with open_runtime(Settings()) as runtime:
        now = runtime.clock()
        made = rotate_key(
            runtime, key_id, overlap=both, expires_at=_expires(expires, now), author=author_or_login(author)
        )
        _print_new(made, now, as_json)
        say(f"{key_id} " + ("is no longer taken" if both == timedelta(0) else f"is taken for another {overlap}"))


def _print_new(made: Any, now: datetime, as_json: bool) -> None:
    from tallystick.app.keys import key_document

    key = key_document(made.key, now)
    if as_json:
        print_json({"key": key, "token": made.token})
        return
    print_text(made.token)
    say(f"{key['key_id']}, {_whose(key)}: {', '.join(key['scopes'])}")
    say("keep the token now: it is not stored, and cannot be shown again")


def _expires(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    if text[-1:] in "smhdw":
        return now + parse_duration(text, where="--expires")
    return parse_instant(text, where="--expires").astimezone(UTC)


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    return (key["key_id"], _whose(key), ",".join(key["scopes"]), _standing(key), f"by {key['author']}")


def _whose(key: dict[str, Any]) -> str:
    return "an operator's" if key["org_id"] is None else str(key["org_id"])


def _standing(key: dict[str, Any]) -> str:
    match key["status"]:
        case "active" if key["expires_at"] is None:
            return "active"
        case "active":
            return f"active until {key['expires_at']}"
        case "ending":
            return f"ends at {key['ends_at']} ({key['reason']})"
        case "expired":
            return f"expired at {key['expires_at']}"
        case _:
            return f"ended at {key['ends_at']} ({key['reason']})"
