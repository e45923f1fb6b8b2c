-- Keys, what ended them, and whom they stand for; see migrations/0005_keys.sql.

-- name: add
-- A new key.
insert into api_keys (key_id, org_id, token_sha256, scopes, defaults, person_sha256, expires_at, replaces, author, created_at)
values (%(key_id)s, %(org_id)s, %(token_sha256)s, %(scopes)s, %(defaults)s, %(person_sha256)s, %(expires_at)s, %(replaces)s,
    %(author)s, %(created_at)s)

-- name: add_person
-- Whom a new key stands for.
insert into api_key_persons (key_id, org_id, user_id, session_id, salt)
values (%(key_id)s, %(org_id)s, %(user_id)s, %(session_id)s, %(salt)s)

-- name: end
-- An ending of a key; the same instant again changes nothing.
insert into api_key_endings (key_id, org_id, ends_at, reason, author, recorded_at)
values (%(key_id)s, %(org_id)s, %(ends_at)s, %(reason)s, %(author)s, %(recorded_at)s)
on conflict do nothing

-- name: lock
-- One process at a time ends a key or gives it a successor.
select pg_advisory_xact_lock(hashtextextended('tallystick key ' || %(key_id)s, 0))

-- name: lock_persons
-- One process at a time erases a person of an org, or hands one on to a key that takes the place of another.
select pg_advisory_xact_lock(hashtextextended('tallystick key persons ' || %(org_id)s, 0))

-- name: found
-- Keys: that of a token, that of an id, those of an org, or all; the oldest first. Each with its first ending, whether one
-- holds whatever the clock says, and whom it stands for.
select key.key_id, key.org_id, key.scopes, key.defaults, key.expires_at, ending.ends_at, ending.reason, ending.is_ended,
    person.user_id, person.session_id, key.replaces, key.author, key.created_at
from api_keys as key
cross join lateral (
    select min(ends_at) as ends_at, (array_agg(reason order by ends_at))[1] as reason,
        coalesce(bool_or(ends_at <= recorded_at), false) as is_ended
    from api_key_endings where key_id = key.key_id
) as ending
left join api_key_persons as person on person.key_id = key.key_id
where (%(token_sha256)s::bytea is null or key.token_sha256 = %(token_sha256)s)
    and (%(key_id)s::text is null or key.key_id = %(key_id)s)
    and (%(org_id)s::text is null or key.org_id = %(org_id)s)
order by key.created_at, key.key_id

-- name: erase_person
-- Erase a person from the keys that stand for them; how many they were.
select erase_person_of_keys(%(org)s, %(person)s, %(at)s)

-- name: listen
-- Be told of whatever happens to keys from now on.
listen tallystick_keys
