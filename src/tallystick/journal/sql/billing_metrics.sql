-- What is billed, owed, disputed, told and watched, over all orgs but test ones; each looks at what is open, by an index.

-- name: unpaid
-- Invoices that are to be paid still, and what they come to in cents, by whether it is late.
select case when due_at <= %(now)s then 'overdue' else 'open' end, count(*),
       sum(total_cents - paid_cents - credited_cents - applied_cents - carried_cents)
from invoice_accounts
where not voided and total_cents > paid_cents + credited_cents + applied_cents + carried_cents and not is_test
group by 1

-- name: credits_left
-- What is left, in cents, of the credits that invoices use up.
select coalesce(sum(left_cents), 0) from invoice_credit_lots
where left_cents > 0 and not is_test and (expires_at is null or expires_at > %(now)s)

-- name: disputes
-- Disputes that are to be decided, by state, and how many of them were to be answered by now.
select state, count(*), count(*) filter (where answer_due_at <= %(now)s) from disputes
where state in ('open', 'under_review') and org_id not in (select org_id from test_clocks)
group by state

-- name: unmatched
-- Payments of which nobody has said yet what they are for.
select count(*) from payment_outcomes as outcome
where state = 'unmatched' and not exists (
    select from payment_outcomes as later
    where later.provider = outcome.provider and later.event_id = outcome.event_id and later.n > outcome.n
)

-- name: pending
-- Events of payment providers that are kept, and that nothing was done about yet.
select count(*) from payment_events as event
where not exists (
    select from payment_outcomes as outcome
    where outcome.provider = event.provider and outcome.event_id = event.event_id
)

-- name: alerts
-- What fires, by rule and severity.
select rule, severity, count(*) from open_alerts where not is_test group by rule, severity order by rule, severity

-- name: webhooks
-- Deliveries that wait, for how many seconds the oldest has been due, and endpoints that are switched off: what waits for
-- those is on its way to nobody.
select (select count(*) from webhook_deliveries as delivery join webhook_endpoints as endpoint using (endpoint_id)
        where delivery.state = 'waiting' and endpoint.state = 'enabled'),
       (select coalesce(greatest(extract(epoch from %(now)s - min(event.recorded_at)), 0), 0)
        from webhook_deliveries as delivery join webhook_events as event using (event_id)
            join webhook_endpoints as endpoint using (endpoint_id)
        where delivery.state = 'waiting' and delivery.next_at <= %(now)s and endpoint.state = 'enabled'),
       (select count(*) from webhook_endpoints where state = 'disabled')
