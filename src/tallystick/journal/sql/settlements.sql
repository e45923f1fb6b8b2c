-- What settlements say that their work cost, held against the usage that they name.

-- name: usage_costs
-- The usage under these request ids: where it is, what it cost, who paid, and whether all of it has a price.
select given.request_id, entry.seq, entry.cost_pico, entry.payer, entry.status
from unnest(%(request_ids)s::text[]) as given (request_id)
join lateral (
    select seq, cost_pico, payer, status from ledger_entries
    where org_id = %(org)s and ledger_entries.request_id = given.request_id and kind = 'usage' limit 1
) as entry on true
