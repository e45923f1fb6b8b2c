-- What limits and budgets are compared with: sums over the ledger's entries, by window of time.

-- name: load_counters
-- The counters of these names, each looked up by its key. A window_start of null is what open holds reserve.
prepare tally_load_counters (text[], text[], timestamptz[]) as
select given.org_id, given.counter, (extract(epoch from given.window_start) * 1000000)::bigint - 946684800000000, counter.used
from unnest($1, $2, $3) as given (org_id, counter, window_start)
join lateral (
    select used from counters
    where org_id = given.org_id and counter = given.counter and window_start = coalesce(given.window_start, '-infinity')
    limit 1
) as counter on true

-- name: forget_windows
-- Counters of windows that are over, or that are counted anew. Their names begin with the windows' length.
prepare tally_forget_windows (text[], text[]) as
delete from counters using unnest($1, $2) as given (org_id, per)
where counters.org_id = given.org_id and counter >= per || ':' and counter < per || ';' and window_start > '-infinity'

-- name: fold_counters
-- Add what entries above after_seq count in each task's window: usage by meter, our cost (of corrections too, for whose
-- request it was), and what the customer is charged, by who spent it: where that follows our cost, also as corrections
-- change it; and what adjustments change of all of these. after_seq null: all that the window holds, from
-- where time_max has reached its start. It takes whatever number of entries in the database's own memory.
--
-- offset 0: what a correction is of is found by its whole key. Joined in any other way, a plan that was made while there
-- were few entries would look at all of the org's for each of them.
--
-- Only usage has meters. Its kind is not named: there is an index of all usage by request id, and the planner would read
-- that from end to end rather than a few entries by their places.
--
-- uncharged: the environments that are never billed, a line each. meters, spends: what is counted, a line each.
-- rates: by meter, pico-USD a unit, for budgets of charges; shares: by meter, [n, d] when n/d of our cost is charged.
prepare tally_fold_counters (text[], text[], timestamptz[], timestamptz[], bigint[], bigint[], text[], text[], text[], text[], text[]) as
with task as materialized (
    select org_id, per, starts_at, ends_at, through_seq,
           coalesce(after_seq, seq_reaching(org_id, starts_at, through_seq) - 1) as after_seq,
           string_to_array(uncharged, E'\n') as uncharged, string_to_array(meters, E'\n') as meters,
           string_to_array(spends, E'\n') as spends, rates::jsonb as rates, shares::jsonb as shares
    from unnest(
        $1, $2, $3, $4, $5,
        $6, $7, $8, $9, $10, $11
    ) as given (org_id, per, starts_at, ends_at, after_seq, through_seq, uncharged, meters, spends, rates, shares)
), adjusted as materialized (
    select task.org_id, task.per, entry.environment, first.user_id, entry.api_key_id, entry.feature,
           first.meter_names, first.meter_quantities, entry.body::jsonb #> '{request,lines}' as lines,
           entry.body::jsonb #>> '{request,payer}' is distinct from 'customer' as is_ours
    from task cross join lateral (
        select environment, api_key_id, feature, refers_to_seq, body from ledger_entries
        where org_id = task.org_id and seq > task.after_seq and seq <= task.through_seq
            and time >= task.starts_at and time < task.ends_at and kind = 'adjustment' and body is not null
    ) as entry left join lateral (
        select user_id, meter_names, meter_quantities from ledger_entries as other
        where other.org_id = task.org_id and other.seq = entry.refers_to_seq
        offset 0
    ) as first on true
), quantity as (
    select task.org_id, task.per || ':meter:' || used.name as counter, task.starts_at, sum(used.quantity) as total
    from task cross join lateral (
        select meter.name, meter.quantity
        from ledger_entries as entry cross join unnest(entry.meter_names, entry.meter_quantities) as meter (name, quantity)
        where entry.org_id = task.org_id and entry.seq > task.after_seq and entry.seq <= task.through_seq
            and entry.time >= task.starts_at and entry.time < task.ends_at and entry.meter_names is not null
            and entry.environment <> all (task.uncharged) and meter.name = any(task.meters) and meter.quantity > 0
        union all
        select line.meter, line.quantity
        from adjusted cross join lateral jsonb_to_recordset(adjusted.lines) as line (meter text, quantity numeric)
        where adjusted.org_id = task.org_id and adjusted.per = task.per
            and adjusted.environment <> all (task.uncharged) and line.meter = any(task.meters)
    ) as used
    where task.meters <> '{}'
    group by 1, 2, 3
), spent as (
    select task.org_id, task.per, task.starts_at, task.spends, amount.*
    from task cross join lateral (
        select 'cost' as measure, entry.cost_pico::numeric as pico, coalesce(entry.user_id, first.user_id) as user_id,
               coalesce(entry.api_key_id, first.api_key_id) as api_key_id, coalesce(entry.feature, first.feature) as feature
        from ledger_entries as entry
        left join lateral (
            select user_id, api_key_id, feature from ledger_entries as other
            where entry.kind = 'correction' and other.org_id = entry.org_id and other.seq = entry.refers_to_seq
            offset 0
        ) as first on true
        where task.spends && array['cost:org', 'cost:user', 'cost:api_key', 'cost:feature']
            and entry.org_id = task.org_id and entry.seq > task.after_seq and entry.seq <= task.through_seq
            and entry.time >= task.starts_at and entry.time < task.ends_at and entry.kind in ('usage', 'correction')
            and entry.payer is null and entry.cost_pico <> 0
        union all
        select 'charge', (entry.body::jsonb #>> '{result,charge_pico}')::numeric, entry.user_id, entry.api_key_id, entry.feature
        from ledger_entries as entry
        where task.spends && array['charge:org', 'charge:user', 'charge:api_key', 'charge:feature']
            and entry.org_id = task.org_id and entry.seq > task.after_seq and entry.seq <= task.through_seq
            and entry.time >= task.starts_at and entry.time < task.ends_at and entry.kind = 'settlement'
        union all
        select 'charge', priced.pico, entry.user_id, entry.api_key_id, entry.feature
        from ledger_entries as entry cross join lateral (
            select coalesce(sum(meter.quantity * (task.rates ->> meter.name)::numeric), 0) + coalesce((
                select div(case when entry.payer is null then coalesce(entry.cost_pico, 0) else 0 end * share.n + share.d - 1, share.d)
                from unnest(entry.meter_names, entry.meter_quantities) as shared (name, quantity)
                cross join lateral (select (task.shares -> shared.name ->> 0)::numeric as n, (task.shares -> shared.name ->> 1)::numeric as d) as share
                where shared.quantity > 0 and share.n is not null
                order by share.n / share.d desc limit 1
            ), 0) as pico
            from unnest(entry.meter_names, entry.meter_quantities) as meter (name, quantity)
        ) as priced
        where task.spends && array['charge:org', 'charge:user', 'charge:api_key', 'charge:feature']
            and (task.rates <> '{}' or task.shares <> '{}')
            and entry.org_id = task.org_id and entry.seq > task.after_seq and entry.seq <= task.through_seq
            and entry.time >= task.starts_at and entry.time < task.ends_at and entry.meter_names is not null
            and entry.environment <> all (task.uncharged)
        union all
        select 'charge', div(entry.cost_pico * share.n + case when entry.cost_pico > 0 then share.d - 1 else 0 end, share.d),
               first.user_id, first.api_key_id, first.feature
        from ledger_entries as entry cross join lateral (
            select user_id, api_key_id, feature, environment, meter_names, meter_quantities from ledger_entries as other
            where other.org_id = entry.org_id and other.seq = entry.refers_to_seq
            offset 0
        ) as first cross join lateral (
            select rate.n, rate.d from unnest(first.meter_names, first.meter_quantities) as shared (name, quantity)
            cross join lateral (select (task.shares -> shared.name ->> 0)::numeric as n, (task.shares -> shared.name ->> 1)::numeric as d) as rate
            where shared.quantity > 0 and rate.n is not null
            order by rate.n / rate.d desc limit 1
        ) as share
        where task.spends && array['charge:org', 'charge:user', 'charge:api_key', 'charge:feature'] and task.shares <> '{}'
            and entry.org_id = task.org_id and entry.seq > task.after_seq and entry.seq <= task.through_seq
            and entry.time >= task.starts_at and entry.time < task.ends_at
            and entry.refers_to_seq is not null and entry.body is null and entry.payer is null and entry.cost_pico <> 0
            and first.environment <> all (task.uncharged)
        union all
        select adjustment.measure, adjustment.pico, adjusted.user_id, adjusted.api_key_id, adjusted.feature
        from adjusted cross join lateral (
            select coalesce(sum(line.cost_pico) filter (where adjusted.is_ours), 0) as cost_pico,
                   coalesce(sum(line.quantity * (task.rates ->> line.meter)::numeric), 0) as charge_pico, array_agg(line.meter) as meters
            from jsonb_to_recordset(adjusted.lines) as line (meter text, quantity numeric, cost_pico numeric)
        ) as line left join lateral (
            select rate.n, rate.d from (
                select unnest(line.meters) as name
                union select shared.name from unnest(adjusted.meter_names, adjusted.meter_quantities) as shared (name, quantity) where quantity > 0
            ) as shared
            cross join lateral (select (task.shares -> shared.name ->> 0)::numeric as n, (task.shares -> shared.name ->> 1)::numeric as d) as rate
            where rate.n is not null
            order by rate.n / rate.d desc limit 1
        ) as share on true
        cross join lateral (
            select 'cost' as measure, line.cost_pico as pico
            union all
            select 'charge', line.charge_pico
                + coalesce(div(line.cost_pico * share.n + case when line.cost_pico > 0 then share.d - 1 else 0 end, share.d), 0)
            where adjusted.environment <> all (task.uncharged)
        ) as adjustment
        where task.spends <> '{}' and adjusted.org_id = task.org_id and adjusted.per = task.per
    ) as amount
), spending as (
    select org_id, per || ':' || measure || ':' || scope.name as counter, starts_at, sum(pico) as total
    from spent cross join lateral (values
        ('org', 'org'), ('user', 'user:' || user_id), ('api_key', 'api_key:' || api_key_id), ('feature', 'feature:' || feature)
    ) as scope (kind, name)
    where measure || ':' || scope.kind = any(spends) and scope.name is not null and pico <> 0
    group by 1, 2, 3
)
insert into counters as counter (org_id, counter, window_start, used)
select org_id, counter, starts_at, total from quantity
union all select org_id, counter, starts_at, total from spending
on conflict (org_id, counter, window_start) do update set used = counter.used + excluded.used

-- name: window_reached
-- The org's first entry, up to through_seq, at which its time had reached an instant; all before it are older.
prepare tally_window_reached (text, timestamptz, bigint) as
select seq_reaching($1, $2, $3)
