-- Retention: which sealed entries may leave, and letting them go. The functions of tallystick_keeper do the changes,
-- and triggers check them; see migrations/0002_sealing.sql.

-- name: kept_ranges
-- Of each org the sealed ranges that still have rows here, oldest first.
select ranges.block, ranges.org_id, greatest(ranges.first_seq, kept.first_seq) as first_seq, ranges.last_seq
from org_heads as head
join lateral (
    select seq as first_seq from ledger_entries where org_id = head.org_id order by seq limit 1
) as kept on true
join block_orgs as ranges on ranges.org_id = head.org_id and ranges.last_seq >= kept.first_seq
order by ranges.org_id, ranges.first_seq

-- name: too_young
-- Whether the range has an entry that was recorded since.
select exists (
    select from ledger_entries
    where org_id = %(org)s and seq between %(first_seq)s and %(last_seq)s and recorded_at >= %(since)s
)

-- name: awaits_price
-- Whether the range has an entry without a price that no correction has given one.
select exists (
    select from ledger_entries as entry
    where entry.org_id = %(org)s and entry.seq between %(first_seq)s and %(last_seq)s and entry.status = 'unpriced'
        and entry.kind = 'usage'
        and not exists (
            select from ledger_entries as correction
            where correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = entry.seq
        )
)

-- name: awaits_end
-- Whether the range has a hold that nothing has resolved yet: what it has reserved could never go back.
select exists (select from open_holds where org_id = %(org)s and seq between %(first_seq)s and %(last_seq)s)

-- name: blocks
-- These blocks.
select block, path, file_sha256 from blocks where block = any(%(blocks)s) order by block

-- name: forget
-- Let an org's entries up to a sequence go: how many went.
select forget_entries(%(org)s, %(through_seq)s)

-- name: page
-- An org's entries from a sequence on.
select * from ledger_entries where org_id = %(org)s and seq between %(first_seq)s and %(last_seq)s order by seq limit %(limit)s
