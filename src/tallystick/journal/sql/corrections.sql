-- Entries without a price, and the corrections that give them one.

-- name: orgs
-- Orgs with an unpriced entry that no correction refers to.
select distinct org_id from ledger_entries as entry
where status = 'unpriced' and kind = 'usage' and not exists (
    select from ledger_entries as correction
    where correction.org_id = entry.org_id and correction.kind = 'correction' and correction.refers_to_seq = entry.seq
)
order by org_id

-- name: unpriced
-- The next unpriced, uncorrected entries of one org above a sequence, with the facts that they price.
select event.seq, event.org_id, event.request_id, event.time, event.user_id, event.session_id, event.feature,
       event.environment, event.provider, event.model, event.api_key_id, event.action, event.latency_ms, event.outcome,
       event.usage_status, event.meter_names, event.meter_quantities, event.price_context, event.provider_cost_pico,
       event.attributes
from ledger_entries as entry
join usage_events as event using (org_id, seq)
where entry.org_id = %(org)s and entry.seq > %(after)s and entry.status = 'unpriced' and entry.kind = 'usage'
    and not exists (
        select from ledger_entries as correction
        where correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = entry.seq
    )
order by entry.seq
limit %(limit)s
