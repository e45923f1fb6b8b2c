-- The register: a chained hash of every row that is kept apart from the ledger's own hashes.
--
-- Entries have leaves, and blocks statements. What prices and bills them is rows like any other: that one was changed or
-- taken away from outside would leave no trace. So the database itself, as it inserts one, adds its hash to a chain.

create table register (
    n          bigint primary key check (n > 0),
    relation   text collate "C" not null,
    row_sha256 bytea not null check (length(row_sha256) = 32),
    chain      bytea not null check (length(chain) = 32)
);
comment on table register is
    'One row for each row of the tables that have no leaves. row_sha256 is over the table''s name, a line feed and the row as jsonb; chain is SHA-256 over the chain before it (32 zero bytes at first) and row_sha256.';

create trigger append_only before update or delete or truncate on register for each statement execute function refuse_change();
alter table register enable always trigger append_only;

create function register_rows() returns trigger language plpgsql security definer
    set search_path = pg_catalog, public, pg_temp set timezone = 'UTC' set bytea_output = 'hex' as $$
declare
    one record;
    place bigint;
    link bytea;
begin
    if not exists (select from added) then
        return null;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('tallystick register', 0));
    select n, chain into place, link from public.register order by n desc limit 1;
    place := coalesce(place, 0);
    link := coalesce(link, decode(repeat('00', 32), 'hex'));
    for one in select sha256(convert_to(tg_table_name || E'\n' || to_jsonb(added)::text, 'UTF8')) as digest from added loop
        place := place + 1;
        link := sha256(link || one.digest);
        insert into public.register (n, relation, row_sha256, chain) values (place, tg_table_name, one.digest, link);
    end loop;
    return null;
end
$$;

do $$
declare
    name text;
begin
    foreach name in array array['rate_versions', 'contract_versions', 'subscriptions', 'invoices', 'signing_keys', 'checkpoints', 'erasures'] loop
        execute format('create trigger registered after insert on %I referencing new table as added for each statement execute function register_rows()', name);
        execute format('alter table %I enable always trigger registered', name);
    end loop;
    grant create on schema public to tallystick_keeper;  -- only an owner that may create here can be given a function
    alter function register_rows() owner to tallystick_keeper;
    revoke all on function register_rows() from public;
    revoke create on schema public from tallystick_keeper;
end
$$;

-- It speaks of all orgs: no policy lets one org's transactions see anything of it.
alter table register enable row level security;
alter table register force row level security;
grant select on register to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on register to tallystick_keeper;
