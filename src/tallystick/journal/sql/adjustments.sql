-- Adjustments of what was recorded of usage. Their ids stay claimed when their entries leave the database for blocks.

-- name: stored
-- Those of an org that have one of these ids, with their bodies; of one whose entry has left the database, none.
select request_id, seq, body from ledger_entries
where org_id = %(org)s and kind = 'adjustment' and body is not null and kind <> 'denial' and request_id = any(%(ids)s)
union all
select request_id, seq, null from claimed_ids
where org_id = %(org)s and kind = 'adjustment' and request_id = any(%(ids)s)
