-- What settlements say that their work cost, held against the usage that they name.

-- name: usage_costs
-- The usage under these request ids: where it is, what it cost, who paid, and in which environment it was.
select given.request_id, entry.seq, entry.cost_pico, entry.payer, entry.environment
from unnest(%(request_ids)s::text[]) as given (request_id)
join lateral (
    select seq, cost_pico, payer, environment from ledger_entries
    where org_id = %(org)s and ledger_entries.request_id = given.request_id and kind = 'usage' limit 1
) as entry on true

-- name: corrections
-- What corrected these entries, and to what.
select refers_to_seq, seq, cost_pico from ledger_entries
where org_id = %(org)s and refers_to_seq = any(%(seqs)s) and kind = 'correction'

-- name: settled_usage
-- Whose work usage is that was stored before it was settled.
select seq, settlement_seq from settled_usage where org_id = %(org)s
