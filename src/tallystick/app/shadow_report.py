"""Who would have been stopped, had shadow mode not let everything pass: read before enforcement is turned on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.contracts import list_contracts
from tallystick.app.entries import stream_entries
from tallystick.app.history import FOR_EVER, checked_time, first_seq_since, history_orgs
from tallystick.app.runtime import Runtime
from tallystick.contract.loader import HOLD_LIFE_MAX
from tallystick.contract.model import Contract
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.journal.history import OperationRow, stream_operations
from tallystick.journal.period_scope import Scope, begin_reading, find_span, read_head
from tallystick.simulate.shadow import KINDS, ShadowTally, Stopped

Progress = Callable[[int], object]
_HOLDS_END = HOLD_LIFE_MAX + timedelta(days=1)
"""By when every hold has ended after it was made."""


def shadow_report(
    runtime: Runtime,
    start: datetime | None = None,
    end: datetime | None = None,
    org_id: str | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What shadow mode let pass of the requests that were decided in the time [start, end), and what was denied.

    Entries that have left the database are read from their blocks. Nothing is written; memory grows with the groups of
    the report and with the holds that are open at a time.

    Args:
        start: the first instant; None for all that is recorded.
        end: the first instant after the time; None for all that is recorded.
        org_id: only this org's.
        progress: called with 1 after each org.

    Raises:
        BadInput: `invalid_period`; `missing_block`, `broken_block`.
        NotFound: `unknown_org`; `unknown_contract_version`: a decision names a contract that is not there.
        Conflict: `entries_missing`.
        Unavailable: `database_unreachable`.
    """
    since, until = checked_time(start, end)
    tally = ShadowTally(since, until, contracts_by_sha256(runtime))
    for one in history_orgs(runtime, org_id):
        tally.take(one, _operations(runtime, one, since, until))
        if progress is not None:
            progress(1)
    return _report(tally, since, end or runtime.clock(), org_id)


def contracts_by_sha256(runtime: Runtime) -> Callable[[str], Contract]:
    """Finds applied contracts by the hash of their content."""
    versions = {version.sha256: version for version in list_contracts(runtime)}

    @cache
    def contract_of(sha256: str) -> Contract:
        if sha256 not in versions:
            raise NotFound(
                "unknown_contract_version",
                f"a decision was made under a contract with the hash {sha256}, and no such version is applied",
                next_step="run `tally verify`; restore the database from a backup",
            )
        return load_stored_contract(versions[sha256])

    return contract_of


def _operations(runtime: Runtime, org_id: str, since: datetime, until: datetime) -> Iterator[OperationRow]:
    """The org's decisions of the time, and what ends holds until the last of them must have ended."""
    ends_by = min(until, FOR_EVER) + _HOLDS_END
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head = read_head(connection, org_id)
        if not head.has_left(since):
            span = find_span(connection, Scope(org_id, since, ends_by, head.last_seq))
            yield from stream_operations(connection, span, KINDS)
            return
        first_seq = first_seq_since(connection, org_id, head, since)
    for entry in stream_entries(runtime, org_id, first_seq, head.last_seq):
        if entry.kind in KINDS and entry.body is not None and entry.time < ends_by:
            yield OperationRow(entry.seq, entry.kind, entry.time, entry.refers_to_seq, entry.body)


def _report(tally: ShadowTally, since: datetime, until: datetime, org_id: str | None) -> dict[str, Any]:
    passed, denied = tally.passed_groups, tally.denied_groups
    return {
        "from": format_instant(since),
        "to": format_instant(until),
        "org_id": org_id,
        "orgs": tally.orgs,
        "requests": tally.decided,
        "in_shadow_mode": tally.shadowed,
        "would_stop": _total(passed),
        "stopped": _total(denied, enforced=True),
        "by_code": _by(passed, lambda one: {"code": one.code}),
        "by_plan": _by(passed, lambda one: {"plan": one.plan}),
        "groups": [_group(one) for one in sorted(passed, key=_most_first)],
        "enforced": [_group(one, enforced=True) for one in sorted(denied, key=_most_first)],
    }


def _most_first(one: Stopped) -> tuple[Any, ...]:
    return (-one.requests, one.org_id, one.plan, one.action or "", one.code)


def _total(groups: Iterable[Stopped], *, enforced: bool = False) -> dict[str, Any]:
    found = list(groups)
    counts = {"requests": sum(one.requests for one in found), "orgs": len({one.org_id for one in found})}
    return counts if enforced else counts | _amounts(found)


def _by(groups: Iterable[Stopped], key: Callable[[Stopped], dict[str, str]]) -> list[dict[str, Any]]:
    found: dict[str, tuple[dict[str, str], list[Stopped]]] = {}
    for one in groups:
        name = key(one)
        found.setdefault("".join(name.values()), (name, []))[1].append(one)
    parts = [name | _total(members) for name, members in found.values()]
    return sorted(parts, key=lambda part: (-part["requests"], *map(str, part.values())))


def _amounts(groups: list[Stopped]) -> dict[str, Any]:
    return {
        "settled": sum(one.settled for one in groups),
        "cost_usd": pico_to_usd(sum(one.cost_pico for one in groups)),
        "credits_charged": pico_to_usd(sum(one.charged_pico for one in groups)),
        "credits_not_charged": pico_to_usd(sum(one.uncharged_pico for one in groups)),
    }


def _group(one: Stopped, *, enforced: bool = False) -> dict[str, Any]:
    members = {
        "org_id": one.org_id,
        "plan": one.plan,
        "action": one.action,
        "code": one.code,
        "requests": one.requests,
        "first": format_instant(one.first),
        "last": format_instant(one.last),
    }
    return members if enforced else members | _amounts([one])
