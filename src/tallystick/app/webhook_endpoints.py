"""Endpoints of webhooks: made, listed, changed, given another secret, removed. A secret is shown once, when it is made.

`scope` is the one org whose endpoints the caller may know of; None for operators. To a caller of an org, endpoints of
others, and operators', are none: the database shows it no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from tallystick.app.runtime import Runtime
from tallystick.app.webhook_secrets import new_secret, open_box
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.core.webhook_events import checked_patterns
from tallystick.journal.audit import record_act
from tallystick.journal.database import Connection
from tallystick.journal.webhook_endpoints import (
    Endpoint,
    SealedSecret,
    add_endpoint,
    add_secret,
    change_endpoint,
    endpoint_of,
    endpoints,
    lock_owner,
    secrets_of,
)
from tallystick.ledger.acts import Act
from tallystick.usage.event_problems import check_text
from tallystick.wire.webhook_address import parse_allow_list, parse_target

ENDPOINTS_MAX = 20
"""How many endpoints an org may have, and operators."""
OVERLAP_MAX = timedelta(days=30)
"""How long the secret before may sign beside a new one."""
OVERLAP = timedelta(hours=24)
"""How long it does, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An endpoint, and the secret that it was just given, which nobody can show again."""

    endpoint: Endpoint
    kept: list[SealedSecret]
    secret: str = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members, with the secret."""
        return {**endpoint_document(self.endpoint, self.kept), "secret": self.secret}


def create_endpoint(
    runtime: Runtime,
    *,
    url: str,
    types: Collection[str],
    author: str,
    org_id: str | None = None,
    description: str = "",
) -> NewSecret:
    """Have events be sent to a URL from now on.

    Args:
        runtime: an open one.
        url: https, of the public internet, unless the operator allows others.
        types: which events, by name or by pattern such as `invoice.*`; `*` for all.
        author: who makes it.
        org_id: whose events; it need not be known yet. None: those of every org, and operators' own.
        description: for people.

    Raises:
        BadInput: `invalid_webhook_url`, `webhook_address_refused`, `unknown_event_type`, `too_many_event_types`,
            `missing_field`, what `check_text` raises, or what `open_box` raises.
        Conflict: `too_many_webhooks`.
        NotFound: `webhook_key_missing`.
        Unavailable: `database_unreachable`.
    """
    now = runtime.clock()
    check_text("author", author)
    if org_id is not None:
        check_text("org_id", org_id)
    _check_description(description)
    _check_url(runtime, url)
    made = Endpoint(
        f"we_{secrets.token_hex(12)}", org_id, url, checked_patterns(types), description, "enabled", "", None, 0,
        author, now, now,
    )  # fmt: skip
    secret = new_secret()
    with runtime.database.writer() as connection:
        if lock_owner(connection, org_id) >= ENDPOINTS_MAX:
            raise Conflict(
                "too_many_webhooks",
                f"there are {ENDPOINTS_MAX} endpoints already, which is the most",
                next_step="remove one, or have one endpoint get more types of events",
                where="org_id",
            )
        add_endpoint(connection, made)
        _add_secret(runtime, connection, made, secret, ordinal=1, before_until=None, author=author, now=now)
        record_act(connection, Act("webhook.create", made.endpoint_id, now, org_id, author, after=_said(made)))
        kept = list(secrets_of(connection, [made.endpoint_id]))
    return NewSecret(made, kept, secret)


def list_endpoints(
    runtime: Runtime, *, org_id: str | None = None, operators: bool = False, scope: str | None = None
) -> list[dict[str, Any]]:
    """Endpoints as JSON members, the oldest first: those of one org, of operators, or all that the caller may see.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with seeing(runtime, scope) as connection:
        found = endpoints(connection, org_id, operators=operators)
        kept = secrets_of(connection, [one.endpoint_id for one in found])
    return [endpoint_document(one, [each for each in kept if each.endpoint_id == one.endpoint_id]) for one in found]


def show_endpoint(runtime: Runtime, endpoint_id: str, *, scope: str | None = None) -> dict[str, Any]:
    """An endpoint as JSON members.

    Raises:
        NotFound: `unknown_webhook`.
        Unavailable: `database_unreachable`.
    """
    with seeing(runtime, scope) as connection:
        found = existing(connection, endpoint_id)
        return endpoint_document(found, secrets_of(connection, [found.endpoint_id]))


def change(
    runtime: Runtime,
    endpoint_id: str,
    *,
    author: str,
    scope: str | None = None,
    url: str | None = None,
    types: Collection[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
    reason: str = "",
) -> dict[str, Any]:
    """Change what is given of an endpoint, and leave the rest.

    Args:
        enabled: false has it be sent nothing; what happens meanwhile is not sent later, unless replayed. True has it be
            sent what waits, and forgets how it failed.
        reason: of disabling it.

    Raises:
        BadInput, NotFound, Unavailable: as `create_endpoint`; `unknown_webhook`.
    """
    check_text("author", author)
    if url is not None:
        _check_url(runtime, url)
    if description is not None:
        _check_description(description)
    patterns = None if types is None else checked_patterns(types)
    _check_description(reason)
    now = runtime.clock()
    with _changing(runtime, endpoint_id, scope) as (connection, before):
        after = before._replace(
            url=before.url if url is None else url,
            types=before.types if patterns is None else patterns,
            description=before.description if description is None else description,
        )
        if enabled is True and before.state == "disabled":
            after = after._replace(state="enabled", reason="", failing_since=None, failures=0)
        elif enabled is False and before.state == "enabled":
            # Somebody wants it so: that is no failure that others have to be told of.
            after = after._replace(
                state="disabled", reason=reason or f"disabled by {author}", failing_since=None, failures=0
            )
        if after != before:
            after = after._replace(changed_at=now)
            change_endpoint(connection, after, now)
            act = Act(
                "webhook.change", endpoint_id, now, before.org_id, author, reason or None, _said(before), _said(after)
            )
            record_act(connection, act)
        return endpoint_document(after, secrets_of(connection, [endpoint_id]))


def remove(runtime: Runtime, endpoint_id: str, *, author: str, scope: str | None = None) -> dict[str, Any]:
    """Send nothing there any more, not even what waits. The log of what was sent stays for its time.

    Raises:
        BadInput: what `check_text` raises.
        NotFound: `unknown_webhook`.
        Unavailable: `database_unreachable`.
    """
    check_text("author", author)
    now = runtime.clock()
    with _changing(runtime, endpoint_id, scope) as (connection, before):
        after = before._replace(state="removed", reason=f"removed by {author}", changed_at=now)
        change_endpoint(connection, after, now)
        record_act(connection, Act("webhook.remove", endpoint_id, now, before.org_id, author, before=_said(before)))
        return endpoint_document(after, secrets_of(connection, [endpoint_id]))


def rotate_secret(
    runtime: Runtime, endpoint_id: str, *, author: str, overlap: timedelta = OVERLAP, scope: str | None = None
) -> NewSecret:
    """Give an endpoint another secret; until the overlap is over, the one before signs each delivery as well.

    Raises:
        BadInput: `invalid_duration`, what `check_text` or `open_box` raises.
        NotFound: `unknown_webhook`, `webhook_key_missing`.
        Unavailable: `database_unreachable`.
    """
    check_text("author", author)
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise BadInput(
            "invalid_duration",
            f"both secrets can sign together for {OVERLAP_MAX.days} days at most",
            next_step="give an overlap such as 24h",
            where="overlap",
        )
    now, secret = runtime.clock(), new_secret()
    with _changing(runtime, endpoint_id, scope) as (connection, endpoint):
        ordinal = max(one.ordinal for one in secrets_of(connection, [endpoint_id])) + 1
        until = now + overlap
        _add_secret(runtime, connection, endpoint, secret, ordinal=ordinal, before_until=until, author=author, now=now)
        after = {"secret": ordinal, "before_signs_until": format_instant(until)}
        record_act(connection, Act("webhook.rotate", endpoint_id, now, endpoint.org_id, author, after=after))
        return NewSecret(endpoint, list(secrets_of(connection, [endpoint_id])), secret)


def endpoint_document(endpoint: Endpoint, kept: Collection[SealedSecret]) -> dict[str, Any]:
    """An endpoint as JSON members; of its secrets only when they were made, and until when each signs."""
    return {
        "endpoint_id": endpoint.endpoint_id,
        "org_id": endpoint.org_id,
        "url": endpoint.url,
        "types": endpoint.types,
        "description": endpoint.description,
        "state": endpoint.state,
        "reason": endpoint.reason or None,
        "failing_since": _instant(endpoint.failing_since),
        "failures": endpoint.failures,
        "secrets": [
            {
                "ordinal": one.ordinal,
                "created_at": format_instant(one.created_at),
                "signs_until": _instant(one.signs_until),
            }
            for one in kept
        ],
        "author": endpoint.author,
        "created_at": format_instant(endpoint.created_at),
        "changed_at": format_instant(endpoint.changed_at),
    }


@contextmanager
def seeing(runtime: Runtime, scope: str | None) -> Iterator[Connection]:
    """A transaction that sees what the caller may: of one org, or everything."""
    with runtime.database.operator() if scope is None else runtime.database.org(scope) as connection:
        yield connection


def existing(connection: Connection, endpoint_id: str, *, lock: bool = False) -> Endpoint:
    """The endpoint, unless it was removed.

    Raises:
        NotFound: `unknown_webhook`.
    """
    found = endpoint_of(connection, endpoint_id, lock=lock)
    if found is None or found.state == "removed":
        raise NotFound(
            "unknown_webhook",
            "there is no endpoint of that id",
            next_step="`tally webhooks list` has the ids of all endpoints; they begin with we_",
            where="endpoint_id",
        )
    return found


@contextmanager
def _changing(runtime: Runtime, endpoint_id: str, scope: str | None) -> Iterator[tuple[Connection, Endpoint]]:
    """A writer's transaction, in which nobody else changes the endpoint; the caller may see it."""
    with seeing(runtime, scope) as connection:
        existing(connection, endpoint_id)
    with runtime.database.writer() as connection:
        yield connection, existing(connection, endpoint_id, lock=True)


def _add_secret(
    runtime: Runtime,
    connection: Connection,
    endpoint: Endpoint,
    secret: str,
    *,
    ordinal: int,
    before_until: datetime | None,
    author: str,
    now: datetime,
) -> None:
    box = open_box(runtime.settings, connection)
    sealed = box.seal(secret, endpoint.endpoint_id, ordinal)
    add_secret(
        connection, endpoint, ordinal=ordinal, sealed=sealed, key_id=box.key_id, before_until=before_until,
        author=author, now=now,
    )  # fmt: skip


def _check_url(runtime: Runtime, url: str) -> None:
    parse_target(url, parse_allow_list(runtime.settings.webhook_allow))


def _check_description(text: str) -> None:
    if text:
        check_text("description", text)


def _said(endpoint: Endpoint) -> dict[str, Any]:
    """What the audit trail says of an endpoint: of its URL the host and a hash, for the rest may be a secret."""
    host = endpoint.url.partition("://")[2].partition("/")[0].partition("?")[0]
    return {
        "host": host,
        "url_sha256": sha256(endpoint.url.encode()).hexdigest(),
        "types": endpoint.types,
        "description": endpoint.description,
        "state": endpoint.state,
        "reason": endpoint.reason or None,
    }


def _instant(value: datetime | None) -> str | None:
    return None if value is None else format_instant(value)
