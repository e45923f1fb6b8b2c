-- Sealing: blocks of entries on disk, the signed log of them, and the only two ways in which a row may change or leave.

create table blocks (
    block         bigint primary key check (block > 0),
    path          text not null unique,
    entries       bigint not null check (entries > 0),
    bytes         bigint not null,
    time_min      timestamptz not null,
    time_max      timestamptz not null,
    file_sha256   bytea not null check (length(file_sha256) = 32),
    merkle_root   bytea not null check (length(merkle_root) = 32),
    orgs_root     bytea not null check (length(orgs_root) = 32),
    statement     text not null,
    sealed_at     timestamptz not null
);
comment on table blocks is
    'Sealed runs of entries, each a Parquet file. statement is the canonical JSON that the signed log has as its leaf at place block.';

create table block_orgs (
    org_id    text collate "C" not null,
    block     bigint not null references blocks,
    first_seq bigint not null check (first_seq > 0),
    last_seq  bigint not null check (last_seq >= first_seq),
    root      bytea not null check (length(root) = 32),
    frontier  bytea not null check (length(frontier) % 32 = 0),
    primary key (org_id, last_seq),
    unique (org_id, first_seq),
    unique (block, org_id)
);
comment on table block_orgs is
    'Which entries of each org a block holds, the root of the org''s tree at size last_seq, and its full subtrees, from which it grows.';

create table signing_keys (
    key_id     text primary key,
    name       text not null,
    public_key bytea not null check (length(public_key) = 32),
    added_at   timestamptz not null
);
comment on table signing_keys is 'The public halves of the keys that checkpoints are signed with.';

create table checkpoints (
    size      bigint primary key check (size > 0),
    note      text not null,
    signed_at timestamptz not null
);
comment on table checkpoints is 'Signed notes over the log of the first size blocks, each naming the one before it.';

create table erasures (
    org_id    text collate "C" not null,
    seq       bigint not null,
    erased_at timestamptz not null,
    primary key (org_id, seq)
);
comment on table erasures is 'Entries whose personal data was erased on request: who it was is not kept.';

do $$
declare
    name text;
begin
    foreach name in array array['blocks', 'block_orgs', 'signing_keys', 'checkpoints', 'erasures'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    foreach name in array array['block_orgs', 'erasures'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;

grant select on blocks, block_orgs, signing_keys, checkpoints, erasures
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on blocks, block_orgs, signing_keys, checkpoints to tallystick_operator;

-- ── the two ways in which a row of the ledger may change or leave ───────────────────────────────────────────────────
-- Both are functions of tallystick_keeper, which nobody logs in as. The triggers hold for every role, owners included:
-- for one that takes the keeper's place they still allow nothing but what those functions do.

alter table org_heads add column forgotten_until timestamptz not null default '2000-01-01T00:00:00Z';
comment on column org_heads.forgotten_until is
    'Later than the time of every entry that has left the database: an event of before it that is not stored here may be one of those, and is refused.';

drop trigger append_only on ledger_entries;

create function refuse_ledger_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' or current_user <> 'tallystick_keeper' then
        raise exception '% is append-only: % is refused', tg_table_name, lower(tg_op)
            using errcode = 'restrict_violation',
                hint = 'append an offsetting entry instead; erase_person() erases personal data, forget_entries() what is sealed';
    end if;
    return null;
end
$$;

create function only_erase() returns trigger language plpgsql as $$
declare
    erased ledger_entries := old;
begin
    erased.user_id := null;
    erased.session_id := null;
    erased.attributes := null;
    erased.salt := null;
    if new *<> erased then  -- image by image: equal values that are written differently are a change
        raise exception 'an entry is never changed: only user_id, session_id, attributes and salt can be erased, all four at once'
            using errcode = 'restrict_violation', hint = 'append an offsetting entry instead';
    end if;
    if not exists (select from public.erasures where org_id = old.org_id and seq = old.seq) then
        raise exception 'entry % of % is erased without a record in erasures', old.seq, old.org_id
            using errcode = 'restrict_violation', hint = 'erase through erase_person()';
    end if;
    return new;
end
$$;

create function only_forget_sealed() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select org_id, seq, recorded_at into wrong from gone where recorded_at >= now() - interval '45 days' limit 1;
    if found then
        raise exception 'entry % of % was recorded at %, less than 45 days ago', wrong.seq, wrong.org_id, wrong.recorded_at
            using errcode = 'restrict_violation', hint = 'repeated events must be known as such for at least 45 days';
    end if;
    select g.org_id, g.seq into wrong from gone as g
    where not exists (
        select from public.block_orgs as b where b.org_id = g.org_id and g.seq between b.first_seq and b.last_seq
    ) limit 1;
    if found then
        raise exception 'entry % of % is not in any sealed block', wrong.seq, wrong.org_id
            using errcode = 'restrict_violation', hint = 'seal it first';
    end if;
    select org_id, max(seq) as seq into wrong from gone as g group by org_id
    having exists (select from public.ledger_entries as kept where kept.org_id = g.org_id and kept.seq < max(g.seq)) limit 1;
    if found then
        raise exception 'entries before % of % would stay: what leaves is the beginning of a sequence', wrong.seq, wrong.org_id
            using errcode = 'restrict_violation', hint = 'forget from the first entry on';
    end if;
    return null;
end
$$;

create trigger append_only before update or delete or truncate on ledger_entries
    for each statement execute function refuse_ledger_change();
create trigger only_erase before update on ledger_entries for each row execute function only_erase();
create trigger only_forget_sealed after delete on ledger_entries referencing old table as gone
    for each statement execute function only_forget_sealed();
alter table ledger_entries enable always trigger append_only;
alter table ledger_entries enable always trigger only_erase;
alter table ledger_entries enable always trigger only_forget_sealed;

-- Blocks follow one another, and so do the ranges of each org in them: no gap, no overlap, nothing that is not written yet.
create function only_next_block() returns trigger language plpgsql as $$
begin
    if new.block <> coalesce((select max(block) from public.blocks), 0) + 1 then
        raise exception 'block % does not follow the last one', new.block using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;

create function only_next_range() returns trigger language plpgsql as $$
declare
    last bigint := coalesce((select max(last_seq) from public.block_orgs where org_id = new.org_id), 0);
    head bigint := coalesce((select last_seq from public.org_heads where org_id = new.org_id), 0);
begin
    if new.first_seq <> last + 1 or new.last_seq > head then
        raise exception 'entries % to % of % do not continue what is sealed up to %, or are not written: the head is at %',
            new.first_seq, new.last_seq, new.org_id, last, head using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;

create trigger only_next before insert on blocks for each row execute function only_next_block();
create trigger only_next before insert on block_orgs for each row execute function only_next_range();
alter table blocks enable always trigger only_next;
alter table block_orgs enable always trigger only_next;

create function erase_person(org text, person text) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    seqs bigint[];
begin
    perform from org_heads where org_id = org for update;  -- writers of the org wait: what they count, they count without the person
    seqs := array(select seq from ledger_entries where org_id = org and user_id = person);
    insert into erasures (org_id, seq, erased_at) select org, seq, now() from unnest(seqs) as found (seq)
        on conflict do nothing;
    update ledger_entries set user_id = null, session_id = null, attributes = null, salt = null
        where org_id = org and seq = any (seqs);
    delete from counters where org_id = org
        and regexp_replace(counter, '^(minute|hour|day|week|month):', '') in ('cost:user:' || person, 'charge:user:' || person);
    return cardinality(seqs);
end
$$;
comment on function erase_person is
    'Erase what the database holds of a person in an org''s entries and counters, and record which entries those were: their count.';

create function record_erasures(org text, seqs bigint[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    recorded bigint;
begin
    -- An entry that is still here is erased here; of the others only what a block holds can be erased anywhere.
    insert into erasures (org_id, seq, erased_at)
    select org, found.seq, now() from unnest(seqs) as found (seq)
    where exists (select from block_orgs where org_id = org and found.seq between first_seq and last_seq)
        and not exists (select from ledger_entries where org_id = org and ledger_entries.seq = found.seq)
    on conflict do nothing;
    get diagnostics recorded = row_count;
    return recorded;
end
$$;
comment on function record_erasures is
    'Record that the personal data of entries which have left the database is erased from their blocks'' side files.';

create function forget_entries(org text, through_seq bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    forgotten bigint;
begin
    perform from org_heads where org_id = org for update;  -- writers of the org wait: they see all of it, or none
    update org_heads set forgotten_until = greatest(forgotten_until, last.time_max + interval '1 microsecond')
        from ledger_entries as last
        where org_heads.org_id = org and last.org_id = org and last.seq = through_seq;
    -- What somebody has said is said once, however much later it is sent again: its id stays claimed. And what was refunded
    -- of a charge stays known, so that no more of it goes back than was charged.
    insert into claimed_ids (org_id, kind, request_id, seq, settlement_seq, refunded_pico)
        select org_id, kind, request_id, seq, case when kind = 'refund' then refers_to_seq end, case when kind = 'refund' then (
            select coalesce(sum((lot ->> 'amount_pico')::numeric), 0) from jsonb_array_elements(body::jsonb #> '{result,returned}') as lot
        ) + coalesce((body::jsonb #>> '{result,receivable_pico}')::numeric, 0) end
        from ledger_entries
        where org_id = org and seq <= through_seq and body is not null
            and kind not in ('hold', 'denial', 'settlement', 'release', 'expiry');  -- known by their hold, or by nothing
    delete from settled_usage where org_id = org and seq <= through_seq;
    delete from ledger_entries where org_id = org and seq <= through_seq;
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;
comment on function forget_entries is
    'Let an org''s entries up to a sequence leave the database: sealed ones, recorded more than 45 days ago. Their count.';

grant update (user_id, session_id, attributes, salt), delete on ledger_entries to tallystick_keeper;
grant update (forgotten_until) on org_heads to tallystick_keeper;
grant insert on erasures to tallystick_keeper;

do $$
declare
    made text;
begin
    grant create on schema public to tallystick_keeper;  -- only an owner that may create here can be given a function
    foreach made in array array['erase_person(text, text)', 'record_erasures(text, bigint[])', 'forget_entries(text, bigint)'] loop
        execute format('alter function %s owner to tallystick_keeper', made);
        execute format('revoke all on function %s from public', made);
        execute format('grant execute on function %s to tallystick_operator', made);
    end loop;
    revoke create on schema public from tallystick_keeper;
end
$$;
