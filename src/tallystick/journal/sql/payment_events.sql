-- What payment providers have told, and what became of it.

-- name: add_event
-- The first telling of an event holds.
insert into payment_events (provider, event_id, type, payment_id, livemode, body_sha256, fact, received_at)
values (%(provider)s, %(event_id)s, %(type)s, %(payment_id)s, %(livemode)s, %(body_sha256)s, %(fact)s, %(received_at)s)
on conflict do nothing

-- name: add_outcome
-- What became of an event, unless somebody else has said so meanwhile.
insert into payment_outcomes (provider, event_id, n, state, code, detail, org_id, invoice_id, seqs, author, at)
values (%(provider)s, %(event_id)s, %(n)s, %(state)s, %(code)s, %(detail)s, %(org_id)s, %(invoice_id)s, %(seqs)s, %(author)s, %(at)s)
on conflict do nothing

-- name: events
-- Events with what became of each at last: the newest first, those before a place where one is given.
select event.provider, event.event_id, event.type, event.payment_id, event.livemode, event.fact, event.received_at,
       coalesce(last.n, 0), coalesce(last.state, 'pending'), last.code, last.detail, last.org_id, last.invoice_id,
       coalesce(last.seqs, '{}'), last.author, last.at
from payment_events as event
left join lateral (
    select * from payment_outcomes as outcome
    where outcome.provider = event.provider and outcome.event_id = event.event_id order by n desc limit 1
) as last on true
where (%(provider)s::text is null or event.provider = %(provider)s)
    and (%(event_id)s::text is null or event.event_id = %(event_id)s)
    and (%(payment_id)s::text is null or event.payment_id = %(payment_id)s)
    and (%(states)s::text[] is null or coalesce(last.state, 'pending') = any(%(states)s::text[]))
    and (%(before)s::timestamptz is null or (event.received_at, event.event_id, event.provider) < (%(before)s, %(before_id)s, %(before_provider)s))
order by event.received_at desc, event.event_id desc, event.provider desc
limit %(limit)s

-- name: waiting
-- Events that nothing was done about yet, and those since an instant that wait for something that may come by itself; the
-- oldest first.
with waiting as (
    select provider, event_id from payment_events as event
    where not exists (
        select from payment_outcomes as outcome
        where outcome.provider = event.provider and outcome.event_id = event.event_id
    )
    union all
    select provider, event_id from payment_outcomes as outcome
    where state = 'unmatched' and code = any(%(codes)s::text[]) and not exists (
        select from payment_outcomes as later
        where later.provider = outcome.provider and later.event_id = outcome.event_id and later.n > outcome.n
    ) and exists (
        select from payment_events as event
        where event.provider = outcome.provider and event.event_id = outcome.event_id and event.received_at > %(since)s
    )
)
select event.received_at, event.event_id, event.provider
from waiting join payment_events as event using (provider, event_id)
where (%(after)s::timestamptz is null or (event.received_at, event.event_id, event.provider) > (%(after)s, %(after_id)s, %(after_provider)s))
order by event.received_at, event.event_id, event.provider
limit %(limit)s

-- name: wrong_outcomes
-- Outcomes that say of entries what they are not: no payment of that invoice of that org.
select outcome.provider, outcome.event_id, outcome.org_id, given.seq
from payment_outcomes as outcome
cross join lateral unnest(outcome.seqs) as given (seq)
where (%(org)s::text is null or outcome.org_id = %(org)s) and not exists (
    select from invoice_events as counted
    where counted.org_id = outcome.org_id and counted.seq = given.seq and counted.kind = 'payment'
        and starts_with(counted.payment_id, outcome.provider || ':')
)
order by 1, 2
