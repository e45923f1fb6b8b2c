-- The writer's queries. Parameters are arrays, so that one round trip serves a batch of any size.

-- name: add_missing_heads
-- A head for every org that has none, at sequence 0; in order of org, so that two batches cannot deadlock.
insert into org_heads (org_id)
select org_id from unnest(%(orgs)s::text[]) as given (org_id) order by org_id collate "C"
on conflict (org_id) do nothing

-- name: lock_heads
-- Lock the heads of the batch's orgs, always in the same order, and read where their sequences stand. Whoever holds
-- a head's lock is the only writer of that org until the transaction ends.
select org_id, last_seq from org_heads where org_id = any(%(orgs)s::text[]) order by org_id for update

-- name: probe
-- Which of these (org, request id) are stored already, with what the receipt of each said. The lateral join makes it
-- one index lookup for each key, whatever the statistics say.
select given.index, event.seq, event.recorded_at, event.fingerprint,
       entry.cost_pico, entry.status, entry.rate_version, entry.reason
from unnest(%(orgs)s::text[], %(requests)s::text[]) with ordinality as given (org_id, request_id, index)
join lateral (
    select seq, recorded_at, fingerprint from usage_events
    where org_id = given.org_id and request_id = given.request_id
    limit 1
) as event on true
join lateral (
    select cost_pico, status, rate_version, reason from ledger_entries
    where org_id = given.org_id and seq = event.seq
    limit 1
) as entry on true

-- name: advance_heads
-- Where each org's sequence stands after the batch. The heads are locked.
update org_heads set last_seq = given.last_seq
from unnest(%(orgs)s::text[], %(seqs)s::bigint[]) as given (org_id, last_seq)
where org_heads.org_id = given.org_id

-- name: copy_events
-- The facts. seq comes first: it is known last, the rest of the row is encoded before any lock is taken.
copy usage_events (
    seq, org_id, request_id, time, recorded_at, user_id, session_id, feature, environment, provider, model,
    api_key_id, action, latency_ms, outcome, usage_status, meter_names, meter_quantities, price_context,
    provider_cost_pico, attributes, fingerprint
) from stdin (format binary)

-- name: copy_entries
-- The priced entries of those facts, and corrections.
copy ledger_entries (
    seq, org_id, kind, request_id, time, recorded_at, rate_version, status, cost_pico, line_meters, line_quantities,
    line_price_pico, line_per, line_amount_pico, line_models, refers_to_seq, reason
) from stdin (format binary)
