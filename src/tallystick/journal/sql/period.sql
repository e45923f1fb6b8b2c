-- The entries of one org and period. A period is [start, end); only entries up to through_seq are looked at, so that the
-- same question has the same answer however much arrives later. There is no index by time: see seq_reaching and
-- entries_of_period, which the migrations make. Requests are asked for as `kind <> 'correction' and body is null`
-- (operations have a body): for kind = 'usage' the planner, while it has no statistics, may take the index of request
-- ids, which is in no useful order.

-- name: settings
-- For queries over many entries of one org. The planner may have no statistics yet, takes a million rows for one, and
-- joins them one by one: 4 times slower, measured. Sums stay in memory.
set local enable_nestloop = off; set local work_mem = '64MB'

-- name: head
-- Where the org's sequence stands in this snapshot: every entry up to it is visible, none is missing but the first ones,
-- where they have left for sealed blocks; all of those are older than forgotten_until.
select last_seq,
       coalesce((select seq from ledger_entries where org_id = %(org)s order by seq limit 1), last_seq + 1),
       forgotten_until
from org_heads where org_id = %(org)s

-- name: span
-- The first entry that is there and at which the ledger had reached the period, and the first at which it was 6 hours
-- past it; through_seq + 1 where there is none.
select coalesce(
           (
               select seq from ledger_entries
               where org_id = %(org)s and seq >= seq_reaching(%(org)s, %(start)s, %(through_seq)s)
                   and seq <= %(through_seq)s
               order by seq limit 1
           ),
           %(through_seq)s::bigint + 1
       ),
       seq_reaching(%(org)s, %(end)s::timestamptz + interval '6 hours', %(through_seq)s)

-- name: sums
-- All that an invoice adds up, in one reading of the period's requests and one statement. A correction takes the place
-- of the entry that it refers to. What a key of the customer's own has paid is no cost of ours. The kinds of rows:
--   cost      environment, outcome, meter: the known cost
--   quantity  environment, outcome, meter: the raw quantity, and the requests in which there was any
--   request   environment, outcome, rate version, provider, model: known cost, requests, and those of unknown cost
--   customer  the same of what a key of the customer's own has paid for
--   unknown   environment, outcome, meter: the requests in which a part of its cost is not known
-- Meters are unnested where they are selected: as a function in `from` that takes twice as long.
with request as materialized (
    select usage.seq, usage.environment, usage.outcome = 'failure' as failed, usage.provider, usage.model,
           usage.meter_names, usage.meter_quantities,
           case when usage.payer is null then 'request' else 'customer' end as payer,
           case when correction.seq is null then usage.rate_version else correction.rate_version end as rate_version,
           case when correction.seq is null then usage.cost_pico else correction.cost_pico end as cost_pico,
           case when usage.payer is not null then '{}'
                when correction.seq is null then usage.line_meters else correction.line_meters end as line_meters,
           case when usage.payer is not null then '{}'
                when correction.seq is null then usage.line_amount_pico else correction.line_amount_pico end as amounts
    from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s) as usage
    left join ledger_entries as correction
        on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = usage.seq
        and correction.refers_to_seq >= %(first_seq)s and correction.seq <= %(through_seq)s
    where usage.kind <> 'correction' and usage.body is null
)
select 'quantity' as kind, environment, failed, meter as name, null::text as provider, null::text as model,
       sum(quantity)::numeric(38, 0) as amount, count(*) as requests, 0::bigint as unknown
from (
    select environment, failed, unnest(meter_names) as meter, unnest(meter_quantities) as quantity from request
) as used
where quantity > 0
group by environment, failed, meter
union all
select payer, environment, failed, rate_version, provider, model,
       coalesce(sum(cost_pico), 0)::numeric(38, 0), count(*), count(*) filter (where cost_pico is null)
from request
group by payer, environment, failed, rate_version, provider, model
union all
select 'cost', environment, failed, meter, null, null, coalesce(sum(amount), 0)::numeric(38, 0), 0, 0
from (select environment, failed, unnest(line_meters) as meter, unnest(amounts) as amount from request) as line
group by environment, failed, meter
union all
select 'unknown', environment, failed, meter, null, null, 0, 0, count(distinct seq)
from request cross join lateral unnest(line_meters, amounts) as line (meter, amount)
where array_position(amounts, null) is not null and amount is null
group by environment, failed, meter

-- name: has_operations
-- Whether the two queries that follow have any row: most orgs' months have none, and a cursor is several round trips.
select exists (
           select from ledger_entries
           where org_id = %(org)s and seq >= %(first_seq)s and seq < %(bound_seq)s and seq <= %(through_seq)s
               and time >= %(start)s and time < %(end)s and body is not null and kind <> 'denial' and kind = any(%(kinds)s)
       ),
       exists (
           select from entries_of_period(%(org)s, %(start)s, %(end)s, %(bound_seq)s, %(bound_seq)s, %(through_seq)s)
           where body is not null and kind <> 'denial' and kind = any(%(kinds)s)
       )

-- name: operations
-- The period's operations that may move credits or adjust usage, in ascending sequence. Apart from the late ones, so that they come in the
-- order of the primary key. `kind <> 'denial'` says no more, but in the words of the index of operations.
select seq, kind, time, body from ledger_entries
where org_id = %(org)s and seq >= %(first_seq)s and seq < %(bound_seq)s and seq <= %(through_seq)s
    and time >= %(start)s and time < %(end)s and body is not null and kind <> 'denial' and kind = any(%(kinds)s)
order by seq

-- name: operations_late
-- The same of those from bound_seq on.
select seq, kind, time, body
from entries_of_period(%(org)s, %(start)s, %(end)s, %(bound_seq)s, %(bound_seq)s, %(through_seq)s)
where body is not null and kind <> 'denial' and kind = any(%(kinds)s)
order by seq

-- name: marks_in_order
-- Of the period's entries from from_seq up to but not including until_seq, each one's sequence number and leaf, 40
-- bytes, in ascending sequence.
select coalesce(string_agg(int8send(seq) || leaf, ''::bytea order by seq), '')
from ledger_entries
where org_id = %(org)s and seq >= %(from_seq)s and seq < %(until_seq)s and time >= %(start)s and time < %(end)s

-- name: marks_late
-- The same of the entries that came more than 6 hours late, some thousands to a row.
select string_agg(int8send(seq) || leaf, ''::bytea order by seq)
from (
    select seq, leaf, row_number() over (order by seq) as place
    from entries_of_period(%(org)s, %(start)s, %(end)s, %(bound_seq)s, %(bound_seq)s, %(through_seq)s)
) as late
group by place / 8192
order by place / 8192

-- name: leaves
-- The leaves from from_seq up to but not including until_seq, 32 bytes each, in ascending sequence.
select coalesce(string_agg(leaf, ''::bytea order by seq), '')
from ledger_entries
where org_id = %(org)s and seq >= %(from_seq)s and seq < %(until_seq)s

-- name: leaves_and_marks
-- Of the entries from from_seq up to but not including until_seq: the leaves of those that came after sealed_seq, as
-- `leaves` gives them, and what `marks_in_order` gives of those before bound_seq.
select coalesce(string_agg(leaf, ''::bytea order by seq) filter (where seq > %(sealed_seq)s), ''),
       coalesce(string_agg(int8send(seq) || leaf, ''::bytea order by seq) filter (
           where seq >= %(first_seq)s and seq < %(bound_seq)s and time >= %(start)s and time < %(end)s
       ), '')
from ledger_entries
where org_id = %(org)s and seq >= %(from_seq)s and seq < %(until_seq)s

-- name: sealed_tree
-- The org's tree as it was sealed last, at or before a sequence number: its size and its full subtrees.
select last_seq, frontier from block_orgs
where org_id = %(org)s and last_seq <= %(through_seq)s
order by last_seq desc limit 1

-- name: dense_entries
-- Every entry from first_seq up to but not including bound_seq, of the period or not, in ascending sequence.
select * from ledger_entries
where org_id = %(org)s and seq >= %(first_seq)s and seq < %(bound_seq)s and seq <= %(through_seq)s
order by seq

-- name: late_entries
-- The period's entries from bound_seq on: those that came more than 6 hours late.
select * from entries_of_period(%(org)s, %(start)s, %(end)s, %(bound_seq)s, %(bound_seq)s, %(through_seq)s)
order by seq

-- name: requests
-- The period's requests up to bound_seq in ascending sequence. With `meters`, only charged ones that used one of
-- them; with `after_seq`, only those that came, or were corrected, after it.
-- Apart from the late ones, so that they come in the order of the primary key, and none has to wait for a sort.
select * from ledger_entries
where org_id = %(org)s and seq >= %(first_seq)s and seq < %(bound_seq)s and seq <= %(through_seq)s
    and time >= %(start)s and time < %(end)s and kind <> 'correction' and body is null and (%(meters)s::text[] is null or (
    outcome <> 'failure' and environment <> all(%(uncharged)s::text[])
    and exists (
        select from unnest(meter_names, meter_quantities) as used (meter, quantity)
        where used.meter = any(%(meters)s::text[]) and used.quantity > 0
    )
))
    and (%(after_seq)s::bigint = 0 or seq > %(after_seq)s or seq in (
        select refers_to_seq from ledger_entries as late
        where late.org_id = %(org)s and late.kind = 'correction' and late.refers_to_seq >= %(first_seq)s
            and late.seq > %(after_seq)s and late.seq <= %(through_seq)s
    ))
order by seq
limit %(limit)s

-- name: requests_late
-- The same of those from bound_seq on.
select * from entries_of_period(%(org)s, %(start)s, %(end)s, %(bound_seq)s, %(bound_seq)s, %(through_seq)s)
where kind <> 'correction' and body is null and (%(meters)s::text[] is null or (
    outcome <> 'failure' and environment <> all(%(uncharged)s::text[])
    and exists (
        select from unnest(meter_names, meter_quantities) as used (meter, quantity)
        where used.meter = any(%(meters)s::text[]) and used.quantity > 0
    )
))
    and (%(after_seq)s::bigint = 0 or seq > %(after_seq)s or seq in (
        select refers_to_seq from ledger_entries as late
        where late.org_id = %(org)s and late.kind = 'correction' and late.refers_to_seq >= %(first_seq)s
            and late.seq > %(after_seq)s and late.seq <= %(through_seq)s
    ))
order by seq
limit %(limit)s

-- name: corrections
-- The period's corrections, in the order of the entries that they refer to.
select * from ledger_entries
where org_id = %(org)s and kind = 'correction' and refers_to_seq >= %(first_seq)s and seq <= %(through_seq)s
    and time >= %(start)s and time < %(end)s
order by refers_to_seq

-- name: adjustments
-- The period's adjustments, whole, in ascending sequence. In the words of the index of operations: there are few.
select * from ledger_entries
where org_id = %(org)s and kind = 'adjustment' and body is not null and kind <> 'denial' and seq >= %(first_seq)s
    and seq <= %(through_seq)s and time >= %(start)s and time < %(end)s
order by seq

-- name: period_meters
-- The meters of the period: those that were counted, and those that carry a part of the cost.
select distinct meter
from (
    select distinct meter_names, line_meters
    from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s)
) as used
cross join lateral unnest(coalesce(meter_names, '{}') || line_meters) as named (meter)

-- name: unrecorded_erasures
-- Those of these entries of whose erasure there is no record.
select seq from unnest(%(seqs)s::bigint[]) as given (seq)
where not exists (select from erasures where erasures.org_id = %(org)s and erasures.seq = given.seq)
order by seq

-- name: sequence_gaps
-- Where the org's dense sequence has holes from from_seq to through_seq: (first, last) of each.
select previous + 1, seq - 1
from (
    select seq, lag(seq, 1, %(from_seq)s::bigint - 1) over (order by seq) as previous
    from (
        select seq from ledger_entries where org_id = %(org)s and seq >= %(from_seq)s and seq <= %(through_seq)s
        union all select %(through_seq)s::bigint + 1
    ) as present
) as neighbours
where seq > previous + 1
order by seq

-- name: late_months
-- Of these months of the org's, which have entries after after_seq that may change what they come to: requests,
-- corrections, and operations of these kinds. One look for all of them: a few hours' entries at most are read that came
-- in time for their month, and the index of those that came later.
select distinct given.label
from (
    select seq_reaching(%(org)s, %(end)s::timestamptz + interval '6 hours', %(through_seq)s) as bound_seq
    offset 0
) as span
cross join lateral entries_of_period(
    %(org)s, %(start)s, %(end)s, %(after_seq)s::bigint + 1, span.bound_seq, %(through_seq)s
) as entry
join unnest(%(labels)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as given (label, start, until)
    on entry.time >= given.start and entry.time < given.until
where entry.body is null or entry.kind = any(%(kinds)s)

-- name: late_arrival
-- Of the period's entries in the span: how many, how many of them requests, and when the first and the last was recorded.
select count(*), count(*) filter (where kind <> 'correction' and body is null), min(recorded_at), max(recorded_at)
from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s)
