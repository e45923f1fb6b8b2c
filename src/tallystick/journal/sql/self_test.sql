-- What would let a session see or change more than it may. Each row: a sentence, and the statement that mends it.
-- The roles' names, the tables that move and those whose rows may go are given (journal/self_test.py). Tables and views are ours when
-- tenants may read them; what an administrator keeps beside them for other uses is no matter.

-- name: powers
-- Attributes that go around every wall. The writer and the operator bypass row-level security by design.
select format('role %%s %%s', rolname, said), format('alter role %%I %%s', rolname, mended)
from pg_roles cross join lateral (values
    (rolsuper, 'is a superuser', 'nosuperuser'),
    (rolbypassrls and rolname = %(app)s::text, 'bypasses row-level security', 'nobypassrls'),
    (rolcreaterole, 'may make roles, and so give itself any', 'nocreaterole'),
    (rolreplication, 'may copy the whole server by replication', 'noreplication'),
    (rolcanlogin and rolname = %(keeper)s::text, 'is not for anybody to log in as', 'nologin')
) as power (has, said, mended)
where (rolname = any(%(roles)s::text[]) or rolname = %(keeper)s::text) and has
order by 1

-- name: memberships
-- Roles that one of ours could become, or acts as, although they see or may do more than it.
select format('role %%s is a member of %%s, %%s', ours.rolname, other.rolname, case
           when other.rolsuper then 'a superuser'
           when other.rolbypassrls then 'which bypasses row-level security'
           when other.rolname = 'pg_write_all_data' then 'which writes to every table'
           when other.rolname like 'pg\_%%' then 'which reaches the server''s files or programs'
           else 'which owns tables' end),
       format('revoke %%I from %%I', other.rolname, ours.rolname)
from pg_roles as ours
join pg_roles as other on other.oid <> ours.oid and pg_has_role(ours.oid, other.oid, 'member')
where ours.rolname = any(%(roles)s::text[]) and not ours.rolsuper and (
    other.rolsuper
    or other.rolbypassrls and (ours.rolname = %(app)s::text or other.rolname = %(keeper)s::text)
    or other.rolname in ('pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
    or exists (select from pg_class where relowner = other.oid and relnamespace = 'public'::regnamespace)
)
order by 1

-- name: owned
-- An owner may switch anything off.
select format('table %%s belongs to role %%s', class.relname, owner.rolname),
       format('alter table %%I owner to %%I', class.relname, current.rolname)
from pg_class as class
join pg_roles as owner on owner.oid = class.relowner
cross join (select rolname from pg_roles join pg_database on datdba = pg_roles.oid where datname = current_database()) as current
where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'v', 'm', 'f') and owner.rolname = any(%(roles)s::text[])
order by 1

-- name: unwalled
-- Tables with an org_id whose rows are not, or not only, shown to their own org.
with walled as (
    select class.oid, class.relname, class.relrowsecurity, class.relforcerowsecurity, class.relkind
    from pg_class as class
    join pg_attribute as attribute on attribute.attrelid = class.oid and attribute.attname = 'org_id' and not attribute.attisdropped
    where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'm', 'f')
        and has_any_column_privilege(%(app)s::text, class.oid, 'SELECT, INSERT, UPDATE')
)
select format('row-level security is off on table %%s', relname), format('alter table %%I enable row level security', relname)
from walled where not relrowsecurity
union all
select format('row-level security is not forced on the owner of table %%s', relname),
       format('alter table %%I force row level security', relname)
from walled where relrowsecurity and not relforcerowsecurity
union all
select format('table %%s lacks the policy own_org', relname), format('create policy own_org on %%I using (%%s)', relname, %(policy)s::text)
from walled where not exists (select from pg_policy where polrelid = walled.oid and polname = 'own_org')
union all
-- Permissive policies are joined by "or": any other one widens what is shown.
select format('policy %%s on table %%s is not the one that shows an org its own rows alone', polname, relname),
       format('drop policy %%I on %%I', polname, relname)
           || case when polname = 'own_org' then format('; create policy own_org on %%I using (%%s)', relname, %(policy)s::text) else '' end
from walled join pg_policy on polrelid = walled.oid
where polpermissive and not (
    polname = 'own_org' and polcmd = '*' and polroles = '{0}' and pg_get_expr(polqual, polrelid) = %(policy)s::text
    and (polwithcheck is null or pg_get_expr(polwithcheck, polrelid) = %(policy)s::text)
)
union all
-- How many documents a seller issues, and whom an incident concerned, is no tenant's business: there are no rows of a tenant's own, and no policy shows any.
select format('table %%s shows tenants rows of all orgs', relname),
       format('alter table %%I enable row level security', relname)
           || coalesce((select string_agg(format('; drop policy %%I on %%I', polname, relname), '' order by polname)
                        from pg_policy where polrelid = class.oid and polpermissive), '')
from pg_class as class
where relnamespace = 'public'::regnamespace and relname in ('number_series', 'incidents', 'promo_codes', 'promo_counts')
    and (not relrowsecurity or exists (select from pg_policy where polrelid = class.oid and polpermissive))
order by 1

-- name: views
-- A view reads with its owner's rights unless told otherwise, and so past the policies.
select format('view %%s reads with its owner''s rights', relname), format('alter view %%I set (security_invoker = true)', relname)
from pg_class
where relnamespace = 'public'::regnamespace and relkind = 'v' and not coalesce(reloptions, '{}') @> '{security_invoker=true}'
    and has_any_column_privilege(%(app)s::text, oid, 'SELECT')
order by 1

-- name: functions
-- Functions that run with their owner's rights: not for tenants nor for the writer, and never with the caller's search path.
select format('role %%s may run %%s, which has its owner''s rights', role.name, proc.oid::regprocedure),
       format('revoke execute on function %%s from public, %%I', proc.oid::regprocedure, role.name)
from pg_proc as proc cross join (values (%(app)s::text), (%(writer)s::text)) as role (name)
where pronamespace = 'public'::regnamespace and prosecdef and has_function_privilege(role.name, proc.oid, 'execute')
union all
select format('function %%s has its owner''s rights and its caller''s search path', oid::regprocedure),
       format('alter function %%s set search_path = pg_catalog, public, pg_temp', oid::regprocedure)
from pg_proc
where pronamespace = 'public'::regnamespace and prosecdef
    and not exists (select from unnest(proconfig) as setting where setting like 'search\_path=%%')
order by 1

-- name: schema
-- Who may make objects in our schema could put one in the place of ours.
select format('role %%s may create in schema public', rolname), format('revoke create on schema public from public, %%I', rolname)
from pg_roles
where rolname = any(%(roles)s::text[]) and has_schema_privilege(oid, 'public', 'create')
order by 1

-- name: rights
-- Rights to change or remove what only ever is appended. Heads, balances and accounts move, by the writer's hand.
select format('role %%s may %%s table %%s', role.rolname, lower(privilege), class.relname),
       format('revoke %%s on %%I from public, %%I', privilege, class.relname, role.rolname)
from pg_class as class
cross join pg_roles as role
cross join unnest('{UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) as privilege
where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p') and role.rolname = any(%(roles)s::text[])
    and (has_table_privilege(role.oid, class.oid, privilege)
         or privilege = 'UPDATE' and has_any_column_privilege(role.oid, class.oid, privilege))
    and not (privilege = 'UPDATE' and role.rolname = %(writer)s::text and class.relname = any(%(moving)s::text[]))
    and not (privilege = 'DELETE' and role.rolname = %(writer)s::text and class.relname = any(%(removed)s::text[]))
order by 1

-- name: guards
-- Tables that lack a trigger which always refuses to change or remove rows, for their owner too. In tgtype, 2 is
-- "before", 8 is delete, 16 is update, 32 is truncate.
select format('nothing refuses to %%s rows of table %%s', what, relname),
       coalesce(
           (select format('alter table %%I enable always trigger %%I', relname, tgname) from pg_trigger
            where tgrelid = class.oid and tgtype & 2 > 0 and tgtype & bit > 0 and tgenabled <> 'A' and not tgisinternal
            order by tgname limit 1),
           format('create trigger refuses_%%s before %%s on %%I for each statement execute function refuse_change(); '
               'alter table %%I enable always trigger refuses_%%s', what, what, relname, relname, what))
from pg_class as class
cross join (values ('delete', 8), ('update', 16), ('truncate', 32)) as change (what, bit)
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname <> 'alembic_version'
    and has_any_column_privilege(%(app)s::text, class.oid, 'SELECT')
    and not (what = 'update' and relname = any(%(moving)s::text[])) and relname <> all(%(passing)s::text[])
    and not exists (
        select from pg_trigger where tgrelid = class.oid and tgtype & 2 > 0 and tgtype & bit > 0 and tgenabled = 'A' and tgqual is null
    )
order by 1

-- name: missing_rights
-- Each of our roles but the queue's reads every table, as far as the policies let it. Ours are those that the migrations guard.
select format('role %%s may not read table %%s', role.rolname, class.relname),
       format('grant select on %%I to %%I', class.relname, role.rolname)
from pg_class as class cross join pg_roles as role
where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p') and class.relname <> 'alembic_version'
    and role.rolname = any(%(readers)s::text[]) and not has_table_privilege(role.oid, class.oid, 'SELECT')
    and (
        class.relname = any(%(passing)s::text[])
        or exists (select from pg_trigger where tgrelid = class.oid and tgname in ('append_only', 'stays'))
    )
order by 1

-- name: tables_of_orgs
-- Every table with an org_id that this session may read, quoted, and whether it is under its policies.
select quote_ident(relname), row_security_active(class.oid)
from pg_class as class join pg_attribute as attribute on attrelid = class.oid
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and attname = 'org_id' and not attisdropped
    and has_any_column_privilege(class.oid, 'SELECT')
order by 1
