-- Erasing a person; see migrations/0002_sealing.sql.

-- name: erase_person
-- Erase what the database holds of a person in an org's entries: how many entries those were.
select erase_person(%(org)s, %(person)s)

-- name: record_erasures
-- Record the erasure of entries that are only in blocks: how many were new.
select record_erasures(%(org)s, %(seqs)s::bigint[])

-- name: erased
-- Which of an org's entries of that range were erased.
select seq from erasures where org_id = %(org)s and seq between %(first_seq)s and %(last_seq)s order by seq
