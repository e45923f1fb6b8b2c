"""What an org, or the operator, wants to be told of: shown whole, set whole, every version kept."""

from __future__ import annotations

from typing import Any

from tallystick.alerts.preferences import Preferences, preferences_json, read_preferences
from tallystick.app.audit import Act, record_act
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.core.instants import format_instant
from tallystick.journal.alerts import PreferencesRow, add_preferences, preferences_of
from tallystick.usage.event_problems import check_text


def show_preferences(runtime: Runtime, org_id: str | None) -> dict[str, Any]:
    """What is wanted, defaults included; of the operator's own alerts with `org_id` None.

    Raises:
        NotFound: `unknown_org`.
    """
    if org_id is not None:
        existing_org(runtime, org_id)
    with runtime.database.operator() as connection:
        row = preferences_of(connection, org_id).get(org_id)
    return _members(org_id, row)


def set_preferences(runtime: Runtime, org_id: str | None, raw: object, author: str) -> dict[str, Any]:
    """Set what is wanted: what is left out is as by default. The same again makes no further version.

    Args:
        raw: the decoded JSON value; see docs/alerts.md.

    Raises:
        BadInput, Problems: what is wrong with it.
        NotFound: `unknown_org`.
    """
    check_text("author", author)
    said = preferences_json(read_preferences(raw))
    if org_id is not None:
        existing_org(runtime, org_id)
    with runtime.database.operator() as connection:
        row = preferences_of(connection, org_id).get(org_id)
        if row is None or row.preferences != said:
            now = runtime.clock()
            add_preferences(connection, org_id, said, author, now)
            before = None if row is None else row.preferences
            act = Act("alert.preferences", org_id or "operator", now, org_id, author, None, before, said)
            record_act(connection, act)
            row = preferences_of(connection, org_id).get(org_id)
    return _members(org_id, row)


def _members(org_id: str | None, row: PreferencesRow | None) -> dict[str, Any]:
    said = Preferences() if row is None else read_preferences(row.preferences)
    return {
        "org_id": org_id,
        "preferences": preferences_json(said),
        "version": 0 if row is None else row.version,
        "author": None if row is None else row.author,
        "set_at": None if row is None else format_instant(row.recorded_at),
    }
