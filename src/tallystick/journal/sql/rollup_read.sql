-- Reading rollups.

-- name: backlog
-- What is not added up. The first entry that waits is also the one that was recorded first.
select coalesce(sum(head.last_seq - coalesce(state.rolled_through_seq, 0)), 0), count(*), min(first.recorded_at),
       (select max(rolled_at) from rollup_states where rolled_through_seq > 0 and (%(org)s::text is null or org_id = %(org)s))
from org_heads as head left join rollup_states as state on state.org_id = head.org_id
left join lateral (
    select recorded_at from ledger_entries
    where org_id = head.org_id and seq > coalesce(state.rolled_through_seq, 0) order by seq limit 1
) as first on true
where head.last_seq > coalesce(state.rolled_through_seq, 0) and (%(org)s::text is null or head.org_id = %(org)s)

-- name: missing_days
-- Days that ended before over_before and of which entries wait; of each org the first 100,000 that wait are looked at.
select waiting.org_id, waiting.day
from org_heads as head left join rollup_states as state on state.org_id = head.org_id
cross join lateral (
    select distinct head.org_id, (entry.time at time zone 'UTC')::date as day
    from ledger_entries as entry
    where entry.org_id = head.org_id and entry.seq > coalesce(state.rolled_through_seq, 0)
        and entry.seq <= coalesce(state.rolled_through_seq, 0) + 100000
) as waiting
where head.last_seq > coalesce(state.rolled_through_seq, 0)
    and (waiting.day + 1)::timestamp at time zone 'UTC' <= %(over_before)s
order by waiting.day, waiting.org_id
limit %(limit)s

-- name: rolled_entries
select coalesce(sum(rolled_through_seq), 0) from rollup_states where %(org)s::text is null or org_id = %(org)s
