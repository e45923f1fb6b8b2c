"""Rollups: what each org's entries come to by UTC day, brought up to date, and made again from nothing.

They are a cache: every figure follows from the entries alone, and what is thrown away is made again to the same rows.
An org's days are added to from where they stand, some thousands of entries in one transaction. Killed at any point,
what is committed stays and the rest is done by the next run; two runs at once take different orgs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from tallystick.app.entries import stream_entries
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.journal import rollup as journal
from tallystick.journal.database import Connection, check_org_id
from tallystick.journal.history import orgs_after
from tallystick.journal.listing import require_known
from tallystick.journal.rollup import ALL_TIME, Task
from tallystick.journal.steps import reached
from tallystick.rollup.fold import Fold
from tallystick.rollup.model import end_of, start_of

ENTRIES_AT_ONCE = 100_000
"""Most entries that one transaction adds up: about a second."""
ORGS_AT_ONCE = 500

Progress = Callable[[int], object]
Instant = datetime | str


class EntriesMoved(Exception):
    """Entries left the database while they were added up; what was added is thrown away, and it begins again."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a run did: how many entries of how many orgs it added up, and how many orgs somebody else was at."""

    entries: int = 0
    orgs: int = 0
    busy: int = 0


def roll_up(
    runtime: Runtime,
    *,
    org_id: str | None = None,
    entries_max: int | None = None,
    progress: Progress = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Rolled:
    """Add up what is not added up yet, of all orgs or of one. Running it again, or twice at once, adds nothing twice.

    Args:
        runtime: the running system.
        org_id: only this org.
        entries_max: stop after about so many entries; None for all there are.
        progress: called with the number of entries as they are added up.
        stopping: asked between two transactions whether to leave the rest to another run.

    Raises:
        Conflict: `entries_missing`; BadInput: `missing_block`, `broken_block`: entries to be added up are not there.
        Unavailable: `database_unreachable`, …; what was added up until then stays so.
    """
    entries, orgs, busy = 0, set[str](), set[str]()
    while not stopping() and (entries_max is None or entries < entries_max):
        try:
            tasks = _roll_some(runtime, org_id, busy)
        except EntriesMoved:
            continue
        if tasks is None:
            break
        done = sum(task.through_seq - task.after_seq for task in tasks)
        entries += done
        orgs.update(task.org_id for task in tasks)
        progress(done)
    return Rolled(entries, len(orgs), len(busy))


def _roll_some(runtime: Runtime, org_id: str | None, busy: set[str]) -> list[Task] | None:
    """One transaction: what it added up; None when there is nothing to add. Orgs that somebody is at go into `busy`."""
    with runtime.database.writer() as connection:
        behind = journal.orgs_behind(connection, org_id=org_id, limit=ORGS_AT_ONCE + len(busy))
        wanted = [one.org_id for one in behind if one.org_id not in busy][:ORGS_AT_ONCE]
        if not wanted:
            return None
        journal.begin_rolling(connection)
        claimed = journal.claim_orgs(connection, wanted, runtime.clock())
        busy.update(set(wanted) - claimed.keys())
        tasks = _tasks(connection, claimed, ENTRIES_AT_ONCE)
        if tasks:
            add_tasks(runtime, connection, tasks, *ALL_TIME)
            journal.advance(connection, tasks, runtime.clock())
            reached("rollup.added")
        return tasks


def rebuild(
    runtime: Runtime,
    *,
    org_id: str | None = None,
    first: date | None = None,
    last: date | None = None,
    progress: Progress = lambda _: None,
) -> Rolled:
    """Throw days away and make them again from the raw entries, from blocks where those have left the database.

    Each org's days change in one transaction: whoever reads them sees all of the old or all of the new, which are the
    same unless something was wrong. Then what is not added up yet is.

    Args:
        runtime: the running system.
        org_id: only this org.
        first, last: only these UTC days, both included; None for no bound.
        progress: called with the number of entries as they are looked at.

    Raises:
        BadInput: `invalid_range`; NotFound: `unknown_org`; else as `roll_up`. An org's days stay as they were when they
            cannot be made again.
    """
    if first is not None and last is not None and last < first:
        raise BadInput("invalid_range", f"{last} is before {first}", next_step="let --from be no later than --to")
    rebuilt = [org_id] if org_id is not None else all_orgs(runtime)
    if org_id is not None:
        require_org(runtime, org_id)
    entries = 0
    for one in rebuilt:
        while True:
            try:
                entries += _rebuild_org(runtime, one, first, last, progress)
            except EntriesMoved:
                continue
            break
    roll_up(runtime, org_id=org_id)
    return Rolled(entries, len(rebuilt))


def all_orgs(runtime: Runtime) -> list[str]:
    """Every org that has entries."""
    found: list[str] = []
    with runtime.database.operator() as connection:
        while page := orgs_after(connection, found[-1] if found else "", ORGS_AT_ONCE):
            found += page
    return found


def require_org(runtime: Runtime, org_id: str) -> None:
    """Refuse an org that has neither an event nor a subscription.

    Raises:
        NotFound: `unknown_org`.
    """
    check_org_id(org_id)
    with runtime.database.org(org_id) as connection:
        require_known(connection, org_id)


def _rebuild_org(runtime: Runtime, org_id: str, first: date | None, last: date | None, progress: Progress) -> int:
    since, until = _bounds(first, last)
    with runtime.database.writer() as connection:
        journal.begin_rolling(connection)
        through = journal.claim_orgs(connection, [org_id], runtime.clock(), wait=True)[org_id]
        journal.clear_days(connection, org_id, first, last)
        after = 0
        while after < through:
            _, kept = journal.read_heads(connection, [org_id])[org_id]
            task = Task(org_id, after, min(through, after + ENTRIES_AT_ONCE), kept)
            add_tasks(runtime, connection, [task], since, until)
            progress(task.through_seq - after)
            after = task.through_seq
        reached("rollup.rebuilt")
    return through


def _bounds(first: date | None, last: date | None) -> tuple[Instant, Instant]:
    since, until = ALL_TIME
    return since if first is None else start_of(first), until if last is None else end_of(last)


def _tasks(connection: Connection, claimed: dict[str, int], entries_max: int) -> list[Task]:
    """What is to be added up now, at most so many entries."""
    tasks, room = [], entries_max
    heads = journal.read_heads(connection, list(claimed))
    for org_id, after in claimed.items():
        last, kept = heads.get(org_id, (0, 1))
        through = min(last, after + room)
        if through > after:
            tasks.append(Task(org_id, after, through, kept))
            room -= through - after
    return tasks


def add_tasks(runtime: Runtime, connection: Connection, tasks: Sequence[Task], since: Instant, until: Instant) -> None:
    """Add what the tasks' entries come to, wherever they are, of those with time in [since, until).

    Raises:
        EntriesMoved: some left the database meanwhile; the transaction is to be rolled back, and begun again.
        Conflict, BadInput: as `roll_up`.
    """
    kept = [task._replace(after_seq=max(task.after_seq, task.kept_seq - 1)) for task in tasks]
    kept = [task for task in kept if task.through_seq > task.after_seq]
    if kept:
        journal.add_entries(connection, kept, since, until)
    folds: dict[str, Fold] = {}
    for entry in journal.orphaned_corrections(connection, kept, since, until) if kept else ():
        fold = folds.setdefault(entry.org_id, Fold())
        seq = entry.refers_to_seq or 0
        (request,) = stream_entries(runtime, entry.org_id, seq, seq)
        fold.know(request)
        fold.add(entry)
    for task in tasks:
        if task.after_seq < task.kept_seq - 1:
            fold = folds.setdefault(task.org_id, Fold())
            _fold_archived(runtime, task, fold, since, until)
    for org_id, fold in folds.items():
        journal.add_fold(connection, org_id, fold)
    now_kept = journal.read_heads(connection, [task.org_id for task in tasks])
    if any(now_kept[task.org_id][1] != task.kept_seq for task in kept):
        raise EntriesMoved


def _fold_archived(runtime: Runtime, task: Task, fold: Fold, since: Instant, until: Instant) -> None:
    last = min(task.through_seq, task.kept_seq - 1)
    for entry in stream_entries(runtime, task.org_id, task.after_seq + 1, last):
        inside = (not isinstance(since, datetime) or entry.time >= since) and (
            not isinstance(until, datetime) or entry.time < until
        )
        if not inside:
            continue
        if entry.kind == "correction" and (entry.refers_to_seq or 0) <= task.after_seq:
            seq = entry.refers_to_seq or 0
            (request,) = stream_entries(runtime, task.org_id, seq, seq)
            fold.know(request)
        fold.add(entry)
