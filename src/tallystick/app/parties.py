"""Parties of an invoice: who sells, by the contract, and who is billed, by the org's billing profile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tallystick.app.audit import Act, record_act
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.runtime import Runtime
from tallystick.billing.party import Profile, parse_profile, profile_json, profile_sha256, read_profile
from tallystick.core.errors import Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.billing import (
    ProfileRow,
    add_profile,
    bill_to_names,
    erase_profiles,
    list_profiles,
    lock_profiles,
)


@dataclass(frozen=True, slots=True)
class BillingProfile:
    """A version of an org's billing profile; `profile` is None once it is erased. `sha256` is salted, in hex."""

    org_id: str
    version: int
    sha256: str
    author: str
    recorded_at: datetime
    profile: Profile | None
    is_new: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            "org_id": self.org_id,
            "version": self.version,
            "sha256": self.sha256,
            "author": self.author,
            "recorded_at": format_instant(self.recorded_at),
            "erased": self.profile is None,
            "profile": None if self.profile is None else msgspec.to_builtins(self.profile),
        }


def set_profile(runtime: Runtime, org_id: str, raw: object) -> BillingProfile:
    """Say who is billed from now on: a new version; the same again is none.

    Invoices that are issued already name the version that they were issued with.

    Args:
        raw: the decoded JSON value, with the members `billing.party.PROFILE_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request.
        NotFound: `unknown_org`.
        Conflict: `request_id_conflict`.
        Unavailable: `database_unreachable`.
    """
    profile, author, request_id = read_profile(raw)
    existing_org(runtime, org_id)
    text = profile_json(profile)
    with runtime.database.org(org_id) as connection:
        lock_profiles(connection, org_id)
        rows = list_profiles(connection, org_id)
        asked = [row for row in rows if request_id is not None and row.request_id == request_id]
        if asked:
            (row,) = asked
            is_same = row.salt is not None and profile_sha256(row.salt, text) == row.sha256 and row.author == author
            if not is_same:
                raise Conflict(
                    "request_id_conflict",
                    f"request id {request_id!r} of {org_id!r} has set another profile already, version {row.version}",
                    next_step="send another profile under an id of its own",
                    where="request_id",
                )
            return _shown(org_id, row)
        if rows and rows[-1].profile == text.decode():
            return _shown(org_id, rows[-1])
        salt = new_salt(runtime)
        row = ProfileRow(
            version=len(rows) + 1,
            sha256=profile_sha256(salt, text),
            author=author,
            request_id=request_id,
            recorded_at=runtime.now(org_id),
            salt=salt,
            profile=text.decode(),
        )
        add_profile(connection, org_id, row)
        act = Act(
            "billing_profile.set",
            f"version {row.version}",
            runtime.clock(),
            org_id,
            author,
            before=_told(rows[-1]) if rows else None,
            after=_told(row),
        )
        record_act(connection, act)
    return _shown(org_id, row, is_new=True)


def profile_history(runtime: Runtime, org_id: str) -> list[BillingProfile]:
    """Every version of the org's billing profile, the first one first.

    Raises:
        NotFound: `unknown_org`.
        Unavailable: `database_unreachable`.
    """
    existing_org(runtime, org_id)
    with runtime.database.org(org_id) as connection:
        return [_shown(org_id, row) for row in list_profiles(connection, org_id)]


def find_profile(runtime: Runtime, org_id: str, version: int | None = None) -> BillingProfile:
    """One version of the org's billing profile, or the newest.

    Raises:
        NotFound: `unknown_org`, `no_billing_profile`.
        Unavailable: `database_unreachable`.
    """
    found = profile_history(runtime, org_id)
    wanted = [one for one in found if version is None or one.version == version]
    if not wanted:
        raise NotFound(
            "no_billing_profile",
            f"{org_id} has no billing profile{'' if version is None else f' of version {version}'}",
            next_step=f"say who is billed: tally orgs profile {org_id} --name NAME",
            where="org_id",
        )
    return wanted[-1]


def profile_names(runtime: Runtime, org_id: str | None = None) -> dict[tuple[str, str], str]:
    """By org and issued invoice, the name of who is billed.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        return bill_to_names(connection, org_id)


def erase_org_profiles(runtime: Runtime, org_id: str, *, user_id: str | None = None) -> list[int]:
    """Erase what the org's billing profiles say, or those of one person: the versions that were erased.

    What an issued invoice names stays: the law has invoices kept, and whom they billed with them.

    Raises:
        BadInput: `invalid_text`.
        NotFound: `unknown_org`.
        Unavailable: `database_unreachable`.
    """
    existing_org(runtime, org_id)
    with runtime.database.operator() as connection:
        versions = erase_profiles(connection, org_id, user_id, runtime.now(org_id))
        act = Act("billing_profile.erase", org_id, runtime.clock(), org_id, after={"versions": versions})
        record_act(connection, act)
    return versions


def _told(row: ProfileRow) -> dict[str, Any]:
    """Of what was said only a salted hash: it can be erased, and an act cannot."""
    return {"version": row.version, "sha256": row.sha256.hex()}


def _shown(org_id: str, row: ProfileRow, *, is_new: bool = False) -> BillingProfile:
    profile = None if row.profile is None else parse_profile(row.profile)
    return BillingProfile(
        org_id=org_id,
        version=row.version,
        sha256=row.sha256.hex(),
        author=row.author,
        recorded_at=row.recorded_at,
        profile=profile,
        is_new=is_new,
    )
