-- Reading what an org's account holds and what happened to it.

-- name: lots
-- The grants of which something is available.
select seq, source, priority, granted_at, expires_at, amount_pico, available_pico from grants
where org_id = %(org)s and is_left
order by expires_at nulls last, priority, seq

-- name: balances
-- What was debited and credited to each account in credits.
select account, debit_pico, credit_pico from account_balances
where org_id = %(org)s and asset = %(asset)s
order by account

-- name: open_holds
-- The holds that nothing has resolved, oldest first.
select entry.* from open_holds as hold
join ledger_entries as entry on entry.org_id = hold.org_id and entry.seq = hold.seq
where hold.org_id = %(org)s and hold.seq > %(after)s
order by hold.seq
limit %(limit)s

-- name: operations_after
-- The org's operations with seq above the cursor, oldest first.
select * from ledger_entries
where org_id = %(org)s and body is not null and seq > %(after)s
order by seq
limit %(limit)s

-- name: operations_before
-- The org's operations with seq below the cursor, newest first.
select * from ledger_entries
where org_id = %(org)s and body is not null and seq < %(before)s
order by seq desc
limit %(limit)s

-- name: operation
-- Which entry has claimed a request id: in the database, or since gone to a block.
select seq from ledger_entries
where org_id = %(org)s and kind = %(kind)s and request_id = %(request_id)s and body is not null and kind <> 'denial'
union all
select seq from claimed_ids where org_id = %(org)s and kind = %(kind)s and request_id = %(request_id)s
limit 1

-- name: entries
-- Entries by their places.
select * from ledger_entries where org_id = %(org)s and seq = any(%(seqs)s)

-- name: referring
-- The entries that refer to these, in their order.
select * from ledger_entries
where org_id = %(org)s and refers_to_seq = any(%(seqs)s)
    and (kind = 'correction' or kind in ('settlement', 'release', 'expiry') or kind = 'refund' or kind = 'adjustment'
         or kind = 'dispute')
order by seq

-- name: state
-- What is kept of an org beside its lots, holds and counters.
select state from org_states where org_id = %(org)s

-- name: first_kept
-- From which entry on the org's are in the database; above its last when none is.
select coalesce(
    (select min(seq) from ledger_entries where org_id = %(org)s),
    (select last_seq + 1 from org_heads where org_id = %(org)s),
    1)

-- name: counters
-- What these counters have. A window_start of null is what open holds reserve.
select given.counter, given.window_start, counter.used
from unnest(%(counters)s::text[], %(starts)s::timestamptz[]) as given (counter, window_start)
join counters as counter on counter.org_id = %(org)s and counter.counter = given.counter
    and counter.window_start = coalesce(given.window_start, '-infinity')

-- name: spenders
-- Who has spent most of what such counters count, in the window or as held.
select substr(counter, length(%(prefix)s) + 1), used from counters
where org_id = %(org)s and counter >= %(prefix)s and counter < %(end)s
    and window_start = coalesce(%(start)s::timestamptz, '-infinity') and used > 0
order by used desc, counter
limit %(limit)s

-- name: progress
-- From when on the counted windows begin.
select progress from org_states where org_id = %(org)s
