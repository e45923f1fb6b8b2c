-- Reading an org's ledger in the order in which it was written.

-- name: events_after
-- The org's facts with seq above the cursor, each with its entry and, when there is one, its correction.
select event.seq, event.request_id, event.time, event.recorded_at, event.user_id, event.session_id, event.feature,
       event.environment, event.provider, event.model, event.api_key_id, event.action, event.latency_ms,
       event.outcome, event.usage_status, event.meter_names, event.meter_quantities, event.price_context,
       event.provider_cost_pico, event.attributes, encode(event.fingerprint, 'hex') as fingerprint,
       entry.rate_version, entry.status, entry.cost_pico, entry.line_meters, entry.line_quantities,
       entry.line_price_pico, entry.line_per, entry.line_amount_pico, entry.line_models, entry.reason,
       correction.seq as correction_seq, correction.rate_version as correction_rate_version,
       correction.status as correction_status, correction.cost_pico as correction_cost_pico
from usage_events as event
join ledger_entries as entry using (org_id, seq)
left join ledger_entries as correction
    on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = event.seq
where event.org_id = %(org)s and event.seq > %(after)s
order by event.seq
limit %(limit)s

-- name: knows_org
-- Whether the org has an event or a subscription.
select exists (select from org_heads where org_id = %(org)s)
    or exists (select from subscriptions where org_id = %(org)s)
