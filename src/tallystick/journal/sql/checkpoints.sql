-- Signed checkpoints, and the public halves of the keys that sign them.

-- name: lock_keys
-- One process at a time makes or adds a key; the lock is gone with the transaction.
select pg_advisory_xact_lock(hashtextextended('tallystick signing keys', 0))

-- name: keys
select name, public_key from signing_keys order by added_at, key_id

-- name: add_key
insert into signing_keys (key_id, name, public_key, added_at) values (%(key_id)s, %(name)s, %(public_key)s, %(at)s)
on conflict do nothing

-- name: latest
select size, note, signed_at from checkpoints order by size desc limit 1

-- name: of_size
select size, note, signed_at from checkpoints where size = %(size)s

-- name: covering
-- The first checkpoint that covers a block: the earlier it was signed, the more copies of it are about.
select size, note, signed_at from checkpoints where size >= %(size)s order by size limit 1
