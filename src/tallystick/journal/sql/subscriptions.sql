-- Orgs and their subscriptions.

-- name: lock
-- One process at a time numbers the org's subscriptions; readers are not kept waiting.
select pg_advisory_xact_lock(hashtextextended('tallystick subscriptions ' || %(org_id)s, 0))

-- name: add
-- The org's next subscription.
insert into subscriptions (org_id, ordinal, contract, plan, time_zone, effective_from, recorded_at)
select %(org_id)s, coalesce(max(ordinal), 0) + 1, %(contract)s, %(plan)s, %(time_zone)s, %(effective_from)s, %(recorded_at)s
from subscriptions where org_id = %(org_id)s
returning org_id, ordinal, contract, plan, time_zone, effective_from, recorded_at

-- name: of_org
-- Every subscription of one org, in the order in which they were recorded.
select org_id, ordinal, contract, plan, time_zone, effective_from, recorded_at
from subscriptions where org_id = %(org_id)s order by ordinal

-- name: all
-- Every subscription of every org.
select org_id, ordinal, contract, plan, time_zone, effective_from, recorded_at
from subscriptions order by org_id, ordinal

-- name: last_seq
-- Where the org's sequence stands; no row when it has never sent an event.
select last_seq from org_heads where org_id = %(org_id)s

-- name: orgs
-- Every org that has a subscription or an event, with where its sequence stands.
select org_id, coalesce(head.last_seq, 0)
from (select org_id from org_heads union select org_id from subscriptions) as known
left join org_heads as head using (org_id)
order by org_id
