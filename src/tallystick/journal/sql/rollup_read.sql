-- Reading rollups.

-- name: backlog
-- What is not added up. The first entry that waits is also the one that was recorded first; of test orgs, which have
-- clocks of their own, that says nothing.
select coalesce(sum(head.last_seq - coalesce(state.rolled_through_seq, 0)), 0), count(*),
       min(first.recorded_at) filter (where head.org_id not in (select org_id from test_clocks)),
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
where head.last_seq > coalesce(state.rolled_through_seq, 0) and head.org_id not in (select org_id from test_clocks)
    and (waiting.day + 1)::timestamp at time zone 'UTC' <= %(over_before)s
order by waiting.day, waiting.org_id
limit %(limit)s

-- name: rolled_entries
select coalesce(sum(rolled_through_seq), 0) from rollup_states where %(org)s::text is null or org_id = %(org)s

-- name: requests_by
-- Requests of an org by day or month and some of what they name. {names} are columns, {period} a text.
select {period} as period, {names}
       sum(requests) as requests, sum(failures) as failures, sum(empty) as empty, sum(unfinished) as unfinished, sum(unpriced) as unpriced,
       coalesce(sum(cost_pico) filter (where payer = 'seller'), 0) as cost_pico,
       coalesce(sum(cost_pico) filter (where payer = 'customer'), 0) as customer_cost_pico,
       sum(latency_ms) as latency_ms, sum(latency_requests) as latency_requests
from rollup_requests where org_id = %(org)s and day >= %(first)s and day <= %(last)s and {wanted}
group by {places} order by {places} limit %(limit)s

-- name: meters_by
-- The same by meter.
select {period} as period, {names} meter,
       sum(requests) as requests, sum(quantity) as quantity,
       coalesce(sum(cost_pico) filter (where payer = 'seller'), 0) as cost_pico,
       coalesce(sum(cost_pico) filter (where payer = 'customer'), 0) as customer_cost_pico
from rollup_meters where org_id = %(org)s and day >= %(first)s and day <= %(last)s and {wanted}
group by {places} order by {places} limit %(limit)s

-- name: operations_by
-- What happened to the org's account, by day or month.
select {period} as period, kind, reason, sum(operations) as operations, sum(credits_pico) as credits_pico
from rollup_operations where org_id = %(org)s and day >= %(first)s and day <= %(last)s
group by 1, 2, 3 order by 1, 2, 3 limit %(limit)s

-- name: reopened
-- Days of the org that changed after they were over.
select day, recorded_on, entries, first_seq, last_seq, requests, unpriced, cost_pico
from reopened_days where org_id = %(org)s and day >= %(first)s and day <= %(last)s order by day, recorded_on limit %(limit)s

-- name: rolled
-- How far the org's days are added up, and where it stands.
select coalesce((select rolled_through_seq from rollup_states where org_id = %(org)s), 0),
       coalesce((select last_seq from org_heads where org_id = %(org)s), 0)

-- name: day_requests
-- The org's requests of a span that have all of what is asked for ('' for naming none), by their sequence, with the cost of
-- the correction where there is one. Nulls ask for nothing.
select entry.seq, entry.request_id, entry.time, entry.recorded_at, entry.environment, entry.feature, entry.action, entry.provider,
       entry.model, coalesce(entry.payer, 'seller'), entry.outcome, entry.usage_status, entry.latency_ms, entry.meter_names,
       entry.meter_quantities, case when correction.seq is null then entry.status else correction.status end,
       case when correction.seq is null then entry.cost_pico else correction.cost_pico end, correction.seq
from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s) as entry
left join lateral (
    select seq, status, cost_pico from ledger_entries as other
    where entry.status = 'unpriced' and other.org_id = %(org)s and other.kind = 'correction' and other.refers_to_seq = entry.seq
    limit 1
) as correction on true
where entry.seq > %(after)s and entry.kind <> 'correction' and entry.body is null
    and (%(environment)s::text is null or entry.environment = %(environment)s) and (%(feature)s::text is null or entry.feature = %(feature)s)
    and (%(action)s::text is null or coalesce(entry.action, '') = %(action)s)
    and (%(provider)s::text is null or coalesce(entry.provider, '') = %(provider)s)
    and (%(model)s::text is null or entry.model = %(model)s) and (%(payer)s::text is null or coalesce(entry.payer, 'seller') = %(payer)s)
    and (%(meter)s::text is null or exists (
        select from unnest(entry.meter_names, entry.meter_quantities) as used (name, quantity)
        where used.name = %(meter)s and used.quantity > 0
    ))
order by entry.seq limit %(limit)s
