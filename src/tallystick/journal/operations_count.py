"""Bringing counters up that are far behind: in steps, each a transaction of its own.

A plan with limits for an org that has used millions of tokens unlimited until now, a first budget, a cursor that nobody
moved for weeks: there may be any number of entries to add up. The database does it in its own memory, but whoever waits
for the org's head must not wait for all of it. Between two steps others write; what they append is counted by the next.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from tallystick.journal.counters import Backlog, Progress, catch_up, counters_of
from tallystick.journal.database import Connection
from tallystick.journal.heads import heads_of, prepare_heads
from tallystick.journal.operations_counted import COUNTED_AT_ONCE
from tallystick.journal.operations_load import OrgRow
from tallystick.journal.operations_read import Reader
from tallystick.journal.operations_script import Script, instant, text
from tallystick.journal.round_trips import texts
from tallystick.journal.steps import reached
from tallystick.ledger.accounts import CREDIT_ACCOUNTS
from tallystick.ledger.budget_index import BudgetIndex


def count_in_steps(connection: Connection, reader: Reader, org_id: str, now: datetime) -> None:
    """Bring the org's counters up to where its entries stand, but for the last few.

    Args:
        connection: outside of a transaction.

    Raises:
        psycopg.Error: what was counted until then stays so.
    """
    while _count(connection, reader, org_id, now) >= COUNTED_AT_ONCE:
        reached("count.committed")


def _count(connection: Connection, reader: Reader, org_id: str, now: datetime) -> int:
    """One step; how many entries were left to be counted before it."""
    script = Script()
    script.add(b"begin")
    script.call("lock_heads", texts([org_id]))
    script.call("accounts", texts([org_id]), instant(now))
    prepare_heads(connection)
    found = script.run(connection)
    row = OrgRow(*found["accounts"][0])
    last_seq = heads_of(found["lock_heads"])[org_id].seq
    contracts = reader.add_contracts(connection, [row])
    contract = None if row.sha256 is None else contracts[row.sha256]
    counters = counters_of(org_id, contract, row.plan, row.time_zone, BudgetIndex(row.terms().budgets.values()), now)
    if counters is None or not counters.counting.rules:
        connection.rollback()
        return 0
    progress = msgspec.json.decode(row.progress or "{}", type=Progress)
    counted_through_seq, forget_all = row.counted_through_seq or 0, bool(counters.stale(progress))
    if forget_all:
        script = Script()
        since = min(window.starts_at for window in counters.windows.values())
        script.call("window_reached", text(org_id), instant(since), b"%d" % last_seq)
        counted_through_seq = script.run(connection)["window_reached"][0][0] - 1
        progress.counted = counters.counting.signature
        progress.starts = {per: window.starts_at for per, window in counters.windows.items()}
    left = last_seq - counted_through_seq
    through_seq = min(last_seq, counted_through_seq + COUNTED_AT_ONCE)
    script = Script()
    if row.counted_through_seq is None:
        script.call("add_states", texts([org_id]), texts(CREDIT_ACCOUNTS))
    catch_up(script, [Backlog(counters, [], counted_through_seq, through_seq, forget_all)])
    said = msgspec.json.encode(progress).decode()
    script.call("save_counted", text(org_id), b"%d" % through_seq, text(said))
    script.add(b"commit")
    script.run(connection)
    return left
