-- What alerts are decided from: looks over all orgs at once, or at one. tests, clocks: test orgs and where their clocks stand.

-- name: spend_days
-- What requests cost us on the present UTC day so far, and on the one before for six hours after its end; from least_pico on.
select state.org_id, wanted.day, sums.cost_pico
from rollup_states as state
left join unnest(%(tests)s::text[], %(clocks)s::timestamptz[]) as test (org_id, at) on test.org_id = state.org_id
cross join lateral (select coalesce(test.at, %(now)s) at time zone 'UTC' as now) as here
cross join lateral (values (here.now::date), (case when here.now::time < '06:00' then here.now::date - 1 end)) as wanted (day)
cross join lateral (
    select sum(cost_pico) as cost_pico from rollup_requests
    where org_id = state.org_id and day = wanted.day and payer = 'seller'
) as sums
where (%(org)s::text is null or state.org_id = %(org)s) and sums.cost_pico >= %(least_pico)s
    and (test.at is not null or state.rolled_at > %(now)s - interval '3 days')

-- name: spend_history
-- The org's first day with usage, and what its requests cost on each of the days before the one that is named.
select given.org_id, given.day, (select min(day) from rollup_requests where org_id = given.org_id), before.days, before.costs
from unnest(%(orgs)s::text[], %(days)s::date[]) as given (org_id, day)
cross join lateral (
    select array_agg(day) as days, array_agg(cost_pico) as costs from (
        select day, sum(cost_pico) as cost_pico from rollup_requests
        where org_id = given.org_id and day >= given.day - %(history)s::integer and day < given.day and payer = 'seller'
        group by day
    ) as summed
) as before

-- name: spend_drivers
-- The same by feature and model, the day itself included.
select given.org_id, given.day, cost.day, cost.feature, cost.model, cost.cost_pico
from unnest(%(orgs)s::text[], %(days)s::date[]) as given (org_id, day)
cross join lateral (
    select day, feature, model, sum(cost_pico) as cost_pico from rollup_requests
    where org_id = given.org_id and day >= given.day - %(history)s::integer and day <= given.day and payer = 'seller'
    group by day, feature, model
) as cost

-- name: charged
-- Credits that settlements charged on the last days.
select state.org_id, charged.day, charged.credits_pico
from rollup_states as state
left join unnest(%(tests)s::text[], %(clocks)s::timestamptz[]) as test (org_id, at) on test.org_id = state.org_id
cross join lateral (select (coalesce(test.at, %(now)s) at time zone 'UTC')::date as today) as here
cross join lateral (
    select day, sum(credits_pico) as credits_pico from rollup_operations
    where org_id = state.org_id and day > here.today - %(pace_days)s::integer and day <= here.today and kind = 'settlement'
    group by day
) as charged
where (%(org)s::text is null or state.org_id = %(org)s) and charged.credits_pico > 0
    and (test.at is not null or state.rolled_at > %(now)s - interval '8 days')

-- name: lots
-- What is available of lots of credits.
select org_id, available_pico, expires_at from grants where is_left and org_id = any(%(orgs)s::text[])

-- name: held
-- What open holds keep of wallets.
select org_id, credit_pico - debit_pico from account_balances
where org_id = any(%(orgs)s::text[]) and account = 'wallet_held' and asset = 'CREDIT' and credit_pico > debit_pico

-- name: terms
-- Of each org on a plan: the terms in force, what was said about it, and how far its usage is counted.
select subscription.org_id, subscription.contract, subscription.plan, subscription.time_zone, subscription.now,
       coalesce(state.state, '{}'), coalesce(state.progress, '{}'), coalesce(state.counted_through_seq, 0), coalesce(head.last_seq, 0)
from (
    select distinct on (said.org_id) said.org_id, contract, plan, time_zone, coalesce(test.at, %(now)s) as now
    from subscriptions as said
    left join unnest(%(tests)s::text[], %(clocks)s::timestamptz[]) as test (org_id, at) on test.org_id = said.org_id
    where effective_from <= coalesce(test.at, %(now)s) and (%(org)s::text is null or said.org_id = %(org)s)
    order by said.org_id, effective_from desc, ordinal desc
) as subscription
left join org_states as state on state.org_id = subscription.org_id
left join org_heads as head on head.org_id = subscription.org_id
where subscription.plan is not null

-- name: counters
-- What these counters of windows have.
select given.org_id, given.counter, counter.window_start, counter.used
from unnest(%(orgs)s::text[], %(counters)s::text[], %(starts)s::timestamptz[]) as given (org_id, counter, window_start)
join counters as counter on counter.org_id = given.org_id and counter.counter = given.counter and counter.window_start = given.window_start

-- name: most_spent
-- What the one who spent most has spent, of counters that begin so.
select given.org_id, given.prefix, max(counter.used)
from unnest(%(orgs)s::text[], %(prefixes)s::text[], %(ends)s::text[], %(starts)s::timestamptz[]) as given (org_id, prefix, ends, window_start)
join counters as counter on counter.org_id = given.org_id and counter.counter >= given.prefix and counter.counter < given.ends
    and counter.window_start = given.window_start
group by given.org_id, given.prefix

-- name: overdue
-- Issued invoices that are due and not paid, each by its org's clock.
select account.org_id, invoice_id, number, due_at, total_cents - paid_cents - credited_cents - applied_cents - carried_cents, is_test
from invoice_accounts as account
left join unnest(%(tests)s::text[], %(clocks)s::timestamptz[]) as test (org_id, at) on test.org_id = account.org_id
where not voided and total_cents > paid_cents + credited_cents + applied_cents + carried_cents and due_at <= coalesce(test.at, %(now)s)
    and (%(org)s::text is null or account.org_id = %(org)s)

-- name: unpriced
-- Requests whose cost is not known, by what has no price; none of test orgs.
select entry.provider, entry.model, count(*), min(entry.recorded_at), count(distinct entry.org_id)
from ledger_entries as entry
where status = 'unpriced' and kind = 'usage' and not exists (
    select from ledger_entries as correction
    where correction.org_id = entry.org_id and correction.kind = 'correction' and correction.refers_to_seq = entry.seq
) and not exists (select from test_clocks as test where test.org_id = entry.org_id)
group by 1, 2
order by 3 desc, 1, 2
limit %(limit)s

-- name: disputes
-- Disputes that nobody has answered in time; none of test orgs.
select org_id, seq, what, answer_due_at, disputed_cents from disputes
where state in ('open', 'under_review') and answer_due_at <= %(now)s
    and not exists (select from test_clocks as test where test.org_id = disputes.org_id)
order by answer_due_at
limit %(limit)s

-- name: endpoints
-- Webhook endpoints that were disabled because nothing but failures came of them.
select endpoint_id, org_id, reason, failures, changed_at from webhook_endpoints
where state = 'disabled' and failures > 0 and (%(org)s::text is null or org_id = %(org)s)
