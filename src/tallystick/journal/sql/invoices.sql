-- What invoices need of the ledger. A period is [start, end); only entries up to through_seq are looked at, so that
-- the same question has the same answer however much arrives later.

-- name: settings
-- For queries over many facts of one org. The planner may have no statistics yet, takes a million rows for one, and
-- joins them one by one: 4 times slower, measured. Sums stay in memory.
set local enable_nestloop = off; set local work_mem = '64MB'

-- name: last_seq
-- Where the org's sequence stands in this snapshot: every entry up to it is visible, none is missing.
select last_seq from org_heads where org_id = %(org)s

-- name: sums
-- All that an invoice adds up, in one reading of the period's facts and entries, and one statement: where an org's
-- rows lie among those of others, reading them is what takes the time. A correction takes the place of the entry that
-- it refers to. The kinds of rows, in the order in which they come:
--   cost      environment, outcome, meter: the known cost
--   facts     every fact's sequence and fingerprint, 40 bytes each, in ascending sequence, some thousands to a block
--   quantity  environment, outcome, meter: the raw quantity, and the requests in which there was any
--   request   environment, outcome, rate version, provider, model: known cost, requests, and those of unknown cost
--   unknown   environment, outcome, meter: the requests in which a part of its cost is not known
with event as materialized (
    select seq, environment, outcome = 'failure' as failed, provider, model, meter_names, meter_quantities, fingerprint
    from usage_events
    where org_id = %(org)s and time >= %(start)s and time < %(end)s and seq <= %(through_seq)s
), fact as materialized (
    select event.*,
           case when correction.seq is null then entry.rate_version else correction.rate_version end as rate_version,
           case when correction.seq is null then entry.cost_pico else correction.cost_pico end as cost_pico,
           case when correction.seq is null then entry.line_meters else correction.line_meters end as line_meters,
           case when correction.seq is null then entry.line_amount_pico else correction.line_amount_pico end as amounts
    from event
    left join ledger_entries as entry
        on entry.org_id = %(org)s and entry.seq = event.seq
        and entry.seq between (select min(seq) from event) and (select max(seq) from event)
    left join ledger_entries as correction
        on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = event.seq
        and correction.seq <= %(through_seq)s
)
select 'quantity' as kind, environment, failed, meter as name, null::text as provider, null::text as model,
       sum(quantity)::numeric(38, 0) as amount, count(*) as requests, 0::bigint as unknown,
       null::bigint as place, null::bytea as block
from fact cross join lateral unnest(meter_names, meter_quantities) as used (meter, quantity)
where quantity > 0
group by environment, failed, meter
union all
select 'request', environment, failed, rate_version, provider, model,
       coalesce(sum(cost_pico), 0)::numeric(38, 0), count(*), count(*) filter (where cost_pico is null), null, null
from fact
group by environment, failed, rate_version, provider, model
union all
select 'cost', environment, failed, meter, null, null, coalesce(sum(amount), 0)::numeric(38, 0), 0, 0, null, null
from fact cross join lateral unnest(line_meters, amounts) as line (meter, amount)
group by environment, failed, meter
union all
select 'unknown', environment, failed, meter, null, null, 0, 0, count(distinct seq), null, null
from fact cross join lateral unnest(line_meters, amounts) as line (meter, amount)
where array_position(amounts, null) is not null and amount is null
group by environment, failed, meter
union all
select 'facts', null, null, null, null, null, 0, count(*), 0, seq / 8192,
       string_agg(int8send(seq) || fingerprint, ''::bytea order by seq)
from fact
group by seq / 8192
order by kind, place

-- name: seq_range
-- Between which sequence numbers the period's facts lie: what is not between them need not be read.
select coalesce(min(seq), 1), coalesce(max(seq), 0)
from usage_events
where org_id = %(org)s and time >= %(start)s and time < %(end)s and seq <= %(through_seq)s

-- name: facts
-- Every fact of the period with its entry and, when there is one, its correction, in ascending sequence. With
-- `meters`, only charged requests that used one of them.
select event.seq, event.recorded_at, event.fingerprint,
       event.org_id, event.request_id, event.time, event.user_id, event.session_id, event.feature, event.environment,
       event.model, event.provider, event.meter_names, event.meter_quantities, event.api_key_id, event.action,
       event.latency_ms, event.outcome, event.usage_status, event.price_context, event.provider_cost_pico,
       event.attributes,
       entry.seq, entry.request_id, entry.time, entry.recorded_at, entry.rate_version, entry.status, entry.cost_pico,
       entry.line_meters, entry.line_quantities, entry.line_price_pico, entry.line_per, entry.line_amount_pico,
       entry.line_models, entry.reason,
       correction.seq, correction.request_id, correction.time, correction.recorded_at, correction.rate_version, correction.status,
       correction.cost_pico,
       correction.line_meters, correction.line_quantities, correction.line_price_pico, correction.line_per,
       correction.line_amount_pico, correction.line_models, correction.reason
from usage_events as event
left join ledger_entries as entry
    on entry.org_id = %(org)s and entry.seq = event.seq and entry.kind = 'usage'
    and entry.seq between %(first_seq)s and %(last_seq)s
left join ledger_entries as correction
    on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = event.seq
    and correction.seq <= %(through_seq)s
where event.org_id = %(org)s and event.time >= %(start)s and event.time < %(end)s
    and event.seq between %(first_seq)s and %(last_seq)s
    and (%(meters)s::text[] is null or (
        event.outcome <> 'failure' and event.environment <> all(%(uncharged)s::text[])
        and exists (
            select from unnest(event.meter_names, event.meter_quantities) as used (meter, quantity)
            where used.meter = any(%(meters)s::text[]) and used.quantity > 0
        )
    ))
order by event.seq
limit %(limit)s

-- name: period_meters
-- The meters of the period: those that were counted, and those that carry a part of the cost.
select distinct unnest(event.meter_names || entry.line_meters || coalesce(correction.line_meters, '{}'))
from usage_events as event
join ledger_entries as entry
    on entry.org_id = %(org)s and entry.seq = event.seq and entry.seq between %(first_seq)s and %(last_seq)s
left join ledger_entries as correction
    on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = event.seq
    and correction.seq <= %(through_seq)s
where event.org_id = %(org)s and event.time >= %(start)s and event.time < %(end)s
    and event.seq between %(first_seq)s and %(last_seq)s

-- name: entries_astray
-- Usage entries of the period whose fact is gone, or says another time or request: something changed them from outside.
select entry.seq, entry.request_id, event.seq is null
from ledger_entries as entry
left join usage_events as event using (org_id, seq)
where entry.org_id = %(org)s and entry.kind = 'usage' and entry.seq <= %(through_seq)s
    and entry.time >= %(start)s and entry.time < %(end)s
    and (event.seq is null or event.time <> entry.time or event.request_id <> entry.request_id)
order by entry.seq

-- name: sequence_gaps
-- Where the org's dense sequence has holes up to through_seq: (first, last) of each.
select previous + 1, seq - 1
from (
    select seq, lag(seq, 1, 0::bigint) over (order by seq) as previous
    from (
        select seq from ledger_entries where org_id = %(org)s and seq <= %(through_seq)s
        union all select %(through_seq)s::bigint + 1
    ) as present
) as neighbours
where seq > previous + 1
order by seq

-- name: count_late
-- Requests of the period that arrived after the invoice was closed.
select count(*) from usage_events
where org_id = %(org)s and time >= %(start)s and time < %(end)s and seq > %(through_seq)s

-- name: late_requests
-- The first of them, in the order in which they arrived.
select seq, request_id, time, recorded_at from usage_events
where org_id = %(org)s and time >= %(start)s and time < %(end)s and seq > %(through_seq)s
order by seq limit %(limit)s

-- name: unsubscribed_orgs
-- Orgs that used something in the period and have no subscription at all.
select org_id from org_heads as head
where not exists (select from subscriptions as held where held.org_id = head.org_id)
    and exists (
        select from usage_events as event
        where event.org_id = head.org_id and event.time >= %(start)s and event.time < %(end)s
    )
order by org_id

-- name: orgs_that_used
-- Which of these orgs used something, each between its own two instants.
select given.org_id
from unnest(%(orgs)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as given (org_id, start, until)
where exists (
    select from usage_events as event
    where event.org_id = given.org_id and event.time >= given.start and event.time < given.until
)

-- name: lock_month
-- One closing of an org's month at a time, until the transaction ends.
select pg_advisory_xact_lock(hashtextextended('close ' || %(org)s || ' ' || %(period)s, 0))

-- name: insert_invoice
-- A closed month.
insert into invoices (
    invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan,
    through_seq, digest, total_cents, document, closed_at
) values (
    %(invoice_id)s, %(org)s, %(period)s, %(start)s, %(end)s, %(contract)s, %(contract_version)s, %(contract_sha256)s,
    %(plan)s, %(through_seq)s, %(digest)s, %(total_cents)s, %(document)s, %(closed_at)s
)

-- name: invoice_by_id
-- One closed month, with its document.
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan, through_seq,
       digest, total_cents, closed_at, document
from invoices where invoice_id = %(invoice_id)s

-- name: invoice_by_month
-- The closed month of an org, with its document. An org has one invoice a month; the first stays, whatever comes.
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan, through_seq,
       digest, total_cents, closed_at, document
from invoices where org_id = %(org)s and period = %(period)s order by closed_at, contract limit 1

-- name: list_invoices
-- Closed months without their documents, newest month first.
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan, through_seq,
       digest, total_cents, closed_at
from invoices
where (%(org)s::text is null or org_id = %(org)s) and (%(period)s::text is null or period = %(period)s)
order by period desc, org_id, contract
