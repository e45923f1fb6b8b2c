-- Reading an org's ledger in the order in which it was written.

-- name: requests_after
-- The org's requests with seq above the cursor.
select * from ledger_entries
where org_id = %(org)s and seq > %(after)s and kind <> 'correction' and body is null
order by seq
limit %(limit)s

-- name: corrections_of
-- The corrections that refer to these entries, in their order.
select * from ledger_entries
where org_id = %(org)s and kind = 'correction' and refers_to_seq = any(%(seqs)s)
order by refers_to_seq

-- name: knows_org
-- Whether the org has an event or a subscription.
select exists (select from org_heads where org_id = %(org)s)
    or exists (select from subscriptions where org_id = %(org)s)
