-- Reading what was recorded in a time, of one org after the other, without changing anything.

-- name: orgs
-- Orgs that have entries, some at a time.
select org_id from org_heads where org_id > %(after)s and last_seq > 0 order by org_id limit %(limit)s

-- name: operations
-- The org's operations of these kinds in the span, in ascending sequence. Operations carry the
-- instant at which they were recorded, so that none of them is ever late.
select seq, kind, time, refers_to_seq, body from ledger_entries
where org_id = %(org)s and seq >= %(first_seq)s and seq <= %(through_seq)s and time < %(end)s and body is not null
    and kind = any(%(kinds)s)
order by seq

-- name: operation_entries
-- The org's operations before before_seq, whole, in ascending sequence.
select * from ledger_entries
where org_id = %(org)s and seq < %(before_seq)s and body is not null
order by seq

-- name: has_budgets
-- In the words of the index of operations, which has it at once.
select exists (
    select from ledger_entries where org_id = %(org)s and kind = 'budget' and body is not null and kind <> 'denial'
)
