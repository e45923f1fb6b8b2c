-- What a proof of an invoice is made of, besides the entries themselves.

-- name: sealed_range
-- The first block that holds the org's tree at this size or larger.
select block, last_seq from block_orgs where org_id = %(org)s and last_seq >= %(seq)s order by last_seq limit 1

-- name: frontier
-- The largest tree that was sealed and is no larger than this.
select last_seq, frontier from block_orgs where org_id = %(org)s and last_seq <= %(seq)s order by last_seq desc limit 1

-- name: orgs_of_block
select org_id, first_seq, last_seq, root from block_orgs where block = %(block)s order by org_id

-- name: statements
select statement from blocks where block <= %(size)s order by block

-- name: checkpoint_sizes
select size from checkpoints where size < %(size)s order by size
