-- Webhooks: endpoints, events, deliveries and their log.

-- name: enqueue
-- Events that are not there yet, and a delivery of each to every endpoint that wants it.
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
