-- Closed months, and who is to be billed for one. Requests are asked for as `kind <> 'correction' and body is null`: for
-- kind = 'usage' the planner, while it has no statistics, may take the index of request ids, which is in no useful order.

-- name: unsubscribed_orgs
-- Orgs that used something in the period and have no subscription at all. offset 0: each bound is sought once an org.
select head.org_id
from org_heads as head
cross join lateral (
    select seq_reaching(head.org_id, %(start)s, head.last_seq) as first_seq,
           seq_reaching(head.org_id, %(end)s::timestamptz + interval '6 hours', head.last_seq) as bound_seq
    offset 0
) as span
cross join lateral (
    select from entries_of_period(head.org_id, %(start)s, %(end)s, span.first_seq, span.bound_seq, head.last_seq)
    where kind <> 'correction' and body is null
    limit 1
) as used
where head.time_max >= %(start)s
    and not exists (select from subscriptions as held where held.org_id = head.org_id)
order by head.org_id

-- name: orgs_that_used
-- Which of these orgs used something, each between its own two instants.
select head.org_id
from unnest(%(orgs)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as given (org_id, start, until)
join org_heads as head on head.org_id = given.org_id and head.time_max >= given.start
cross join lateral (
    select seq_reaching(head.org_id, given.start, head.last_seq) as first_seq,
           seq_reaching(head.org_id, given.until + interval '6 hours', head.last_seq) as bound_seq
    offset 0
) as span
cross join lateral (
    select from entries_of_period(head.org_id, given.start, given.until, span.first_seq, span.bound_seq, head.last_seq)
    where kind <> 'correction' and body is null
    limit 1
) as used

-- name: late_requests
-- Requests of the period that arrived after the invoice was closed, that is after through_seq, and operations that may
-- move credits and were committed after it: how many there are, how many of them came after billed_through_seq, and the
-- first of them in the order in which they arrived.
select count(*) over (), count(*) filter (where seq > %(billed_through_seq)s) over (), seq, request_id, time, recorded_at
from entries_of_period(%(org)s, %(start)s, %(end)s, greatest(%(first_seq)s, %(through_seq)s::bigint + 1), %(bound_seq)s, %(last_seq)s)
where kind <> 'correction' and (body is null or kind = any(%(kinds)s))
order by seq limit %(limit)s

-- name: ranges_in_blocks
-- Which of the org's entries from first_seq to last_seq, which have left the database for blocks, may be of that time:
-- ranges of sequence numbers, a block each, from the times that the block has.
select greatest(held.first_seq, %(first_seq)s::bigint), least(held.last_seq, %(last_seq)s::bigint)
from block_orgs as held
join blocks on blocks.block = held.block
where held.org_id = %(org)s and held.last_seq >= %(first_seq)s and held.first_seq <= %(last_seq)s
    and blocks.time_min < %(end)s and blocks.time_max >= %(start)s
order by held.first_seq

-- name: orgs_with_late
-- Which of these orgs have entries after their last invoice that belong to a month with an invoice, all of whose months
-- ended before the instant given; or have let entries go since.
select head.org_id
from unnest(%(orgs)s::text[], %(starts)s::timestamptz[]) as given (org_id, before)
cross join lateral (
    select max(through_seq) as through_seq, min(period_start) as since, max(period_end) as until
    from invoices where invoices.org_id = given.org_id
) as billed
join org_heads as head on head.org_id = given.org_id and head.last_seq > billed.through_seq
cross join lateral (
    select seq_reaching(head.org_id, billed.until + interval '6 hours', head.last_seq) as bound_seq
    offset 0
) as span
where billed.until <= given.before and (
    exists (
        select from entries_of_period(
            head.org_id, billed.since, billed.until, billed.through_seq + 1, span.bound_seq, head.last_seq
        ) as entry
        join invoices as own on own.org_id = head.org_id and entry.time >= own.period_start and entry.time < own.period_end
        where entry.body is null or entry.kind = any(%(kinds)s)
    )
    or (select min(seq) from ledger_entries where ledger_entries.org_id = head.org_id) > billed.through_seq + 1
    or not exists (select from ledger_entries where ledger_entries.org_id = head.org_id)
)

-- name: lock_closing
-- One closing of an org at a time, until the transaction ends: each invoice bears what came late since the one before.
select pg_advisory_xact_lock(hashtextextended('close ' || %(org)s, 0))

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

-- name: invoices_of_org
-- An org's closed months without their documents, newest month first.
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan, through_seq,
       digest, total_cents, closed_at
from invoices where org_id = %(org)s
order by period desc, contract

-- name: list_invoices
-- Closed months without their documents, newest month first.
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan, through_seq,
       digest, total_cents, closed_at
from invoices
where (%(org)s::text is null or org_id = %(org)s) and (%(period)s::text is null or period = %(period)s)
order by period desc, org_id, contract
