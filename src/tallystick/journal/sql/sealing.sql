-- Sealing: which entries are not sealed yet, and the record of blocks and checkpoints.

-- name: try_to_seal
-- One process at a time seals; the lock goes with the transaction.
select pg_try_advisory_xact_lock(%(key)s)

-- name: wait_to_seal
-- The same, waiting for it.
select pg_advisory_xact_lock(%(key)s)

-- name: lock
-- One process at a time changes files in the blocks folder: a sealer, an eraser, or one that checks what it lets go.
select pg_advisory_xact_lock(%(key)s)

-- name: patience
-- Reading and writing a large block takes its time: no server's setting ends the transaction that holds the lock.
set local idle_in_transaction_session_timeout = 0; set local statement_timeout = 0; set local lock_timeout = 0

-- name: unsealed
-- Each org with entries that no block holds: the first and the last of them, in the order of orgs.
select head.org_id, coalesce(sealed.last_seq, 0) + 1 as first_seq, head.last_seq
from org_heads as head
left join lateral (
    select last_seq from block_orgs where org_id = head.org_id order by last_seq desc limit 1
) as sealed on true
where head.last_seq > coalesce(sealed.last_seq, 0)
order by head.org_id

-- name: oldest
-- When the oldest of these entries was recorded.
select min(entry.recorded_at)
from unnest(%(orgs)s::text[], %(seqs)s::bigint[]) as wanted (org_id, seq)
join lateral (
    select recorded_at from ledger_entries where org_id = wanted.org_id and seq = wanted.seq
) as entry on true

-- name: frontiers
-- Of each org the size of its tree and its full subtrees, as of its last block.
select wanted.org_id, sealed.last_seq, sealed.frontier
from unnest(%(orgs)s::text[]) as wanted (org_id)
join lateral (
    select last_seq, frontier from block_orgs where org_id = wanted.org_id order by last_seq desc limit 1
) as sealed on true

-- name: last_block
-- The number of the last block, 0 when there is none.
select coalesce(max(block), 0) from blocks

-- name: add_block
-- Record a block.
insert into blocks
    (block, path, entries, bytes, time_min, time_max, file_sha256, merkle_root, orgs_root, statement, sealed_at)
values
    (%(block)s, %(path)s, %(entries)s, %(file_bytes)s, %(time_min)s, %(time_max)s, %(file_sha256)s, %(merkle_root)s,
     %(orgs_root)s, %(statement)s, %(sealed_at)s)

-- name: add_block_orgs
-- Record what it holds of each org.
insert into block_orgs (org_id, block, first_seq, last_seq, root, frontier)
select org_id, %(block)s, first_seq, last_seq, root, frontier
from unnest(%(orgs)s::text[], %(first_seqs)s::bigint[], %(last_seqs)s::bigint[], %(roots)s::bytea[],
            %(frontiers)s::bytea[]) as one (org_id, first_seq, last_seq, root, frontier)

-- name: blocks
-- Blocks above a number, in their order.
select block, path, entries, bytes, time_min, time_max, file_sha256, merkle_root, orgs_root, statement, sealed_at
from blocks where block > %(after)s order by block limit %(limit)s

-- name: blocks_of_org
-- The blocks that hold entries first_seq to last_seq of an org, and which of its entries each holds.
select blocks.block, blocks.path, blocks.file_sha256, ranges.first_seq, ranges.last_seq
from block_orgs as ranges join blocks using (block)
where ranges.org_id = %(org)s and ranges.last_seq >= %(first_seq)s and ranges.first_seq <= %(last_seq)s
order by ranges.first_seq

-- name: orgs_of_block
-- What a block holds of each org.
select org_id, first_seq, last_seq, root from block_orgs where block = %(block)s order by org_id

-- name: statements
-- The block statements of the log above a number, in their order.
select statement from blocks where block > %(after)s order by block

-- name: checkpoints
-- The checkpoints of these sizes.
select size, note from checkpoints where size = any(%(sizes)s) order by size

-- name: checkpoint_sizes
-- Which checkpoints there are.
select size from checkpoints

-- name: add_checkpoint
-- Record a signed checkpoint.
insert into checkpoints (size, note, signed_at) values (%(size)s, %(note)s, %(signed_at)s)
