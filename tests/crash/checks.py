"""What must hold after every crash, asked of the database itself."""

from __future__ import annotations

import psycopg

from crash.traffic import Ledger

_DENSE = """
select head.org_id, head.last_seq, count(entry.seq), coalesce(max(entry.seq), 0), count(distinct entry.request_id)
from org_heads as head left join ledger_entries as entry using (org_id)
group by head.org_id, head.last_seq
having count(entry.seq) <> head.last_seq or coalesce(max(entry.seq), 0) <> head.last_seq
    or count(distinct entry.request_id) <> count(entry.seq)
"""
_BOOKS = """
select org_id, cost, moved, debited, credited
from (select org_id, coalesce(sum(cost_pico), 0) as cost from ledger_entries group by org_id) as entries
left join (select org_id, sum(amount_pico) as moved from transfers group by org_id) as transfers using (org_id)
left join (
    select org_id, sum(debit_pico) as debited, sum(credit_pico) as credited from account_balances group by org_id
) as balances using (org_id)
where cost <> coalesce(moved, 0) or cost <> debited or cost <> credited
"""
_BLOCKS = """
select org_id, first_seq, expected from (
    select org_id, first_seq, 1 + lag(last_seq, 1, 0::bigint) over (partition by org_id order by first_seq) as expected
    from block_orgs
) as ranges where first_seq <> expected
"""


def wrongs(url: str, ledger: Ledger) -> list[str]:
    """Every broken promise: lost, doubled or moved events, gaps, books out of balance, blocks that do not join."""
    found = list(ledger.broken)
    with psycopg.connect(url) as connection:
        found += [f"not dense: {row}" for row in connection.execute(_DENSE)]
        found += [f"out of balance: {row}" for row in connection.execute(_BOOKS)]
        found += [f"blocks do not join: {row}" for row in connection.execute(_BLOCKS)]
        rows = connection.execute("select request_id, org_id, seq, encode(leaf, 'hex') from ledger_entries")
        stored = {request_id: rest for request_id, *rest in rows}
    for number, promise in ledger.promises.items():
        kept = stored.get(f"r{number}")
        if kept is None:
            found.append(f"lost: event {number}, promised as {promise}")
        elif kept != [promise.org_id, promise.seq, promise.leaf]:
            found.append(f"moved: event {number} is {kept}, promised as {promise}")
    return found
