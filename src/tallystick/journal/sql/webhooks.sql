-- Webhooks: endpoints, events, deliveries and their log.

-- name: enqueue
-- Events that are not there yet, and a delivery of each to every endpoint that wants it. Test orgs' alerts are not the operator's.
with added as (
    insert into webhook_events (event_id, org_id, type, key, at, data)
    select event_id, org_id, type, key, at, data
    from unnest(%(events)s::text[], %(orgs)s::text[], %(types)s::text[], %(keys)s::text[], %(ats)s::timestamptz[], %(datas)s::text[])
        with ordinality as given (event_id, org_id, type, key, at, data, place)
    order by place
    on conflict do nothing
    returning event_id, org_id, type
), wanted as (
    select added.event_id, added.type, endpoint.endpoint_id, endpoint.org_id, endpoint.types
    from added join webhook_endpoints as endpoint on endpoint.org_id = added.org_id and endpoint.state = 'enabled'
    union all
    select added.event_id, added.type, endpoint.endpoint_id, endpoint.org_id, endpoint.types
    from added join webhook_endpoints as endpoint on endpoint.org_id is null and endpoint.state = 'enabled'
    where not (starts_with(added.type, 'alert.') and exists (select from test_clocks as test where test.org_id = added.org_id))
)
insert into webhook_deliveries (delivery_id, event_id, endpoint_id, org_id, ordinal, attempts_max)
select 'dlv_' || left(encode(sha256(convert_to(wanted.event_id || ' ' || endpoint_id || ' 1', 'UTF8')), 'hex'), 32),
       wanted.event_id, endpoint_id, org_id, 1, %(attempts_max)s
from wanted join unnest(%(events)s::text[]) with ordinality as given (event_id, place) on given.event_id = wanted.event_id
where exists (
    select from unnest(types) as pattern
    where pattern in ('*', type) or right(pattern, 2) = '.*' and starts_with(type, left(pattern, -1))
)
order by given.place, endpoint_id

-- name: add_endpoint
insert into webhook_endpoints (endpoint_id, org_id, url, types, description, state, author, created_at, changed_at)
values (%(endpoint_id)s, %(org_id)s, %(url)s, %(types)s, %(description)s, 'enabled', %(author)s, %(at)s, %(at)s)

-- name: lock_owner
-- Nobody else adds endpoints of this owner until the transaction ends.
select pg_advisory_xact_lock(hashtextextended('tallystick webhooks ' || coalesce(%(org)s::text, ''), 0))

-- name: count_endpoints
select count(*) from webhook_endpoints where state <> 'removed' and org_id is not distinct from %(org)s::text

-- name: endpoint
select endpoint_id, org_id, url, types, description, state, reason, failing_since, failures, author, created_at, changed_at
from webhook_endpoints where endpoint_id = %(endpoint)s

-- name: lock_endpoint
-- Nobody else changes it until the transaction ends; entries whose events are for it are written meanwhile.
select from webhook_endpoints where endpoint_id = %(endpoint)s for no key update

-- name: endpoints
-- Of one org, of all (given neither), or operators' alone; the oldest first.
select endpoint_id, org_id, url, types, description, state, reason, failing_since, failures, author, created_at, changed_at
from webhook_endpoints
where (%(org)s::text is null or org_id = %(org)s) and (not %(operators)s or org_id is null)
    and (%(removed)s or state <> 'removed')
order by created_at, endpoint_id

-- name: change_endpoint
update webhook_endpoints set url = %(url)s, types = %(types)s, description = %(description)s, state = %(state)s, reason = %(reason)s,
    failing_since = %(failing_since)s, failures = %(failures)s, changed_at = %(at)s
where endpoint_id = %(endpoint)s

-- name: cancel_deliveries
-- What still waits for an endpoint that is removed is never sent.
update webhook_deliveries set state = 'canceled', ended_at = %(at)s, claim = null, claimed_until = null
where endpoint_id = %(endpoint)s and state = 'waiting'

-- name: add_secret
insert into webhook_secrets (endpoint_id, org_id, ordinal, sealed, key_id, before_until, author, created_at)
values (%(endpoint_id)s, %(org_id)s, %(ordinal)s, %(sealed)s, %(key_id)s, %(before_until)s, %(author)s, %(at)s)

-- name: secrets
-- The secrets of endpoints, the newest of each first, and until when each signs: null for as long as there is no other.
select endpoint_id, ordinal, sealed, key_id, created_at,
       lead(before_until) over (partition by endpoint_id order by ordinal)
from webhook_secrets where endpoint_id = any(%(endpoints)s::text[])
order by endpoint_id, ordinal desc

-- name: newest_secrets
-- Of each endpoint that is there the key of its newest secret.
select distinct on (endpoint_id) endpoint_id, key_id
from webhook_secrets join webhook_endpoints using (endpoint_id)
where state <> 'removed' order by endpoint_id, ordinal desc

-- name: any_secret
select exists (select from webhook_secrets)

-- name: is_due
-- Whether anything could be claimed, at little cost; with something that waits for a disabled endpoint, perhaps not.
select exists (select from webhook_deliveries where state = 'waiting' and next_at <= %(now)s)

-- name: claim
-- Deliveries that are due, claimed: those first that have been for longest, few of any one endpoint, one of those that fail,
-- and no more of any one owner than leave room for the others.
with waiting as (
    select waiting.delivery_id, waiting.next_at, waiting.place, endpoint.org_id,
           row_number() over (partition by endpoint.org_id order by waiting.next_at, waiting.place) as nth
    from webhook_endpoints as endpoint
    cross join lateral (
        select delivery.delivery_id, delivery.next_at, delivery.place
        from webhook_deliveries as delivery
        where delivery.endpoint_id = endpoint.endpoint_id and delivery.state = 'waiting' and delivery.next_at <= %(now)s
            and (delivery.claim is null or delivery.claimed_until <= %(now)s) and delivery.attempts < delivery.attempts_max
        order by delivery.next_at, delivery.place
        limit greatest(0, case when endpoint.failing_since is null then %(per_endpoint)s else 1 end - (
            select count(*) from webhook_deliveries as busy
            where busy.endpoint_id = endpoint.endpoint_id and busy.claim is not null and busy.claimed_until > %(now)s
        ))
    ) as waiting
    where endpoint.state = 'enabled'
), due as (
    select waiting.delivery_id, waiting.next_at, waiting.place
    from waiting left join (
        select org_id, count(*) as count from webhook_deliveries
        where claim is not null and claimed_until > %(now)s group by org_id
    ) as busy on busy.org_id is not distinct from waiting.org_id
    where waiting.nth <= %(per_owner)s - coalesce(busy.count, 0)
    order by waiting.next_at, waiting.place
    limit %(most)s * 4
), taken as (
    select delivery.delivery_id
    from due join webhook_deliveries as delivery using (delivery_id)
    where delivery.state = 'waiting' and delivery.next_at <= %(now)s
        and (delivery.claim is null or delivery.claimed_until <= %(now)s) and delivery.attempts < delivery.attempts_max
    order by due.next_at, due.place
    limit %(most)s
    for update of delivery skip locked
)
update webhook_deliveries as delivery
set claim = %(claim)s, claimed_until = %(until)s, attempts = delivery.attempts + 1
from taken, webhook_events as event, webhook_endpoints as endpoint
where delivery.delivery_id = taken.delivery_id and event.event_id = delivery.event_id and endpoint.endpoint_id = delivery.endpoint_id
returning delivery.delivery_id, delivery.event_id, delivery.endpoint_id, delivery.org_id, delivery.attempts, delivery.attempts_max,
          delivery.claim, endpoint.url, event.type, event.at, event.data, delivery.place

-- name: claim_one
-- One delivery, whatever becomes of its endpoint's others.
update webhook_deliveries as delivery
set claim = %(claim)s, claimed_until = %(until)s, attempts = delivery.attempts + 1
from webhook_events as event, webhook_endpoints as endpoint
where delivery.delivery_id = %(delivery)s and delivery.state = 'waiting' and delivery.claim is null
    and event.event_id = delivery.event_id and endpoint.endpoint_id = delivery.endpoint_id
returning delivery.delivery_id, delivery.event_id, delivery.endpoint_id, delivery.org_id, delivery.attempts, delivery.attempts_max,
          delivery.claim, endpoint.url, event.type, event.at, event.data, delivery.place

-- name: bury
-- Those whose last attempt nobody ended.
update webhook_deliveries set state = 'failed', ended_at = %(now)s, claim = null, claimed_until = null
where state = 'waiting' and claim is not null and claimed_until <= %(now)s and attempts >= attempts_max

-- name: end_attempt
-- What becomes of a delivery after an attempt, unless another has claimed it meanwhile.
update webhook_deliveries set state = %(state)s, next_at = coalesce(%(next_at)s, next_at), ended_at = %(ended_at)s,
    claim = null, claimed_until = null
where delivery_id = %(delivery)s and claim = %(claim)s and state = 'waiting'

-- name: log_attempt
insert into webhook_attempts (delivery_id, org_id, attempt, started_at, latency_ms, status, error, response)
values (%(delivery)s, %(org_id)s, %(attempt)s, %(started_at)s, %(latency_ms)s, %(status)s, %(error)s, %(response)s)
on conflict do nothing

-- name: well
update webhook_endpoints set failing_since = null, failures = 0 where endpoint_id = %(endpoint)s and failing_since is not null

-- name: unwell
update webhook_endpoints set failing_since = coalesce(failing_since, %(now)s), failures = failures + 1
where endpoint_id = %(endpoint)s
returning failing_since, failures

-- name: disable
update webhook_endpoints set state = 'disabled', reason = %(reason)s, changed_at = %(now)s
where endpoint_id = %(endpoint)s and state = 'enabled'
returning org_id, url, failing_since, failures

-- name: send_again
-- Events once more to an endpoint, in order: one, or those of a time that it would get. What waits for it is on its way anyway.
with chosen as (
    select event.event_id, event.at, event.recorded_at,
           (select coalesce(max(ordinal), 0) from webhook_deliveries as sent
            where sent.event_id = event.event_id and sent.endpoint_id = endpoint.endpoint_id) as ordinal
    from webhook_endpoints as endpoint
    join webhook_events as event on endpoint.org_id is null or event.org_id = endpoint.org_id
    where endpoint.endpoint_id = %(endpoint)s and (%(event)s::text is null or event.event_id = %(event)s)
        and (%(since)s::timestamptz is null or event.at >= %(since)s) and (%(until)s::timestamptz is null or event.at < %(until)s)
        and event.type <> 'webhook.ping'
        and not (endpoint.org_id is null and %(event)s::text is null and starts_with(event.type, 'alert.')
            and exists (select from test_clocks as test where test.org_id = event.org_id))
        and (%(event)s::text is not null or exists (
            select from unnest(endpoint.types) as pattern
            where pattern in ('*', event.type) or right(pattern, 2) = '.*' and starts_with(event.type, left(pattern, -1))
        ))
        and (%(types)s::text[] is null or exists (
            select from unnest(%(types)s::text[]) as pattern
            where pattern in ('*', event.type) or right(pattern, 2) = '.*' and starts_with(event.type, left(pattern, -1))
        ))
        and not exists (
            select from webhook_deliveries as sent
            where sent.event_id = event.event_id and sent.endpoint_id = endpoint.endpoint_id
                and (sent.state = 'waiting' or %(missed)s and sent.state = 'delivered')
        )
    order by event.at, event.recorded_at, event.event_id
    limit %(most)s
)
insert into webhook_deliveries (delivery_id, event_id, endpoint_id, org_id, ordinal, attempts_max)
select 'dlv_' || left(encode(sha256(convert_to(event_id || ' ' || %(endpoint)s || ' ' || ordinal + 1, 'UTF8')), 'hex'), 32),
       event_id, %(endpoint)s, %(org_id)s, ordinal + 1, %(attempts_max)s
from chosen order by at, recorded_at, event_id
on conflict do nothing
returning delivery_id

-- name: add_ping
with added as (
    insert into webhook_events (event_id, org_id, type, key, at, data)
    values (%(event)s, %(org_id)s, 'webhook.ping', %(key)s, %(at)s, %(data)s)
    returning event_id
)
insert into webhook_deliveries (delivery_id, event_id, endpoint_id, org_id, ordinal, attempts_max)
select %(delivery)s, event_id, %(endpoint)s, %(org_id)s, 1, 1 from added

-- name: deliveries
-- The deliveries of an endpoint, the newest first, each with its last attempt.
select delivery.delivery_id, delivery.place, delivery.event_id, event.type, event.org_id, event.at, delivery.endpoint_id,
       delivery.ordinal, delivery.state, delivery.attempts, delivery.attempts_max, delivery.next_at, delivery.ended_at,
       last.started_at, last.latency_ms, last.status, last.error, last.response
from webhook_deliveries as delivery join webhook_events as event using (event_id)
left join lateral (
    select * from webhook_attempts as attempt where attempt.delivery_id = delivery.delivery_id order by attempt.attempt desc limit 1
) as last on true
where (%(endpoint)s::text is null or delivery.endpoint_id = %(endpoint)s) and (%(state)s::text is null or delivery.state = %(state)s)
    and (%(delivery)s::text is null or delivery.delivery_id = %(delivery)s)
    and (%(event)s::text is null or delivery.event_id = %(event)s)
    and (%(before)s::bigint is null or delivery.place < %(before)s)
order by delivery.place desc
limit %(limit)s

-- name: place_of
select place from webhook_deliveries where delivery_id = %(delivery)s and endpoint_id = %(endpoint)s

-- name: attempts
select attempt, started_at, latency_ms, status, error, response from webhook_attempts
where delivery_id = %(delivery)s order by attempt

-- name: data_of
select org_id, data from webhook_events where event_id = %(event)s

-- name: forget
select forget_webhooks(%(before)s, %(most)s)
