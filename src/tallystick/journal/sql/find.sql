-- Finding what an id has to do with: each look is some probes of an index for an org, however many entries there are.

-- name: named
-- The entries of these orgs that were sent under one of these request ids. Ids of settlements, releases and expiries are
-- nobody's: they name their holds.
select given.org_id, found.seq
from unnest(%(orgs)s::text[]) as given (org_id)
cross join unnest(%(ids)s::text[]) as asked (request_id)
cross join lateral (
    (
        select seq from ledger_entries
        where org_id = given.org_id and request_id = asked.request_id and kind = 'usage' limit 1
    )
    union all
    (
        select seq from ledger_entries
        where org_id = given.org_id and kind = any(%(kinds)s::text[])
            and request_id = asked.request_id and body is not null and kind <> 'denial'
        limit 10
    )
    union all
    (
        select seq from ledger_entries
        where org_id = given.org_id and request_id = asked.request_id and kind = 'denial'
        order by seq desc limit %(denials)s
    )
    union all
    (
        select seq from claimed_ids
        where org_id = given.org_id and kind = any(%(kinds)s::text[]) and request_id = asked.request_id limit 2
    )
) as found

-- name: provider_named
-- Usage of calls that the provider knows under this id.
select org_id, seq from ledger_entries
where attributes ->> 'provider_request_id' = %(id)s and attributes ? 'provider_request_id'
    and (%(org)s::text is null or org_id = %(org)s)
order by org_id, seq
limit %(limit)s

-- name: worked_on
-- What was done last to that piece of work: settlements that charged for it, and holds that are open.
select given.org_id, found.seq
from unnest(%(orgs)s::text[]) as given (org_id)
cross join lateral (
    (
        with recursive actions as (
            (select action from finished_work where org_id = given.org_id order by action limit 1)
            union all
            select (
                select next.action from finished_work as next
                where next.org_id = given.org_id and next.action > actions.action order by next.action limit 1
            )
            from actions where actions.action is not null
        )
        select work.seq from actions
        cross join lateral (
            select seq from finished_work
            where org_id = given.org_id and action = actions.action and work_key = %(key)s limit 1
        ) as work
    )
    union all
    (
        select hold.seq from open_holds as hold
        cross join lateral (
            select body from ledger_entries where org_id = given.org_id and seq = hold.seq limit 1
        ) as entry
        where hold.org_id = given.org_id and strpos(entry.body, %(member)s) > 0
        limit %(limit)s
    )
) as found

-- name: entries
-- These entries of the org, as far as they are in the database.
select * from ledger_entries where org_id = %(org)s and seq = any(%(seqs)s::bigint[]) order by seq

-- name: settlements_of
-- By which settlement each of these entries of usage is claimed, or else which one is the next operation after it.
select given.seq, claim.settlement_seq, following.seq
from unnest(%(seqs)s::bigint[]) as given (seq)
left join lateral (
    select settlement_seq from settled_usage where org_id = %(org)s and settled_usage.seq = given.seq limit 1
) as claim on true
left join lateral (
    select next.seq from (
        select seq, kind from ledger_entries
        where org_id = %(org)s and ledger_entries.seq > given.seq and body is not null order by ledger_entries.seq limit 1
    ) as next where next.kind = 'settlement'
) as following on true

-- name: blocks_left
-- The blocks that hold entries which are no longer in the database, of one org or of all, within a time.
select blocks.block, blocks.path, blocks.entries from blocks
where blocks.time_max >= %(since)s and blocks.time_min < %(until)s and exists (
    select from block_orgs as ranges
    where ranges.block = blocks.block and (%(org)s::text is null or ranges.org_id = %(org)s)
        and not exists (
            select from ledger_entries as entry where entry.org_id = ranges.org_id and entry.seq = ranges.first_seq
        )
)
order by blocks.block

-- name: head
-- How many entries the org has, and from which on they are in the database.
select head.last_seq, coalesce(
    (select seq from ledger_entries where org_id = %(org)s order by seq limit 1), head.last_seq + 1)
from org_heads as head where head.org_id = %(org)s
