-- Keys: who may call, for which org, for what. Of a key's token only the SHA-256 is kept. A key is never changed: what
-- ends it is a row of its own, and the earliest ending counts.

create table api_keys (
    key_id        text collate "C" primary key,
    org_id        text collate "C",
    token_sha256  bytea not null unique check (length(token_sha256) = 32),
    scopes        text[] not null check (cardinality(scopes) > 0),
    defaults      text not null,
    person_sha256 bytea check (length(person_sha256) = 32),
    expires_at    timestamptz,
    replaces      text collate "C" references api_keys,
    author        text not null,
    created_at    timestamptz not null,
    check (org_id is not null or not scopes && '{gateway,tools}'),
    check (org_id is null or not scopes && '{admin}')
);
create index api_keys_of_org on api_keys (org_id, created_at);
comment on table api_keys is
    'Keys that callers show. org_id null: an operator''s. key_id is key_ and the public part of the token. defaults: tags of calls that name none, as JSON. person_sha256: of who stands in api_key_persons.';

create table api_key_endings (
    key_id      text collate "C" not null references api_keys,
    org_id      text collate "C",
    ends_at     timestamptz not null,
    reason      text not null,
    author      text not null,
    recorded_at timestamptz not null,
    primary key (key_id, ends_at, reason)
);
comment on table api_key_endings is 'From when on a key is no longer taken, and why: revocation, rotation, erasure of whom it was made for.';

create table api_key_persons (
    key_id     text collate "C" primary key references api_keys,
    org_id     text collate "C",
    user_id    text,
    session_id text,
    salt       bytea not null check (length(salt) = 16)
);
comment on table api_key_persons is
    'For whom calls with a key are recorded that name nobody: personal, and erased with the person; the key then ends.';

create trigger append_only before update or delete or truncate on api_keys for each statement execute function refuse_change();
create trigger append_only before update or delete or truncate on api_key_endings for each statement execute function refuse_change();
create trigger registered after insert on api_keys referencing new table as added for each statement execute function register_rows();
create trigger registered after insert on api_key_endings referencing new table as added for each statement execute function register_rows();

create function refuse_all_but_erasing() returns trigger language plpgsql as $$
begin
    if tg_op <> 'DELETE' or current_user <> 'tallystick_keeper' then
        raise exception '% is append-only: % is refused', tg_table_name, lower(tg_op)
            using errcode = 'restrict_violation', hint = 'erase_person_of_keys() erases personal data';
    end if;
    return null;
end
$$;
create trigger append_only before update or delete or truncate on api_key_persons
    for each statement execute function refuse_all_but_erasing();

create function only_erase_of_ended() returns trigger language plpgsql as $$
begin
    if not exists (select from public.api_key_endings where key_id = old.key_id and reason = 'person_erased') then
        raise exception 'the person of key % is erased without the end of the key', old.key_id
            using errcode = 'restrict_violation', hint = 'erase through erase_person_of_keys()';
    end if;
    return old;
end
$$;
create trigger only_erase before delete on api_key_persons for each row execute function only_erase_of_ended();

-- Processes that hold keys in memory listen: what happens to a key reaches them as it is committed.
create function tell_of_keys() returns trigger language plpgsql as $$
begin
    perform pg_notify('tallystick_keys', '');
    return null;
end
$$;

do $$
declare
    name text;
begin
    foreach name in array array['api_keys', 'api_key_endings', 'api_key_persons'] loop
        execute format('alter table %I enable always trigger append_only', name);
        execute format('create trigger told after insert or delete on %I for each statement execute function tell_of_keys()', name);
        execute format('alter table %I enable always trigger told', name);
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;
alter table api_keys enable always trigger registered;
alter table api_key_endings enable always trigger registered;
alter table api_key_persons enable always trigger only_erase;

create function erase_person_of_keys(org text, person text, at timestamptz) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    erased bigint;
begin
    insert into api_key_endings (key_id, org_id, ends_at, reason, author, recorded_at)
    select key_id, org_id, at, 'person_erased', 'tallystick', at
    from api_key_persons where org_id = org and user_id = person
    on conflict do nothing;
    delete from api_key_persons where org_id = org and user_id = person;
    get diagnostics erased = row_count;
    return erased;
end
$$;
comment on function erase_person_of_keys is 'Erase a person from the keys that stand for them, which end: how many they were.';

grant select on api_keys, api_key_endings, api_key_persons
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on api_keys, api_key_endings, api_key_persons to tallystick_operator;
grant insert on api_key_endings to tallystick_keeper;
grant delete on api_key_persons to tallystick_keeper;

do $$
begin
    grant create on schema public to tallystick_keeper;  -- only an owner that may create here can be given a function
    alter function erase_person_of_keys(text, text, timestamptz) owner to tallystick_keeper;
    revoke all on function erase_person_of_keys(text, text, timestamptz) from public;
    grant execute on function erase_person_of_keys(text, text, timestamptz) to tallystick_operator;
    revoke create on schema public from tallystick_keeper;
end
$$;
