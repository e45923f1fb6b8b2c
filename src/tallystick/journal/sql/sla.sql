-- Incidents, the requests that were slow, and which closed months are to be looked at. Tenants see no incidents: an
-- operator's session asks, and names the org.

-- name: lock
-- One writer at a time: numbers are dense, and come in the order of the commits.
select pg_advisory_xact_lock(hashtextextended('tallystick incidents', 0))

-- name: by_request
select * from incidents where request_id = %(request_id)s

-- name: by_number
select * from incidents where incident = %(incident)s

-- name: replaced_by
-- The number of the record that takes that one back, or stands in its place.
select incident from incidents where replaces = %(incident)s

-- name: add
-- starts_at to replaces are given; the number is the next one.
insert into incidents
    (incident, kind, starts_at, ends_at, orgs, feature, reason, author, request_id, recorded_at, replaces)
select coalesce((select max(incident) from incidents), 0) + 1, %(kind)s, %(start)s, %(end)s, %(orgs)s, %(feature)s,
       %(reason)s, %(author)s, %(request_id)s, %(recorded_at)s, %(replaces)s
returning *

-- name: page
-- Records after a number, of one org, of one kind, that touch a time; in the order in which they were made.
select * from incidents
where incident > %(after)s and (%(org)s::text is null or orgs is null or %(org)s = any(orgs))
    and (%(kind)s::text is null or kind = %(kind)s)
    and (%(start)s::timestamptz is null or ends_at > %(start)s) and (%(end)s::timestamptz is null or starts_at < %(end)s)
order by incident
limit %(limit)s

-- name: taken_back
-- Which of these records a later one takes back, or stands in the place of, and which that is.
select replaces, incident from incidents where replaces = any(%(incidents)s::bigint[])

-- name: touching
-- Records that touch a time, and those that take one of them back, wherever they lie.
with touching as (
    select * from incidents where tstzrange(starts_at, ends_at) && tstzrange(%(start)s, %(end)s)
)
select * from touching
union
select later.* from incidents as later join touching on later.replaces = touching.incident
order by incident

-- name: through
-- The number of the last record.
select coalesce(max(incident), 0) from incidents

-- name: clocks
-- How far the clocks of those of these orgs have come that are test orgs.
select max(at) from test_clocks where org_id = any(%(orgs)s::text[]) group by org_id

-- name: slow_requests
-- How many successful requests of these times there are, and how many of them took longer than each of these thresholds.
-- In which environments nothing is promised, and which features are promised something, is given.
select threshold.over_ms, count(*), count(*) filter (where usage.latency_ms > threshold.over_ms)
from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s) as usage
join unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) as counted (start, until)
    on usage.time >= counted.start and usage.time < counted.until
cross join unnest(%(over_ms)s::bigint[]) as threshold (over_ms)
where usage.kind <> 'correction' and usage.body is null and usage.outcome = 'success' and usage.latency_ms is not null
    and usage.environment <> all(%(uncharged)s::text[])
    and (%(features)s::text[] = '{}' or usage.feature = any(%(features)s::text[]))
group by threshold.over_ms

-- name: documents
-- These closed months, whole.
select invoice_id, document from invoices where invoice_id = any(%(invoices)s::text[])

-- name: look
insert into sla_looks (org_id, invoice_id, incidents_through, credit_cents)
select * from unnest(%(orgs)s::text[], %(invoices)s::text[], %(through)s::bigint[], %(cents)s::bigint[])
on conflict do nothing

-- name: looks
-- What closed months were looked at with, of one org or of all.
select org_id, invoice_id, incidents_through, credit_cents from sla_looks
where %(org)s::text is null or org_id = %(org)s
order by org_id, invoice_id, incidents_through

-- name: never_looked
-- Issued months under these contract versions that were never looked at, of one org or of all.
select invoice.org_id, invoice.invoice_id
from invoices as invoice
join unnest(%(contracts)s::text[], %(hashes)s::text[]) as promising (contract, sha256)
    on invoice.contract = promising.contract and invoice.contract_sha256 = promising.sha256
where (%(org)s::text is null or invoice.org_id = %(org)s)
    and exists (
        select from invoice_accounts as issued
        where issued.org_id = invoice.org_id and issued.invoice_id = invoice.invoice_id
    )
    and not exists (
        select from sla_looks as look where look.org_id = invoice.org_id and look.invoice_id = invoice.invoice_id
    )
order by 1, 2

-- name: unlooked
-- Issued months that an incident touches which was recorded after they were looked at last; the oldest first. What a
-- record takes back counts with it, since its month is another one then. Months that nothing is promised of were never
-- looked at, and need not be; nor need those whose invoice is void: nothing is charged for them.
with looked as (
    select org_id, invoice_id, max(incidents_through) as through from sla_looks
    where %(org)s::text is null or org_id = %(org)s
    group by org_id, invoice_id
    having max(incidents_through) < (select max(incident) from incidents)
)
select invoice.org_id, invoice.invoice_id, invoice.period, invoice.period_start, invoice.period_end
from looked
join invoices as invoice on invoice.invoice_id = looked.invoice_id
join invoice_accounts as issued on issued.org_id = looked.org_id and issued.invoice_id = looked.invoice_id and not issued.voided
where exists (
    select from incidents as later
    where later.incident > looked.through and (later.orgs is null or invoice.org_id = any(later.orgs))
        and tstzrange(later.starts_at, later.ends_at) && tstzrange(invoice.period_start, invoice.period_end)
) or exists (
    select from incidents as former join incidents as later on later.replaces = former.incident
    where later.incident > looked.through and (former.orgs is null or invoice.org_id = any(former.orgs))
        and tstzrange(former.starts_at, former.ends_at) && tstzrange(invoice.period_start, invoice.period_end)
)
order by invoice.period, invoice.org_id

-- name: lots
-- Of an org, the entries that gave it credits for breaches; the row of a lot stays.
select seq from invoice_credit_lots where org_id = %(org)s and source = 'sla' order by seq
