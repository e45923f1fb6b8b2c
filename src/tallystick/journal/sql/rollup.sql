-- Rollups: entries added up by org and UTC day. What is given of the entries are tasks: of each org those with
-- after_seq < seq <= through_seq and time in [since, until).

-- name: settings
-- For statements that look at many entries: the writer's sessions are made for few. Without statistics the planner takes
-- them for few, too, and sorts what it should hash, which took a third of the time. One that waits for a block to be read
-- in between is no frozen writer: it holds no org's head.
set local plan_cache_mode = force_custom_plan; set local enable_hashjoin = on; set local enable_seqscan = on;
set local enable_sort = off; set local work_mem = '64MB'; set local idle_in_transaction_session_timeout = '10min'

-- name: behind
-- Orgs whose entries are not all added up, those that wait longest first.
select head.org_id, coalesce(state.rolled_through_seq, 0), head.last_seq
from org_heads as head left join rollup_states as state on state.org_id = head.org_id
where head.last_seq > coalesce(state.rolled_through_seq, 0) and (%(org)s::text is null or head.org_id = %(org)s)
order by state.rolled_at nulls first, head.org_id
limit %(limit)s

-- name: begin_states
insert into rollup_states (org_id, rolled_at) select org_id, %(now)s from unnest(%(orgs)s::text[]) as given (org_id)
where not exists (select from rollup_states as state where state.org_id = given.org_id)
order by org_id
on conflict do nothing

-- name: claim
-- Be the one who adds to these orgs' days, until the transaction ends; without those that somebody else is at.
select org_id, rolled_through_seq from rollup_states where org_id = any(%(orgs)s::text[])
order by org_id for update skip locked

-- name: claim_waiting
-- The same for one org, once whoever is at it has done.
select org_id, rolled_through_seq from rollup_states where org_id = any(%(orgs)s::text[]) for update

-- name: heads
-- Where these orgs stand, and their first entry that is still in the database. All up to last_seq are visible from now on.
select head.org_id, head.last_seq,
       coalesce((select seq from ledger_entries where org_id = head.org_id order by seq limit 1), head.last_seq + 1)
from org_heads as head where head.org_id = any(%(orgs)s::text[])

-- name: advance
update rollup_states as state set rolled_through_seq = given.through_seq, rolled_at = %(now)s
from unnest(%(orgs)s::text[], %(through)s::bigint[]) as given (org_id, through_seq) where state.org_id = given.org_id

-- name: clear
-- Forget an org's days from one to another, both included.
with requests as (
    delete from rollup_requests where org_id = %(org)s and day >= %(first)s and day <= %(last)s
), meters as (
    delete from rollup_meters where org_id = %(org)s and day >= %(first)s and day <= %(last)s
), operations as (
    delete from rollup_operations where org_id = %(org)s and day >= %(first)s and day <= %(last)s
)
delete from reopened_days where org_id = %(org)s and day >= %(first)s and day <= %(last)s

-- name: orphans
-- Corrections of the tasks whose request has left the database: they are added with what its block says of it.
select entry.* from unnest(%(orgs)s::text[], %(after)s::bigint[], %(through)s::bigint[], %(kept)s::bigint[])
    as task (org_id, after_seq, through_seq, kept_seq)
join lateral (
    select * from ledger_entries where org_id = task.org_id and seq > task.after_seq and seq <= task.through_seq
        and kind = 'correction' and refers_to_seq < task.kept_seq
        and time >= %(since)s and time < %(until)s
) as entry on task.kept_seq > 1
order by entry.org_id, entry.seq

-- name: facts
-- Requests, corrections and adjustments, in one reading. Most entries of a slice have the same meters in the same order,
-- so that they are added up by place first and told apart by meter afterwards. Meters past the eighth are looked up for
-- each entry that has so many. An unpriced request has no cost, nor a part of any, until its correction.
--
-- offset 0: what a correction is of is found by its whole key, for corrections alone.
with task as materialized (
    select * from unnest(%(orgs)s::text[], %(after)s::bigint[], %(through)s::bigint[]) as given (org_id, after_seq, through_seq)
), part as materialized (
    select entry.org_id, (entry.time at time zone 'UTC')::date as day,
           coalesce(entry.environment, first.environment, '') as environment, coalesce(entry.feature, first.feature, '') as feature,
           coalesce(entry.action, first.action, '') as action, coalesce(entry.provider, first.provider, '') as provider,
           coalesce(entry.model, first.model, '') as model, coalesce(entry.payer, 'seller') as payer,
           case when entry.recorded_at > entry.time + interval '6 hours' and entry.recorded_at >= ((entry.time at time zone 'UTC')::date + 1)::timestamp at time zone 'UTC' + interval '6 hours'
                then (entry.recorded_at at time zone 'UTC')::date end as recorded_on,
           entry.meter_names, entry.line_meters,
           count(*) as entries, min(entry.seq) as first_seq, max(entry.seq) as last_seq,
           count(*) filter (where entry.kind = 'usage') as requests,
           count(*) filter (where entry.outcome = 'failure') as failures, count(*) filter (where entry.outcome = 'empty') as empty,
           count(*) filter (where entry.usage_status <> 'final') as unfinished,
           count(*) filter (where entry.status = 'unpriced') - count(*) filter (where entry.kind = 'correction') as unpriced,
           coalesce(sum(entry.cost_pico), 0) as cost_pico,
           coalesce(sum(entry.latency_ms), 0) as latency_ms, count(entry.latency_ms) as latency_requests,
           array[sum(meter_quantities[1]), sum(meter_quantities[2]), sum(meter_quantities[3]), sum(meter_quantities[4]),
                 sum(meter_quantities[5]), sum(meter_quantities[6]), sum(meter_quantities[7]), sum(meter_quantities[8])] as quantities,
           array[count(*) filter (where meter_quantities[1] > 0), count(*) filter (where meter_quantities[2] > 0),
                 count(*) filter (where meter_quantities[3] > 0), count(*) filter (where meter_quantities[4] > 0),
                 count(*) filter (where meter_quantities[5] > 0), count(*) filter (where meter_quantities[6] > 0),
                 count(*) filter (where meter_quantities[7] > 0), count(*) filter (where meter_quantities[8] > 0)] as used,
           array[sum(amounts[1]), sum(amounts[2]), sum(amounts[3]), sum(amounts[4]),
                 sum(amounts[5]), sum(amounts[6]), sum(amounts[7]), sum(amounts[8])] as amounts
    from task join lateral (
        select *, case when cost_pico is not null then line_amount_pico end as amounts from ledger_entries
        where org_id = task.org_id and seq > task.after_seq and seq <= task.through_seq
            and time >= %(since)s and time < %(until)s and body is null
    ) as entry on true
    left join lateral (
        select environment, feature, action, provider, model from ledger_entries as other
        where entry.kind = 'correction' and other.org_id = entry.org_id and other.seq = entry.refers_to_seq
        offset 0
    ) as first on true
    where entry.kind = 'usage' or first.environment is not null
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
), more as (
    select entry.org_id, (entry.time at time zone 'UTC')::date as day, coalesce(entry.environment, first.environment) as environment,
           coalesce(entry.feature, first.feature) as feature, coalesce(entry.action, first.action, '') as action,
           coalesce(entry.provider, first.provider, '') as provider, coalesce(entry.model, first.model) as model,
           coalesce(entry.payer, 'seller') as payer, amount.*
    from (select where exists (select from part where cardinality(meter_names) > 8 or cardinality(line_meters) > 8)) as needed
    cross join task join lateral (
        select * from ledger_entries
        where org_id = task.org_id and seq > task.after_seq and seq <= task.through_seq
            and time >= %(since)s and time < %(until)s and body is null
            and (cardinality(meter_names) > 8 or cardinality(line_meters) > 8)
    ) as entry on true
    left join lateral (
        select environment, feature, action, provider, model from ledger_entries as other
        where entry.kind = 'correction' and other.org_id = entry.org_id and other.seq = entry.refers_to_seq
        offset 0
    ) as first on true
    cross join lateral (
        select name as meter, (quantity > 0)::int::bigint as requests, quantity::numeric, 0::numeric as cost_pico
        from unnest(entry.meter_names, entry.meter_quantities) with ordinality as used (name, quantity, place) where place > 8
        union all
        select name, 0, 0, coalesce(amount, 0)
        from unnest(entry.line_meters, entry.line_amount_pico) with ordinality as line (name, amount, place)
        where place > 8 and entry.cost_pico is not null
    ) as amount
    where entry.kind = 'usage' or first.environment is not null
), adjusted as materialized (
    select entry.org_id, (entry.time at time zone 'UTC')::date as day, coalesce(entry.environment, '') as environment,
           coalesce(entry.feature, '') as feature, coalesce(entry.action, '') as action, coalesce(entry.provider, '') as provider,
           coalesce(entry.model, '') as model, coalesce(entry.body::jsonb #>> '{request,payer}', 'seller') as payer, entry.seq,
           case when entry.recorded_at > entry.time + interval '6 hours' and entry.recorded_at >= ((entry.time at time zone 'UTC')::date + 1)::timestamp at time zone 'UTC' + interval '6 hours'
                then (entry.recorded_at at time zone 'UTC')::date end as recorded_on,
           line ->> 'meter' as meter, (line ->> 'quantity')::numeric as quantity, (line ->> 'cost_pico')::numeric as cost_pico
    from task join lateral (
        select * from ledger_entries
        where org_id = task.org_id and seq > task.after_seq and seq <= task.through_seq
            and time >= %(since)s and time < %(until)s and kind = 'adjustment' and body is not null
    ) as entry on true
    cross join lateral jsonb_array_elements(entry.body::jsonb #> '{request,lines}') as line
), requests as (
    insert into rollup_requests as kept
    select org_id, day, rollup_slice(environment, feature, action, provider, model, payer),
           environment, feature, action, provider, model, payer,
           sum(requests), sum(failures), sum(empty), sum(unfinished), sum(unpriced), sum(cost_pico), sum(latency_ms), sum(latency_requests)
    from (
        select org_id, day, environment, feature, action, provider, model, payer,
               requests, failures, empty, unfinished, unpriced, cost_pico, latency_ms, latency_requests from part
        union all
        select org_id, day, environment, feature, action, provider, model, payer, 0, 0, 0, 0, 0, cost_pico, 0, 0 from adjusted
    ) as added
    group by org_id, day, environment, feature, action, provider, model, payer
    on conflict (org_id, day, slice) do update set
        requests = kept.requests + excluded.requests, failures = kept.failures + excluded.failures,
        empty = kept.empty + excluded.empty, unfinished = kept.unfinished + excluded.unfinished,
        unpriced = kept.unpriced + excluded.unpriced, cost_pico = kept.cost_pico + excluded.cost_pico,
        latency_ms = kept.latency_ms + excluded.latency_ms, latency_requests = kept.latency_requests + excluded.latency_requests
), meters as (
    insert into rollup_meters as kept
    select org_id, day, rollup_slice(environment, feature, action, provider, model, payer), meter,
           environment, feature, action, provider, model, payer, sum(requests), sum(quantity), sum(cost_pico)
    from (
        select org_id, day, environment, feature, action, provider, model, payer, meter, with_any as requests, coalesce(quantity, 0) as quantity,
               0::numeric as cost_pico
        from part cross join lateral unnest(meter_names[1:8], quantities, used) as place (meter, quantity, with_any)
        where meter is not null
        union all
        select org_id, day, environment, feature, action, provider, model, payer, meter, 0, 0, coalesce(pico, 0)
        from part cross join lateral unnest(line_meters[1:8], amounts) as place (meter, pico)
        where meter is not null
        union all
        select org_id, day, environment, feature, action, provider, model, payer, meter, requests, quantity, cost_pico from more
        union all
        select org_id, day, environment, feature, action, provider, model, payer, meter, 0, quantity, cost_pico from adjusted
    ) as added
    group by org_id, day, environment, feature, action, provider, model, payer, meter
    on conflict (org_id, day, slice, meter) do update set
        requests = kept.requests + excluded.requests, quantity = kept.quantity + excluded.quantity,
        cost_pico = kept.cost_pico + excluded.cost_pico
)
insert into reopened_days as kept
select org_id, day, recorded_on, sum(entries), min(first_seq), max(last_seq), sum(requests), sum(unpriced), sum(cost_pico)
from (
    select org_id, day, recorded_on, entries, first_seq, last_seq, requests, unpriced, cost_pico from part
    union all
    select org_id, day, recorded_on, (count(distinct seq)), min(seq), max(seq), 0, 0, sum(cost_pico) from adjusted
    group by org_id, day, recorded_on
) as added
where recorded_on is not null
group by org_id, day, recorded_on
on conflict (org_id, day, recorded_on) do update set
    entries = kept.entries + excluded.entries, first_seq = least(kept.first_seq, excluded.first_seq),
    last_seq = greatest(kept.last_seq, excluded.last_seq), requests = kept.requests + excluded.requests,
    unpriced = kept.unpriced + excluded.unpriced, cost_pico = kept.cost_pico + excluded.cost_pico

-- name: operations
-- What happened to accounts. Amounts in bodies are strings of digits.
with task as materialized (
    select * from unnest(%(orgs)s::text[], %(after)s::bigint[], %(through)s::bigint[]) as given (org_id, after_seq, through_seq)
), happened as (
    select entry.org_id, (entry.time at time zone 'UTC')::date as day, entry.kind, coalesce(entry.environment, '') as environment,
           coalesce(entry.feature, '') as feature, coalesce(entry.action, '') as action,
           coalesce(case entry.kind when 'denial' then said #>> '{result,decision,code}' when 'grant' then said #>> '{request,source}'
               when 'settlement' then said #>> '{request,outcome}' when 'expiry' then said #>> '{request,what}' end, '') as reason,
           case when entry.kind = 'grant' then (said #>> '{request,amount_pico}')::numeric else coalesce((
               select sum((lot ->> 'amount_pico')::numeric)
               from jsonb_array_elements(case entry.kind
                   when 'settlement' then (said #> '{result,charged}') || (said #> '{result,overage}')
                   when 'refund' then said #> '{result,returned}'
                   when 'expiry' then coalesce(said #> '{result,lots}', '[]') else '[]' end) as lot
           ), 0) + case when entry.kind in ('settlement', 'refund')
               then coalesce((said #>> '{result,receivable_pico}')::numeric, 0) else 0 end end as credits_pico
    from task join lateral (
        select *, body::jsonb as said from ledger_entries
        where org_id = task.org_id and seq > task.after_seq and seq <= task.through_seq
            and time >= %(since)s and time < %(until)s and body is not null
    ) as entry on true
)
insert into rollup_operations as kept
select org_id, day, rollup_slice(kind, environment, feature, action, reason), kind, environment, feature, action, reason,
       count(*), sum(credits_pico)
from happened
group by org_id, day, kind, environment, feature, action, reason
on conflict (org_id, day, slice) do update set
    operations = kept.operations + excluded.operations, credits_pico = kept.credits_pico + excluded.credits_pico

-- name: add_requests
-- Sums that were made elsewhere, of entries that only blocks hold.
insert into rollup_requests as kept
select %(org)s, day, rollup_slice(environment, feature, action, provider, model, payer), environment, feature, action, provider, model, payer,
       requests, failures, empty, unfinished, unpriced, cost_pico, latency_ms, latency_requests
from unnest(%(c0)s::date[], %(c1)s::text[], %(c2)s::text[], %(c3)s::text[], %(c4)s::text[], %(c5)s::text[], %(c6)s::text[],
            %(c7)s::bigint[], %(c8)s::bigint[], %(c9)s::bigint[], %(c10)s::bigint[], %(c11)s::bigint[], %(c12)s::numeric[],
            %(c13)s::numeric[], %(c14)s::bigint[])
    as given (day, environment, feature, action, provider, model, payer, requests, failures, empty, unfinished, unpriced,
              cost_pico, latency_ms, latency_requests)
on conflict (org_id, day, slice) do update set
    requests = kept.requests + excluded.requests, failures = kept.failures + excluded.failures,
    empty = kept.empty + excluded.empty, unfinished = kept.unfinished + excluded.unfinished,
    unpriced = kept.unpriced + excluded.unpriced, cost_pico = kept.cost_pico + excluded.cost_pico,
    latency_ms = kept.latency_ms + excluded.latency_ms, latency_requests = kept.latency_requests + excluded.latency_requests

-- name: add_meters
insert into rollup_meters as kept
select %(org)s, day, rollup_slice(environment, feature, action, provider, model, payer), meter,
       environment, feature, action, provider, model, payer, requests, quantity, cost_pico
from unnest(%(c0)s::date[], %(c1)s::text[], %(c2)s::text[], %(c3)s::text[], %(c4)s::text[], %(c5)s::text[], %(c6)s::text[],
            %(c7)s::text[], %(c8)s::bigint[], %(c9)s::numeric[], %(c10)s::numeric[])
    as given (day, environment, feature, action, provider, model, payer, meter, requests, quantity, cost_pico)
on conflict (org_id, day, slice, meter) do update set
    requests = kept.requests + excluded.requests, quantity = kept.quantity + excluded.quantity,
    cost_pico = kept.cost_pico + excluded.cost_pico

-- name: add_operations
insert into rollup_operations as kept
select %(org)s, day, rollup_slice(kind, environment, feature, action, reason), kind, environment, feature, action, reason,
       operations, credits_pico
from unnest(%(c0)s::date[], %(c1)s::text[], %(c2)s::text[], %(c3)s::text[], %(c4)s::text[], %(c5)s::text[],
            %(c6)s::bigint[], %(c7)s::numeric[])
    as given (day, kind, environment, feature, action, reason, operations, credits_pico)
on conflict (org_id, day, slice) do update set
    operations = kept.operations + excluded.operations, credits_pico = kept.credits_pico + excluded.credits_pico

-- name: add_reopened
insert into reopened_days as kept
select %(org)s, day, recorded_on, entries, first_seq, last_seq, requests, unpriced, cost_pico
from unnest(%(c0)s::date[], %(c1)s::date[], %(c2)s::bigint[], %(c3)s::bigint[], %(c4)s::bigint[], %(c5)s::bigint[],
            %(c6)s::bigint[], %(c7)s::numeric[])
    as given (day, recorded_on, entries, first_seq, last_seq, requests, unpriced, cost_pico)
on conflict (org_id, day, recorded_on) do update set
    entries = kept.entries + excluded.entries, first_seq = least(kept.first_seq, excluded.first_seq),
    last_seq = greatest(kept.last_seq, excluded.last_seq), requests = kept.requests + excluded.requests,
    unpriced = kept.unpriced + excluded.unpriced, cost_pico = kept.cost_pico + excluded.cost_pico

-- name: rolled_orgs
select org_id, rolled_through_seq from rollup_states where %(org)s::text is null or org_id = %(org)s order by org_id

-- name: rows_without_state
-- Orgs with sums that nothing says the extent of.
select org_id from (
    select org_id from public.rollup_requests union select org_id from public.rollup_meters
    union select org_id from public.rollup_operations union select org_id from public.reopened_days
) as found
where (%(org)s::text is null or org_id = %(org)s) and not exists (select from rollup_states as state where state.org_id = found.org_id)
order by org_id

-- name: differing
-- Rows of an org that are not the same in the table that is kept and in the session's own.
select coalesce(kept.day, due.day), (to_jsonb(kept) - '{{org_id,day,slice}}'::text[])::text, (to_jsonb(due) - '{{org_id,day,slice}}'::text[])::text
from (select * from public.{table} where org_id = %(org)s) as kept
full join (select * from pg_temp.{table} where org_id = %(org)s) as due using (org_id, {key})
where to_jsonb(kept) is distinct from to_jsonb(due)
order by 1, 2, 3
