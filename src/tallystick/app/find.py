"""Everything that an id has to do with: the decision, the hold, the call, the usage, its price, the charge, the wallet.

The id may be whatever somebody has at hand: a caller's request id, the provider's own, a work key, or an entry's.

    entry's id ── request id ── provider's id ── work key     by indexes, in every org or in one
        └► none of them: sealed blocks, read through, where entries have left the database
    settlement queue, spool        what is not in the ledger yet, or was refused
        ▼
    of each org: all that belongs to it (`find_entries`), told step by step (`find_steps`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from tallystick.app.answer_parts import pico_to_credits, total, wallet_change
from tallystick.app.find_entries import StoryEntries
from tallystick.app.find_steps import in_order_of_time, steps_of
from tallystick.app.find_waiting import Waiting, waiting_for, waiting_of
from tallystick.app.history import ORGS_AT_ONCE, checked_time
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.archive.paths import people_path
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.journal.find import Place, blocks_left, head_of, named, provider_named, worked_on
from tallystick.journal.history import orgs_after
from tallystick.journal.invoices import list_invoice_rows
from tallystick.journal.sealing import blocks_of_org
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import LETTERS, operation_id
from tallystick.usage.event_problems import check_text

ORGS_MAX: Final = 20
"""An id that more orgs have used is told of so many; with an org, of that."""

Members = dict[str, Any]
_Progress = Callable[[int], object]
_ENTRY_ID = re.compile(r"(#|[a-z]?)([1-9][0-9]{0,17})")
_KIND_OF = {letter: kind for kind, letter in LETTERS.items()}


def find(
    runtime: Runtime,
    text: str,
    *,
    org_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    reads_blocks: bool = True,
    advance: _Progress = lambda _: None,
) -> Members:
    """What an id has to do with, of each org that has used it.

    Args:
        text: a request id, a provider's request id, a work key; with `org_id` also an entry's number or id.
        org_id: look at this org alone.
        since, until: bounds, half-open, of the event times of blocks that are read through; None leaves one out.
        reads_blocks: whether to read sealed blocks through for what nothing else knows; seconds for each ten million
            entries.
        advance: is called with the number of entries of each block that was read through.

    Returns:
        `stories`, one for each org (and at most `ORGS_MAX`, `left_off` says how many more there are), and `looked_at`.

    Raises:
        BadInput: it can be no id; `invalid_period`; of a block: `missing_block`, `broken_block`.
        NotFound: `unknown_org`; `not_found`, with what was looked at.
        Conflict: `entries_missing`.
        Unavailable: `database_unreachable`.
    """
    check_text("REQUEST-ID", text)
    period = checked_time(since, until)
    if org_id is not None:
        existing_org(runtime, org_id)
    looked: list[Members] = []
    waiting = waiting_for(runtime.settings, text, org_id)
    looked.append({"what": "settlement_queue_and_spool", "found": len(waiting)})
    places = _in_database(runtime, text, org_id, looked)
    if not places and not waiting and reads_blocks:
        places = _in_blocks(runtime, text, org_id, *period, looked, advance)
    if not places and not waiting:
        raise _not_found(text, org_id, looked)
    by_org: dict[str, dict[int, set[str]]] = {one.org_id: {} for one in waiting}
    for (org, seq), what in places.items():
        by_org.setdefault(org, {})[seq] = what
    told = sorted(by_org)[:ORGS_MAX]
    stories = [
        _story(runtime, org, by_org[org], [one for one in waiting if one.org_id == org], advance) for org in told
    ]
    return {"id": text, "stories": stories, "left_off": len(by_org) - len(told), "looked_at": looked}


# ── where it is ─────────────────────────────────────────────────────────────────────────────────


def _in_database(runtime: Runtime, text: str, org_id: str | None, looked: list[Members]) -> dict[Place, set[str]]:
    found: dict[Place, set[str]] = {}

    def mark(what: str, places: list[Place]) -> None:
        for place in places:
            found.setdefault(place, set()).add(what)
        seen = next((one for one in looked if one["what"] == what), None)
        if seen is None:
            looked.append({"what": what, "found": len(places)})
        else:
            seen["found"] += len(places)

    if org_id is not None:
        mark("entry_id", _entry_places(runtime, text, org_id))
    for orgs in _orgs(runtime, org_id):
        with runtime.database.operator() as connection:
            mark("request_id", named(connection, orgs, [text]))
            mark("work_key", worked_on(connection, orgs, text))
    with runtime.database.operator() as connection:
        mark("provider_request_id", provider_named(connection, org_id, text))
    return found


def _orgs(runtime: Runtime, org_id: str | None) -> Iterator[list[str]]:
    if org_id is not None:
        yield [org_id]
        return
    after = ""
    while True:
        with runtime.database.operator() as connection:
            orgs = orgs_after(connection, after, ORGS_AT_ONCE)
        if not orgs:
            return
        yield orgs
        after = orgs[-1]


def _entry_places(runtime: Runtime, text: str, org_id: str) -> list[Place]:
    matched = _ENTRY_ID.fullmatch(text)
    if matched is None:
        return []
    letter, seq = matched[1], int(matched[2])
    with runtime.database.org(org_id) as connection:
        last_seq, _ = head_of(connection, org_id)
    if seq > last_seq:
        return []
    if letter in ("", "#"):
        return [(org_id, seq)]
    (entry,) = StoryEntries(runtime, org_id).read([seq])
    return [(org_id, seq)] if entry.kind == _KIND_OF.get(letter) else []


def _in_blocks(
    runtime: Runtime,
    text: str,
    org_id: str | None,
    since: datetime,
    until: datetime,
    looked: list[Members],
    advance: _Progress,
) -> dict[Place, set[str]]:
    from tallystick.archive.find_rows import rows_named, rows_of_provider, rows_with_body

    with runtime.database.operator() as connection:
        blocks = blocks_left(connection, org_id, since, until)
    store = block_store(runtime.settings)
    found: dict[Place, set[str]] = {}
    work = '"work_key":' + msgspec.json.encode(text).decode()
    for block in blocks:
        main = store.main(block.path)
        for what, places in (
            ("request_id", rows_named(main, org_id, {text}, frozenset())),
            ("provider_request_id", rows_of_provider(people_path(main), org_id, text)),
            ("work_key", rows_with_body(main, org_id, work)),
        ):
            for place in places:
                found.setdefault(place, set()).add(what)
        advance(block.entries)
    looked.append(
        {
            "what": "blocks",
            "found": len(found),
            "blocks": len(blocks),
            "from": format_instant(since),
            "to": format_instant(until),
        }
    )
    return found


def _not_found(text: str, org_id: str | None, looked: list[Members]) -> NotFound:
    names = {"blocks": "sealed blocks"}
    where = ", ".join(names.get(one["what"], one["what"].replace("_", " ") + "s") for one in looked)
    whose = f"of {org_id}" if org_id is not None else "of any org"
    hint = "check the id and the time" if org_id else "check the id; the id of an entry is looked for with --org ORG"
    return NotFound("not_found", f"nothing {whose} is known as {text!r:.200}; looked at: {where}", next_step=hint)


# ── what there is to tell ───────────────────────────────────────────────────────────────────────


def _story(
    runtime: Runtime, org_id: str, seeds: dict[int, set[str]], waiting: list[Waiting], advance: _Progress
) -> Members:
    places = seeds | {
        int(one.hold_id[1:]): {"settlement_queue"}
        for one in waiting
        if one.hold_id and int(one.hold_id[1:]) not in seeds
    }
    entries = StoryEntries(runtime, org_id, advance).gather(places)
    holds = {operation_id("hold", entry.seq) for entry in entries if entry.kind == "hold"}
    steps = {(one.org_id, one.hold_id, one.step["where"], str(one.step["usage"])): one.step for one in waiting}
    for one in waiting_of(runtime.settings, org_id, holds):
        steps[one.org_id, one.hold_id, one.step["where"], str(one.step["usage"])] = one.step
    found_as = set().union(*seeds.values()) | {one.step["where"].replace(" ", "_") for one in waiting}
    ids = [entry.request_id for entry in entries if entry.kind in ("hold", "denial", "usage")]
    ids += [each["request_id"] for step in steps.values() for each in step["usage"]]
    return {
        "org_id": org_id,
        "found_as": sorted(found_as),
        "request_ids": list(dict.fromkeys(ids)),
        "steps": in_order_of_time([*steps_of(entries, runtime.cards), *steps.values()]),
        "not_in_ledger": len(steps),
        **_entries(runtime, org_id, entries),
        **_sums(entries),
    }


def _entries(runtime: Runtime, org_id: str, entries: list[Entry]) -> Members:
    """Where each entry is, and the invoices of its month."""
    if not entries:
        return {"entries": [], "invoices": []}
    with runtime.database.org(org_id) as connection:
        _, kept_from = head_of(connection, org_id)
        blocks = blocks_of_org(connection, org_id, entries[0].seq, entries[-1].seq)
        rows = list_invoice_rows(connection, org_id)
    places = []
    for entry in entries:
        block = next((one.block for one in blocks if one.first_seq <= entry.seq <= one.last_seq), None)
        places.append(_place(entry, block, in_database=entry.seq >= kept_from))
    invoices = []
    for row in rows:
        of_month = [entry.seq for entry in entries if row.period_start <= entry.time < row.period_end]
        if of_month:
            invoices.append(
                {
                    "invoice_id": row.invoice_id,
                    "period": row.period,
                    "covers": [seq for seq in of_month if seq <= row.through_seq],
                    "too_late_for_it": [seq for seq in of_month if seq > row.through_seq],
                }
            )
    return {"entries": places, "invoices": invoices}


def _place(entry: Entry, block: int | None, *, in_database: bool) -> Members:
    return {
        "seq": entry.seq,
        "entry_id": str(entry.seq) if entry.body is None else operation_id(entry.kind, entry.seq),
        "kind": entry.kind,
        "request_id": entry.request_id,
        "recorded_at": format_instant(entry.recorded_at),
        "fingerprint": None if entry.fingerprint is None else entry.fingerprint.hex(),
        "leaf": entry.leaf.hex(),
        "block": block,
        "in": "database" if in_database else "block",
    }


def _sums(entries: list[Entry]) -> Members:
    """What all of it cost us (None while something has no price), what was charged, and the wallet before and after."""
    costs = {entry.seq: entry.cost_pico for entry in entries if entry.kind == "usage"}
    costs |= {entry.refers_to_seq or 0: entry.cost_pico for entry in entries if entry.kind == "correction"}
    charged_pico = 0
    wallets = []
    for entry in entries:
        if entry.body is None:
            continue
        result: Any = read_body(entry.kind, entry.body)[1]
        if entry.kind == "adjustment":
            costs[entry.seq] = read_body(entry.kind, entry.body)[0].cost_pico
        if entry.kind == "settlement":
            charged_pico += total(result.charged) + total(result.overage) + result.receivable_pico
        elif entry.kind == "refund":
            charged_pico -= total(result.returned) + result.receivable_pico
        if entry.kind == "denial":
            wallets.append((result.wallet, result.wallet))
        elif hasattr(result, "before"):
            wallets.append((result.before, result.after))
    known = [cost for cost in costs.values() if cost is not None]
    return {
        "cost_usd": pico_to_usd(sum(known)) if len(known) == len(costs) else None,
        "charged_credits": pico_to_credits(charged_pico),
        "wallet": None if not wallets else wallet_change(wallets[0][0], wallets[-1][1]),
    }
