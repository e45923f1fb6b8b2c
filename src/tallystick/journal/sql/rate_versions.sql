-- Rate-card versions.

-- name: lock
-- One process at a time adds versions; readers are not kept waiting.
select pg_advisory_xact_lock(hashtextextended('tallystick rate_versions', 0))

-- name: list
-- What is known of every version, without the card itself.
select ordinal, version, known_at, loaded_at, sha256, source from rate_versions order by ordinal

-- name: cards
-- The card files, byte for byte, in order.
select card from rate_versions order by ordinal

-- name: add
-- The next version; its ordinal is the order in which this deployment came to know it.
insert into rate_versions (ordinal, version, known_at, loaded_at, sha256, source, card)
select coalesce(max(ordinal), 0) + 1, %(version)s, %(known_at)s, %(loaded_at)s, %(sha256)s, %(source)s, %(card)s
from rate_versions
