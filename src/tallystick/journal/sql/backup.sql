-- Reading all tables for a backup, and filling them again. Tables are ours when they belong to who owns the migrations'
-- own table and the operator may read them; what an administrator keeps beside them is not.

-- name: snapshot
-- One moment for as long as it takes to read everything.
set transaction isolation level repeatable read, read only; set local idle_in_transaction_session_timeout = 0

-- name: forms
-- What rows look like as text, whatever the server, the database or the login have been set to: it is summed up.
set local bytea_output = 'hex'; set local intervalstyle = 'postgres'; set local extra_float_digits = 1;
set local array_nulls = on; set local xmloption = 'content'; set local statement_timeout = 0; set local lock_timeout = 0

-- name: tables
-- Our tables with their columns in order, as far as they are stored and not computed, and what each refers to.
select namespace.nspname, class.relname,
       (select array_agg(attname::text order by attnum) from pg_attribute
        where attrelid = class.oid and attnum > 0 and not attisdropped and attgenerated = ''),
       (select coalesce(array_agg(distinct confrelid::bigint) filter (where confrelid <> class.oid), '{}') from pg_constraint
        where conrelid = class.oid and contype = 'f'),
       class.oid::bigint
from pg_class as class join pg_namespace as namespace on namespace.oid = class.relnamespace
where class.relkind in ('r', 'p') and not class.relispartition
    and (nspname = 'public' and relname <> 'alembic_version' or nspname = 'tallystick_jobs' and relname = 'job_runs')
    and class.relowner = (select relowner from pg_class where oid = 'public.alembic_version'::regclass)
    and has_table_privilege('tallystick_operator', class.oid, 'SELECT')
order by 1, 2

-- name: size
-- About how many bytes our tables have on disk.
select sum(pg_table_size(oid)) from unnest(%(tables)s::bigint[]) as given (oid)

-- name: ledger
-- What the ledger holds: orgs, entries, blocks, the newest checkpoint, the register and its chain, the newest entry's time.
select (select count(*) from org_heads), (select coalesce(sum(last_seq), 0)::bigint from org_heads),
       (select count(*) from blocks), (select coalesce(max(size), 0) from checkpoints),
       (select coalesce(max(n), 0) from register), (select encode(chain, 'hex') from register order by n desc limit 1),
       (select count(*) from erasures)

-- name: notes
select size, note from checkpoints order by size

-- name: erasures
-- Entries whose personal data was erased: which, when, and never whose.
select org_id, seq, erased_at from erasures where erased_at >= %(since)s order by org_id, seq

-- name: erased_keys
-- Keys whose person was erased.
select org_id, key_id, recorded_at from api_key_endings where reason = 'person_erased' and recorded_at >= %(since)s order by 1, 2

-- name: erased_profiles
-- Versions of billing profiles that were erased.
select org_id, version, erased_at from billing_profile_erasures where erased_at >= %(since)s order by 1, 2

-- name: persons_of_keys
-- Whom these keys of an org still stand for.
select distinct user_id from api_key_persons where org_id = %(org)s and key_id = any(%(keys)s::text[]) and user_id is not null order by 1

-- name: persons
-- Who these entries of an org still name.
select distinct user_id from ledger_entries where org_id = %(org)s and seq = any(%(seqs)s::bigint[]) and user_id is not null order by 1

-- name: occupied
-- Whether anything of ours, or of anybody's, is in this database's schemas already.
select exists (select from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f'))
    or to_regnamespace('tallystick_jobs') is not null, to_regnamespace('tallystick_restore') is not null

-- name: mark
-- A place that is being filled says so: see journal/migrate.py.
create schema tallystick_restore

-- name: unmark
drop schema tallystick_restore

-- name: triggers
select tgname, tgenabled::text from pg_trigger where tgrelid = %(table)s and not tgisinternal order by tgname

-- name: walls
select relforcerowsecurity from pg_class where oid = %(table)s

-- name: indexes
-- Indexes that no constraint is made of, and how they are made: filled at once, they are quicker than row by row.
select index.indexrelid::regclass::text, pg_get_indexdef(index.indexrelid) from pg_index as index
where indrelid = %(table)s and not exists (select from pg_constraint where conindid = index.indexrelid) order by 1

-- name: sequences
-- Columns whose numbers a sequence gives.
select attname, pg_get_serial_sequence(attrelid::regclass::text, attname) from pg_attribute
where attrelid = %(table)s and attnum > 0 and not attisdropped and pg_get_serial_sequence(attrelid::regclass::text, attname) is not null
