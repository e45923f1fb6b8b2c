-- What an operator asks of a database server: its settings, its clock, how full it is.

-- name: settings
select name, setting from pg_settings where name = any(%(names)s::text[]) order by 1

-- name: clock
select clock_timestamp()

-- name: connections
-- Connections that are in use, and those that there may be for logins without privileges.
select (select count(*) from pg_stat_activity where backend_type = 'client backend'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int

-- name: waiting
-- The longest transaction that does nothing: what it has read keeps old rows from being removed.
select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::bigint from pg_stat_activity
where state like 'idle in transaction%%' and datname = current_database()

-- name: size
select pg_database_size(current_database())
