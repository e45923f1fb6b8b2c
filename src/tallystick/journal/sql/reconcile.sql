-- What an org's ledger holds of a time, in sums by UTC day and model, to be compared with a provider's export. The times
-- are whole days of UTC.

-- name: sums
-- One reading of the requests, corrections in the place of what they correct. The kinds of rows, each with day, provider,
-- model, payer, environment and whether it failed:
--   request   service tier: requests; and estimated, partial, unpriced, failed without usage, near either midnight
--   quantity  meter: the quantity
--   cost      meter, rate version, price, per: the quantity that was priced so, and what it cost
with request as materialized (
    select (usage.time at time zone 'UTC')::date as day, usage.provider, usage.model,
           coalesce(usage.payer, 'seller') as payer, usage.environment, usage.outcome = 'failure' as failed,
           usage.time at time zone 'UTC' as at, usage.usage_status, usage.meter_names, usage.meter_quantities,
           coalesce(usage.price_context ->> 'service_tier', '') as tier,
           case when correction.seq is null then usage.rate_version else correction.rate_version end as rate_version,
           case when correction.seq is null then usage.cost_pico else correction.cost_pico end as cost_pico,
           case when correction.seq is null then usage.line_meters else correction.line_meters end as line_meters,
           case when correction.seq is null then usage.line_quantities else correction.line_quantities end as line_quantities,
           case when correction.seq is null then usage.line_price_pico else correction.line_price_pico end as line_price_pico,
           case when correction.seq is null then usage.line_per else correction.line_per end as line_per,
           case when correction.seq is null then usage.line_amount_pico else correction.line_amount_pico end as line_amount_pico
    from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s) as usage
    left join ledger_entries as correction
        on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = usage.seq
        and correction.refers_to_seq >= %(first_seq)s and correction.seq <= %(through_seq)s
    where usage.kind <> 'correction' and usage.body is null
)
select 'request' as kind, day, provider, model, payer, environment, failed, tier as name, null::text as rate_version,
       null::bigint as price_pico, null::bigint as per, count(*)::numeric(38, 0) as amount, null::numeric(38, 0) as cost,
       count(*) filter (where usage_status = 'estimated') as estimated,
       count(*) filter (where usage_status = 'partial') as partial,
       count(*) filter (where cost_pico is null) as unpriced,
       count(*) filter (where failed and not 0 < any(meter_quantities)) as silent,
       count(*) filter (where at - day < %(near)s) as early,
       count(*) filter (where day + interval '1 day' - at <= %(near)s) as late
from request
group by day, provider, model, payer, environment, failed, tier
union all
select 'quantity', day, provider, model, payer, environment, failed, meter, null, null, null,
       sum(quantity)::numeric(38, 0), null, 0, 0, 0, 0, 0, 0
from request cross join lateral unnest(meter_names, meter_quantities) as used (meter, quantity)
group by day, provider, model, payer, environment, failed, meter
union all
select 'cost', day, provider, model, payer, environment, failed, meter, rate_version, price, per,
       sum(quantity)::numeric(38, 0), coalesce(sum(amount), 0)::numeric(38, 0), 0, 0, 0, 0, 0, 0
from request
cross join lateral unnest(line_meters, line_quantities, line_price_pico, line_per, line_amount_pico)
    as line (meter, quantity, price, per, amount)
group by day, provider, model, payer, environment, failed, meter, rate_version, price, per

-- name: estimated
-- The estimated requests of the time, whole.
select * from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s)
where kind <> 'correction' and body is null and usage_status = 'estimated'
order by seq

-- name: last_adjustment
-- The place of the org's last adjustment, in the database or in blocks; 0 when there is none.
select coalesce(greatest(
    (select max(seq) from ledger_entries where org_id = %(org)s and kind = 'adjustment' and body is not null and kind <> 'denial'),
    (select max(seq) from claimed_ids where org_id = %(org)s and kind = 'adjustment')
), 0)
