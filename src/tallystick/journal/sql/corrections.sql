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
-- The next unpriced, uncorrected entries of one org above a sequence.
select {columns} from ledger_entries as entry
where entry.org_id = %(org)s and entry.seq > %(after)s and entry.status = 'unpriced' and entry.kind = 'usage'
    and not exists (
        select from ledger_entries as correction
        where correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = entry.seq
    )
order by entry.seq
limit %(limit)s
