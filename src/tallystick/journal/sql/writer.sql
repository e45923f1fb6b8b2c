-- The writer's queries. Parameters are arrays, so that one round trip serves a group of any size. Those that begin with
-- "prepare" are prepared once in a session; see round_trips.py.

-- name: add_missing_heads
-- A head for every org that has none, at sequence 0, and its accounts; in order of org, so that two groups cannot
-- deadlock.
with added as (
    insert into org_heads (org_id)
    select org_id from unnest(%(orgs)s::text[]) as given (org_id) order by org_id collate "C"
    on conflict (org_id) do nothing
    returning org_id
)
insert into account_balances (org_id, account, asset)
select added.org_id, account, %(asset)s from added cross join unnest(%(accounts)s::text[]) as named (account)

-- name: lock_heads
-- Lock the heads of the group's orgs, always in the same order, and read where their sequences stand; instants in
-- microseconds since 2000. Whoever holds a head's lock is the only writer of that org until the transaction ends.
prepare tally_lock_heads (text[]) as
select org_id, last_seq, (extract(epoch from time_max) * 1000000)::bigint - 946684800000000,
    (extract(epoch from forgotten_until) * 1000000)::bigint - 946684800000000
from org_heads where org_id = any($1) order by org_id for update

-- name: probe
-- Which of these (org, request id) are stored already, with what the receipt of each said. The lateral join makes it
-- one index lookup for each key, whatever the statistics say.
select given.index::int8, entry.*
from unnest(%(orgs)s::text[], %(requests)s::text[]) with ordinality as given (org_id, request_id, index)
join lateral (
    select seq, recorded_at, fingerprint, salt, leaf, cost_pico, status, rate_version, reason from ledger_entries
    where org_id = given.org_id and request_id = given.request_id and kind = 'usage'
    limit 1
) as entry on true

-- name: post
-- After the entries: one transfer for each org, the other way round where adjustments make it less than nothing, recorded
-- when its last entry was; the balances that it moves; and the
-- head. The heads are locked, and with them the accounts.
prepare tally_post (text[], bigint[], bigint[], timestamptz[], numeric[], timestamptz[]) as
with given as materialized (
    select * from unnest($1, $2, $3, $4, $5, $6) as given (org_id, first_seq, last_seq, time_max, amount, recorded_at)
), moving as (
    insert into transfers (org_id, seq, first_seq, debit_account, credit_account, asset, amount_pico, recorded_at)
    select org_id, last_seq, first_seq, case when amount < 0 then '{credit}' else '{debit}' end,
           case when amount < 0 then '{debit}' else '{credit}' end, '{asset}', abs(amount), recorded_at
    from given
), balanced as (
    update account_balances as balance
    set debit_pico = debit_pico + case when (account = '{debit}') = (amount > 0) then abs(amount) else 0 end,
        credit_pico = credit_pico + case when (account = '{credit}') = (amount > 0) then abs(amount) else 0 end
    from given cross join lateral (
        -- looked up by its key, whatever the plan: joined in any other way, the balances of all orgs would be looked at
        select ctid as place from account_balances
        where org_id = given.org_id and account in ('{debit}', '{credit}') and asset = '{asset}' offset 0
    ) as found
    where balance.ctid = found.place and given.amount <> 0
)
update org_heads as head set last_seq = given.last_seq, time_max = given.time_max
from given cross join lateral (select ctid as place from org_heads where org_id = given.org_id offset 0) as found
where head.ctid = found.place

-- name: entry
-- One entry as it is stored.
select {columns} from ledger_entries where org_id = %(org)s and seq = %(seq)s

-- name: copy_entries
-- The entries, in the order of columns that the rows are encoded in.
copy ledger_entries ({columns}) from stdin (format binary)
